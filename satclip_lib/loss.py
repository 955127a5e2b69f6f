"""The symmetric contrastive loss of CLIP, over images and locations."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def contrastive_loss(
    image_embeddings: Float[Tensor, "batch embed_dim"],
    location_embeddings: Float[Tensor, "batch embed_dim"],
    *,
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    r"""Mean of the image-to-location and location-to-image cross-entropies.

    With unit vectors :math:`u_i, v_j` and logits :math:`s_{ij} = e^{t} \langle u_i, v_j\rangle`,

    .. math::
        \mathcal{L} = -\frac{1}{2N} \sum_i \left[
            \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}} + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}
        \right].

    Args:
        image_embeddings: ``(batch, embed_dim)``, any length; normalised here.
        location_embeddings: row i belongs to image i; normalised here.
        logit_scale: the learned log of the inverse temperature, :math:`t`.

    Returns:
        Scalar; ``log(batch)`` for embeddings that tell nothing.

    Raises:
        ValueError: if the two batches differ in shape or are empty.

    References:
        Radford et al. (2021), arXiv 2103.00020, figure 3; Klemmer et al. (2023), eq. 1.
    """
    if image_embeddings.shape != location_embeddings.shape or len(image_embeddings) == 0:
        raise ValueError(
            "image_embeddings and location_embeddings must be two non-empty batches of one shape, "
            f"got {tuple(image_embeddings.shape)} and {tuple(location_embeddings.shape)}"
        )
    images = F.normalize(image_embeddings, dim=-1)
    locations = F.normalize(location_embeddings, dim=-1)
    logits_per_image = logit_scale.exp() * images @ locations.T  # (batch, batch)
    matches = logits_per_image.diagonal()
    to_locations = logits_per_image.logsumexp(dim=1) - matches
    to_images = logits_per_image.logsumexp(dim=0) - matches
    return (to_locations.mean() + to_images.mean()) / 2
