"""Random convolutional features: an image encoder that needs no weights."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from satclip_lib.image_encoder.base import ImageEncoder, freeze

NUM_FITTING_PATCHES = 50_000  # small squares that are drawn to estimate the whitening
WHITENING_FLOOR = 1e-2  # added to the variances, in units of their mean
ACTIVATION_THRESHOLD = 0.5  # of a response, whose variance is about one
MAX_RESPONSES = 2**20  # responses of the random filters held at once, 4 MB, which a cache holds


class RandomConvolutionalFeatures(ImageEncoder):
    """How strongly an image responds to small patches taken from other images.

    Each filter is a small patch of a training image, whitened (so that it responds to texture and
    colour rather than to brightness alone) and scaled to unit length. Its response r, of variance
    about one, gives two features, the spatial means of ReLU(r - 0.5) and ReLU(-r - 0.5). The mean
    and standard deviation of each band follow; all are standardised over the fitting images.

    The bands may be those of several scales: the patch itself first, then the same bands of its
    surroundings, averaged to fewer pixels. Each scale then has filters of its own, which see its
    bands alone and are whitened by them alone.

    Order of the features: ``num_random_features / 2`` positive parts, one scale after the other;
    as many negative parts in the same order; band means; band standard deviations. Hence
    ``num_features`` is ``num_random_features + 2 * num_bands``.

    Build it with :meth:`fit`. The constructor only sets sizes, for a state dict to be loaded.

    Args:
        num_bands: Number of bands per image, over all scales.
        num_random_features: Number of features of filters over all scales, two per filter.
        kernel_size: Height and width of the filters in pixels.
        num_scales: Number of scales of the bands; each has ``num_bands / num_scales`` bands.

    Raises:
        ValueError: If a size is not positive, or features or bands cannot be shared out evenly.

    References:
        Rolf et al. (2021), A generalizable and accessible approach to machine learning with
        global satellite imagery (MOSAIKS), doi:10.1038/s41467-021-24638-z; Coates & Ng (2012),
        Learning feature representations with k-means, doi:10.1007/978-3-642-35289-8_30.
    """

    def __init__(
        self,
        num_bands: int = 3,
        *,
        num_random_features: int = 512,
        kernel_size: int = 3,
        num_scales: int = 1,
    ):
        super().__init__()
        sizes = (num_bands, num_random_features, kernel_size, num_scales)
        if min(sizes) < 1 or num_random_features % (2 * num_scales) or num_bands % num_scales:
            raise ValueError(
                "num_bands, num_random_features, kernel_size and num_scales must be positive, "
                "num_random_features even for each scale and num_bands a multiple of num_scales, "
                f"got {', '.join(map(str, sizes))}"
            )
        self.num_bands = num_bands
        self.num_scales = num_scales
        self.num_features = num_random_features + 2 * num_bands
        self.config = {
            "name": "rcf",
            "num_bands": num_bands,
            "num_random_features": num_random_features,
            "kernel_size": kernel_size,
            "num_scales": num_scales,
        }
        num_filters = num_random_features // 2
        shape = (num_filters, num_bands // num_scales, kernel_size, kernel_size)
        self.register_buffer("weight", torch.zeros(shape))
        self.register_buffer("bias", torch.zeros(num_filters))
        self.register_buffer("feature_mean", torch.zeros(self.num_features))
        self.register_buffer("feature_std", torch.ones(self.num_features))
        self.register_buffer("is_fitted", torch.tensor(False))

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        images: Float[Tensor, "batch bands height width"],
        *,
        num_random_features: int = 512,
        kernel_size: int = 3,
        num_scales: int = 1,
        seed: int = 0,
    ) -> "RandomConvolutionalFeatures":
        """Take filters from images, and the mean and spread of the features over them.

        Args:
            images: Images with finite values of order one; a few thousand of the training split
                are enough.
            num_random_features: Number of features of filters over all scales, two per filter.
            kernel_size: Height and width of the filters in pixels.
            num_scales: Number of scales of the bands, see the class.
            seed: Random seed for drawing the patches; the same seed and images give the same
                encoder.

        Returns:
            A fitted, frozen encoder on the device of ``images``.

        Raises:
            ValueError: If there are no images, or they are not finite floating point numbers or
                smaller than ``kernel_size``.
        """
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(
                "images must have shape (batch, bands, height, width) with at least one image, "
                f"got {tuple(images.shape)}"
            )
        encoder = cls(
            images.shape[1],
            num_random_features=num_random_features,
            kernel_size=kernel_size,
            num_scales=num_scales,
        ).to(images.device)
        encoder.check_images(images)
        if not images.isfinite().all():
            raise ValueError("images must be finite, but some pixels are NaN or inf; drop them")

        of_scales = zip(
            images.chunk(num_scales, dim=1),  # views (batch, bands / scales, height, width)
            encoder.weight.chunk(num_scales),
            encoder.bias.chunk(num_scales),
            strict=True,
        )
        for part, weight, bias in of_scales:
            filters, offset = _fit_filters(part, len(weight), kernel_size, seed=seed)
            weight.copy_(filters.reshape(weight.shape))  # (filters, bands, k, k)
            bias.copy_(offset)
        encoder.is_fitted.fill_(True)
        features = encoder(images).double()
        std = features.std(dim=0, correction=0)
        encoder.feature_mean.copy_(features.mean(dim=0))
        encoder.feature_std.copy_(torch.where(std > 1e-6, std, 1.0))  # constants become 0
        return freeze(encoder)

    def compute_features(self, images: Tensor) -> Tensor:
        """See :meth:`ImageEncoder.forward`.

        Raises:
            RuntimeError: Before the encoder is fitted or its state dict loaded.
        """
        if not self.is_fitted:
            raise RuntimeError(
                "these random convolutional features have no filters yet: make them with "
                "RandomConvolutionalFeatures.fit(images), or load a state dict"
            )
        responses_per_image = len(self.weight) * images.shape[2] * images.shape[3]
        chunks = images.split(max(1, MAX_RESPONSES // responses_per_image))
        features = torch.cat([self._compute_raw_features(chunk) for chunk in chunks])
        return (features - self.feature_mean) / self.feature_std

    def check_images(self, images: Tensor) -> None:
        """Also refuse images smaller than a filter."""
        super().check_images(images)
        kernel_size = self.weight.shape[-1]
        if min(images.shape[2:]) < kernel_size:
            raise ValueError(
                f"images must be at least kernel_size = {kernel_size} pixels high and wide, got "
                f"{images.shape[2]} x {images.shape[3]}; pass larger images or fit with a "
                "smaller kernel_size"
            )

    def _compute_raw_features(self, images: Tensor) -> Tensor:
        positive, negative = self._compute_mean_responses(images)
        band_means = images.mean(dim=(2, 3), keepdim=True)  # (batch, bands, 1, 1)
        deviations = (images - band_means).square().mean(dim=(2, 3)).sqrt()
        return torch.cat([positive, negative, band_means.flatten(1), deviations], dim=1)

    def _compute_mean_responses(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Spatial means of both parts of the responses, each ``(batch, filters)``.

        Large images are gone through in strips of rows, whose responses stay in the cache.
        """
        margin = self.weight.shape[-1] - 1
        num_rows = images.shape[2] - margin
        per_row = len(images) * len(self.weight) * (images.shape[3] - margin)
        step = max(1, MAX_RESPONSES // max(1, per_row))
        positive = negative = 0.0
        for top in range(0, num_rows, step):
            strip = images[:, :, top : top + step + margin]
            # (batch, filters, h', w'): the filters of a scale see the bands of that scale
            responses = F.conv2d(strip, self.weight, self.bias, groups=self.num_scales)
            share = responses.shape[2] / num_rows
            positive = positive + share * F.relu(responses - ACTIVATION_THRESHOLD).mean(dim=(2, 3))
            negative = negative + share * F.relu(-responses - ACTIVATION_THRESHOLD).mean(dim=(2, 3))
        return positive, negative


def _fit_filters(
    images: Tensor, num_filters: int, kernel_size: int, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights, ``(filters, bands * k * k)``, and biases, float64."""
    patches = _draw_patches(images, kernel_size, seed=seed)
    mean_patch = patches.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov(patches.T, correction=0))
    floor = WHITENING_FLOOR * variances.mean().clamp_min(1e-12)
    whitening = axes / (variances.clamp_min(0) + floor).sqrt() @ axes.T  # symmetric: ZCA
    filters = F.normalize((patches[:num_filters] - mean_patch) @ whitening)
    weight = filters @ whitening  # whitening an image patch is left to the filter
    return weight, -weight @ mean_patch


def _draw_patches(images: Tensor, kernel_size: int, *, seed: int) -> Tensor:
    """Random squares of random images, ``(patches, bands * kernel_size**2)``, float64."""
    generator = torch.Generator().manual_seed(seed)
    num_images, num_bands, height, width = images.shape
    ends = (num_images, height - kernel_size + 1, width - kernel_size + 1)
    index, row, column = (
        torch.randint(end, (NUM_FITTING_PATCHES, 1, 1, 1), generator=generator).to(images.device)
        for end in ends
    )
    band = torch.arange(num_bands, device=images.device).reshape(1, -1, 1, 1)  # (1, bands, 1, 1)
    offset = torch.arange(kernel_size, device=images.device)
    patches = images[index, band, row + offset.reshape(-1, 1), column + offset]
    return patches.flatten(1).double()  # (patches, bands, k, k) -> (patches, bands * k * k)
