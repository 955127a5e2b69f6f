"""What images look like, in a few numbers: soft targets compare images by them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ImageComponents(nn.Module):
    """The main principal components of image features, half-whitened, as unit vectors.

    Full whitening would make the last component as important as the first, none would let the
    first, which is brightness, decide alone. Each component is divided by the square root of its
    standard deviation.

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
        """Find the components of features, of the training images."""
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
        """Unit vectors; the inner product of two says how alike the images are."""
        return F.normalize((features - self.mean) @ self.axes, dim=-1)
