"""The symmetric contrastive loss of CLIP, over images and locations."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SoftTargets:
    r"""Lets images that look alike share their locations, instead of pushing them apart.

    The target of pair i is no longer pair i alone but :math:`(1 - \alpha) I + \alpha S` with
    :math:`S_{ij} = e^{\langle p_i, p_j\rangle / \tau} / \sum_k e^{\langle p_i, p_k\rangle / \tau}`
    over the batch, so that another patch of the same desert does not count as a wrong answer.

    Attributes:
        components: Unit vectors :math:`p` that describe the images, ``(batch, num_components)``.
        weight: Share :math:`\alpha` of the images' similarity in the target; 0 uses the pairs only.
        temperature: Temperature :math:`\tau`. With a lower one only very similar images share.
    """

    components: Float[Tensor, "batch num_components"]
    weight: float
    temperature: float


def contrastive_loss(
    image_embeddings: Float[Tensor, "batch embed_dim"],
    location_embeddings: Float[Tensor, "batch embed_dim"],
    *,
    logit_scale: Float[Tensor, ""],
    soft_targets: SoftTargets | None = None,
) -> Float[Tensor, ""]:
    r"""Mean of the image-to-location and location-to-image cross-entropies.

    With unit vectors :math:`u_i, v_j` and logits :math:`s_{ij} = e^{t} \langle u_i, v_j\rangle`,

    .. math::
        \mathcal{L} = -\frac{1}{2N} \sum_i \left[
            \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}} + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}
        \right].

    This is the definition. Training uses :mod:`satclip_lib.fast.tiled_loss`, which gives the same
    numbers faster, in bounded memory and over several processes.

    Args:
        image_embeddings: Image embeddings, ``(batch, embed_dim)``; normalised to unit length here.
        location_embeddings: The same for locations; row i belongs to image i.
        logit_scale: Learned logarithm of the inverse temperature, :math:`t`.
        soft_targets: Soft targets; None takes the pairs as the only targets.

    Returns:
        Scalar; ``log(batch)`` if all logits are equal.

    Raises:
        ValueError: If the two batches differ in shape or are empty.

    References:
        Radford et al. (2021), arXiv 2103.00020, figure 3; Klemmer et al. (2023), eq. 1.
    """
    check_embeddings(image_embeddings, location_embeddings)
    images = F.normalize(image_embeddings, dim=-1)
    locations = F.normalize(location_embeddings, dim=-1)
    logits_per_image = logit_scale.exp() * images @ locations.T  # (batch, batch)
    targets = torch.eye(len(images), dtype=images.dtype, device=images.device)
    if soft_targets is not None:
        components = soft_targets.components.to(images.dtype)
        similarity = components @ components.T / soft_targets.temperature  # (batch, batch)
        alike = similarity.softmax(dim=1)
        targets = (1 - soft_targets.weight) * targets + soft_targets.weight * alike
    to_locations = F.cross_entropy(logits_per_image, targets)
    to_images = F.cross_entropy(logits_per_image.T, targets)
    return (to_locations + to_images) / 2


def check_embeddings(image_embeddings: Tensor, location_embeddings: Tensor) -> None:
    """Raise ValueError unless these are two non-empty batches of the same shape."""
    if image_embeddings.shape != location_embeddings.shape or len(image_embeddings) == 0:
        raise ValueError(
            "image_embeddings and location_embeddings must be two non-empty batches of one shape, "
            f"got {tuple(image_embeddings.shape)} and {tuple(location_embeddings.shape)}"
        )
