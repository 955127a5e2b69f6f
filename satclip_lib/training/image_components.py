"""Principal components of image features, for soft targets; the order of an embedding."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from satclip_lib.model import SatCLIP


class ImageComponents(nn.Module):
    """The main principal components of image features, half-whitened, as unit vectors.

    With full whitening the last component would count as much as the first; without whitening the
    first, which is brightness, would dominate. Each component is therefore divided by the square
    root of its standard deviation.

    Build it with :meth:`fit`. The constructor only sets sizes, for a state dict to be loaded.

    Args:
        num_features: Number of features of the image encoder.
        num_components: Number of components, at most as many as features.
    """

    def __init__(self, num_features: int, num_components: int):
        super().__init__()
        if not 1 <= num_components <= num_features:
            raise ValueError(
                f"num_components must be from 1 to the {num_features} features that there are, "
                f"got {num_components}"
            )
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("axes", torch.zeros(num_features, num_components))

    @classmethod
    def fit(
        cls, features: Float[Tensor, "num_images num_features"], *, num_components: int
    ) -> "ImageComponents":
        """Compute the components from the features of the training images."""
        components = cls(features.shape[1], num_components)
        features = features.double()
        mean = features.mean(dim=0)
        variances, axes = torch.linalg.eigh(torch.cov(features.T, correction=0))  # ascending
        kept = slice(len(variances) - num_components, None)
        floor = 1e-12 * variances[-1]
        components.mean.copy_(mean)
        components.axes.copy_(axes[:, kept] * variances[kept].clamp_min(floor) ** -0.25)
        return components

    def forward(
        self, features: Float[Tensor, "batch num_features"]
    ) -> Float[Tensor, "batch num_components"]:
        """Unit vectors; the inner product of two is the similarity of the images."""
        return F.normalize((features - self.mean) @ self.axes, dim=-1)


@torch.no_grad()
def order_dimensions(model: SatCLIP, features: Float[Tensor, "num_images num_features"]) -> None:
    """Rotate both towers onto the principal axes of the image embeddings, the largest first.

    The axes are those of the normalised embeddings, whose mean is not subtracted. Both last layers
    are rotated alike, so that every inner product stays the same.

    Args:
        model: Model that is changed in place.
        features: Features of the training images.
    """
    embeddings = F.normalize(model.image_projection(features), dim=-1).double()
    axes = torch.linalg.eigh(embeddings.T @ embeddings).eigenvectors.flip(1)  # largest first
    peaks = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * peaks.sign()  # an axis has no sign of its own: its largest number is positive
    for layer in (model.image_projection, model.location_encoder.network.last_layer):
        layer.weight.copy_(axes.T @ layer.weight.double())
        layer.bias.copy_(axes.T @ layer.bias.double())
