"""The base class of image encoders."""

from itertools import chain
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """Base class of image encoders: it checks the input and keeps a frozen encoder in eval mode.

    Subclasses set the attributes and implement ``compute_features``.

    Attributes:
        num_bands: Number of bands an image must have.
        num_features: Number of values per image.
        config: JSON-ready arguments of :func:`make_image_encoder`, ``name`` among them.
        size_px: Height and width that images must have; None if any size is accepted.
        is_frozen: Whether ``train()`` leaves the encoder in eval mode, see :func:`freeze`.
    """

    num_bands: int
    num_features: int
    config: dict[str, Any]
    size_px: int | None = None
    is_frozen: bool = False

    def forward(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch num_features"]:
        """Compute the features of images.

        Args:
            images: Images with the bands in the order of training and values of order one (not
                0..255 or 0..10000).

        Returns:
            ``(batch, num_features)``, in the dtype of the weights.

        Raises:
            ValueError: If images have the wrong shape, number of bands or dtype.
        """
        self.check_images(images)
        weight = next(chain(self.parameters(), self.buffers()))
        return self.compute_features(images.to(weight.dtype))

    def compute_features(self, images: Tensor) -> Tensor:
        """Map checked ``(batch, bands, height, width)`` to ``(batch, num_features)``."""
        raise NotImplementedError

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError unless these are floating point images this encoder can take."""
        size = ("height", "width") if self.size_px is None else (self.size_px, self.size_px)
        if images.ndim != 4 or images.shape[1] != self.num_bands:
            raise ValueError(
                f"images must have shape (batch, {self.num_bands}, {size[0]}, {size[1]}), "
                f"got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(
                f"images must be floating point with values of order one, got {images.dtype}; "
                "divide 8-bit pictures by 255 and Sentinel-2 digital numbers by 10000"
            )
        if self.size_px is not None and tuple(images.shape[2:]) != size:
            raise ValueError(
                f"images must be {size[0]} x {size[1]} pixels, got "
                f"{images.shape[2]} x {images.shape[3]}; crop or resize images"
            )

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Set train or eval mode; a frozen encoder stays in eval mode."""
        return super().train(mode and not self.is_frozen)


def freeze(encoder: ImageEncoder) -> ImageEncoder:
    """Keep an encoder in eval mode and without gradients, also when its parent trains.

    Returns:
        The same encoder.
    """
    encoder.is_frozen = True
    return encoder.eval().requires_grad_(False)
