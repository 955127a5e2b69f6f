"""What the images at a place show: a map of image components that travels in the checkpoint.

A location encoder has to extrapolate to regions without training images. Often images of such a
region exist, and only its labels are missing. So the checkpoint keeps what the images show, and
:func:`~satclip_lib.embedding.embed.embed` with ``retrieval=True`` puts three more groups of numbers
before the embedding: the latitude, what the place and its surroundings look like, and the position
of the place, at a finer scale than the encoder resolves.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int8, Int16, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from satclip_lib.checkpoints.download import CheckpointError, check_is_file, find_beside
from satclip_lib.checkpoints.store import RETRIEVAL_NAME
from satclip_lib.fast.siren import ROWS_AT_ONCE
from satclip_lib.files import write_atomically
from satclip_lib.sphere import lonlat_to_unit_vectors

CELLS_PER_DEG = 4  # of the map
MAP_SHAPE = (180 * CELLS_PER_DEG + 1, 360 * CELLS_PER_DEG)  # rows from pole to pole, columns
AROUND = 2  # nodes in each direction, which with the node itself are its surroundings
STEPS_PER_STD = 12.0  # of the int8 map: few, so that it packs well
LARGEST = 4.0  # standard deviations on the map
NUM_ZONAL = 4  # zonal harmonics, of degrees 1 to 4
NUM_NEIGHBORS = 4  # training places that a node is the mean of, where it has no image of its own
NEAREST = 1e-3  # of the Earth's radius; within 6 km a training place weighs no more
REACH = 100 / 6371  # of the same, 100 km from a training place; nodes further off have no image
PLACES_AT_ONCE = 4096  # whose images are in memory
BORDER_ROWS = 64  # places that are compared with all nodes of the border at once
INPUTS_PER_GROUP = 2  # of the latitude and of the components, in each random feature
BANDWIDTH = 0.6  # of the Gaussian kernels, as their inverse length, on standardised inputs
LOCAL_DEG = (0.3, 10.0)  # lengths of the kernels of distance, shortest and longest
MAX_BYTES = 2**26

FeaturesAt = Callable[
    [Float64[np.ndarray, "num_places 2"]], Float[np.ndarray, "num_places num_image_features"]
]


class Retrieval(nn.Module):
    r"""Three groups of numbers for each place: its latitude, the images around it, its position.

    ``zonal``: the Legendre polynomials of degrees 1 to 4 in the sine of the latitude, which are the
    zonal harmonics up to a factor. They depend on the latitude alone, so they mean the same on
    every continent.

    ``retrieved``: random Fourier features :math:`\cos(Wx + b)` of two sums of Gaussian kernels, the
    first two thirds of one and the rest of the other. Here x holds the latitude and the image
    components: those of the surroundings in the first sum, those of the place itself in the second.
    Places with similar x have similar numbers, wherever they are. Each row of W has four entries
    that are not zero, for two zonal numbers and two image components: a place on an unseen
    continent is often like known ones in a few respects, and rarely in all. All numbers lie
    between -1 and 1.

    The components are interpolated on a map with a node every quarter of a degree. A node has the
    components of the image at its own place. If the imagery covers the training places alone, it
    has the mean of the 4 nearest training images, weighted by the inverse square of their
    distance. The surroundings are the mean of 5 by 5 nodes, 1.25 degrees. Nodes further than 100 km
    from any training image have none. A place among them, as on a small island, has the components
    of the nearest node with an image.

    ``local``: random Fourier features of another sum of Gaussian kernels, of the distance between
    two places. Their lengths are from 0.3 to 10 degrees, uniform in the logarithm. The encoder
    itself resolves nothing finer than its damped harmonics do, some 30 degrees.

    Build it with :meth:`fit`. The constructor only sets sizes, for a state dict to be loaded.

    Args:
        num_components: Number of image components on the map.
        num_features: Number of random Fourier features of what images show.
        num_local: Number of random Fourier features of the position.

    References:
        Rahimi & Recht (2007), Random features for large-scale kernel machines; Duvenaud et al.
        (2011), Additive Gaussian processes, arXiv 1112.4394; Dhakal et al. (2025), RANGE: Retrieval
        Augmented Neural Fields for Multi-Resolution Geo-Embeddings, arXiv 2502.19781, for the idea
        of retrieval.
    """

    components: Int8[Tensor, "rows columns channels"]  # the last: 1 where there is an image
    sums: Int16[Tensor, "half_rows half_columns channels"]  # of the surroundings
    border: Float64[Tensor, "num_border 2"]  # nodes with an image beside those without
    weight: Float[Tensor, "num_features inputs"]
    bias: Float[Tensor, " num_features"]
    zonal_mean: Float[Tensor, " zonal"]
    zonal_std: Float[Tensor, " zonal"]
    local_weight: Float[Tensor, "num_local 3"]
    local_bias: Float[Tensor, " num_local"]

    def __init__(self, num_components: int = 16, num_features: int = 768, num_local: int = 128):
        super().__init__()
        inputs = NUM_ZONAL + 2 * num_components
        shape = (*MAP_SHAPE, num_components + 1)
        self.register_buffer("components", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer(
            "sums", torch.zeros(1, 1, num_components + 1, dtype=torch.int16), persistent=False
        )
        self.register_buffer("border", torch.zeros(1, 2, dtype=torch.float64), persistent=False)
        self.register_buffer("weight", torch.zeros(num_features, inputs))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("zonal_mean", torch.zeros(NUM_ZONAL))
        self.register_buffer("zonal_std", torch.ones(NUM_ZONAL))
        self.register_buffer("local_weight", torch.zeros(num_local, 3))
        self.register_buffer("local_bias", torch.zeros(num_local))

    @classmethod
    def fit(
        cls,
        lonlat: Float[np.ndarray, "num_images 2"],
        features: Float[np.ndarray, "num_images num_image_features"],
        *,
        features_at: FeaturesAt | None = None,
        num_components: int = 16,
        num_features: int = 768,
        num_local: int = 128,
        seed: int = 0,
    ) -> "Retrieval":
        """Make the map out of images; needs SciPy.

        Args:
            lonlat: Places of the training images, degrees.
            features: Features of the training images, computed by the frozen image encoder.
            features_at: Function from places to the features of images there, see
                :func:`satclip_lib.data.features.make_features_at`. None makes each node the mean
                of the nearest training images.
            num_components: Number of principal components of the training images' features to
                keep; all of them where the features are fewer.
            num_features: Number of random Fourier features of what images show.
            num_local: Number of random Fourier features of the position.
            seed: Random seed for drawing all random Fourier features.
        """
        from scipy.spatial import cKDTree  # here, for a plain installation has no SciPy

        num_components = min(num_components, features.shape[1])
        model = cls(num_components, num_features, num_local)
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features.astype(np.float64) - mean
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
        kept = slice(-1, -1 - num_components, -1)
        axes = axes[:, kept] / np.sqrt(np.maximum(variances[kept], 1e-12 * variances[-1]))

        tree = cKDTree(lonlat_to_unit_vectors(lonlat.astype(np.float64)))
        latitude = np.linspace(90, -90, MAP_SHAPE[0])
        longitude = np.arange(MAP_SHAPE[1]) / CELLS_PER_DEG - 180
        nodes = np.stack(np.meshgrid(longitude, latitude), axis=-1).reshape(-1, 2)
        unit = lonlat_to_unit_vectors(nodes)
        near = np.isfinite(tree.query(unit, distance_upper_bound=REACH)[0])
        if features_at is None:
            count = min(NUM_NEIGHBORS, len(lonlat))
            distance, rows = tree.query(unit[near], k=[*range(1, count + 1)])
            weight = (distance + NEAREST) ** -2.0
            weight /= weight.sum(axis=1, keepdims=True)
            found = np.einsum("nk,nkc->nc", weight, (centred @ axes)[rows])
        else:
            batches = np.array_split(nodes[near], 1 + near.sum() // PLACES_AT_ONCE)
            found = np.concatenate([(features_at(batch) - mean) @ axes for batch in batches])
        steps = np.zeros((len(nodes), num_components + 1), np.int8)
        steps[near, :-1] = np.round(STEPS_PER_STD * np.clip(found, -LARGEST, LARGEST))
        steps[near, -1] = 1
        model.components.copy_(torch.from_numpy(steps).reshape(model.components.shape))
        model.prepare()

        zonal = _compute_zonal(torch.from_numpy(lonlat[:, 1].astype(np.float64)))
        model.zonal_mean.copy_(zonal.mean(dim=0))
        model.zonal_std.copy_(zonal.std(dim=0, correction=0))
        generator = torch.Generator().manual_seed(seed)
        count = num_features * 2 // 3
        weight = _draw_sparse(num_features, (NUM_ZONAL, num_components), generator)
        weight = BANDWIDTH * torch.cat([weight, torch.zeros(num_features, num_components)], dim=1)
        weight[count:, NUM_ZONAL:] = weight[count:, NUM_ZONAL:].roll(num_components, dims=1)
        model.weight.copy_(weight)
        model.bias.uniform_(0, 2 * torch.pi, generator=generator)
        shortest, longest = np.log(np.radians(LOCAL_DEG))
        length = torch.empty(num_local, 1).uniform_(shortest, longest, generator=generator).exp_()
        model.local_weight.normal_(generator=generator).div_(length)
        model.local_bias.uniform_(0, 2 * torch.pi, generator=generator)
        return model.eval()

    @property
    def groups(self) -> dict[str, int]:
        """Names of the groups and how many numbers each has, in their order."""
        return {"zonal": NUM_ZONAL, "retrieved": len(self.bias), "local": len(self.local_bias)}

    @property
    def num_features(self) -> int:
        """How many numbers all groups have together."""
        return sum(self.groups.values())

    def forward(self, lonlat: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch features"]:
        """All groups side by side, ``(batch, self.num_features)``, for locations in degrees."""
        zonal = _compute_zonal(lonlat[:, 1].double()).to(self.bias.dtype)
        x = torch.cat(
            [(zonal - self.zonal_mean) / self.zonal_std, self.look_up(lonlat)], dim=1
        )  # (batch, inputs)
        retrieved = (x @ self.weight.T + self.bias).cos_()
        position = _to_unit_vectors(lonlat.double()).to(x.dtype)
        local = (position @ self.local_weight.T + self.local_bias).cos_()
        return torch.cat([zonal, retrieved, local], dim=1)

    def put_before(
        self,
        lonlat: Float64[np.ndarray, "num_points 2"],
        embeddings: Float[np.ndarray, "num_points embed_dim"],
    ) -> Float[np.ndarray, "num_points features"]:
        """The groups, then the embeddings scaled to length one: so all numbers are bounded."""
        batches = torch.from_numpy(np.ascontiguousarray(lonlat)).split(ROWS_AT_ONCE)
        shape = (len(lonlat), self.num_features + embeddings.shape[1])
        values = np.empty(shape, np.float32)
        with torch.inference_mode():
            for number, batch in enumerate(batches):
                rows = slice(number * ROWS_AT_ONCE, number * ROWS_AT_ONCE + len(batch))
                values[rows, : self.num_features] = self(batch).numpy()
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        values[:, self.num_features :] = embeddings / np.maximum(length, np.finfo(np.float32).tiny)
        return values

    def split(
        self, values: Float[np.ndarray, "num_points features"]
    ) -> dict[str, Float[np.ndarray, "num_points _"]]:
        """Cut what :meth:`put_before` returns into its groups and the "embedding", by name."""
        ends = np.cumsum([*self.groups.values()])
        parts = np.split(values, ends, axis=1)
        return dict(zip([*self.groups, "embedding"], parts, strict=True))

    def look_up(self, lonlat: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch components"]:
        """Components of the surroundings, then of the places, in standard deviations."""
        lonlat = lonlat.double()
        far = ~self.has_image(lonlat)
        if far.any():
            lonlat = lonlat.clone()
            lonlat[far] = self.find_nearest(lonlat[far])
        found = [_interpolate(nodes, lonlat) for nodes in (self.sums, self.components)]
        return torch.cat([x[:, :-1] / x[:, -1:] for x in found], dim=1).div_(STEPS_PER_STD)

    def has_image(self, lonlat: Float64[Tensor, "batch 2"]) -> Bool[Tensor, " batch"]:
        """Whether a node beside the place has an image."""
        return _interpolate(self.components[..., -1:], lonlat)[:, 0] > 0

    def find_nearest(self, lonlat: Float64[Tensor, "batch 2"]) -> Float64[Tensor, "batch 2"]:
        """The nearest nodes with an image to places that are not between such nodes."""
        border = _to_unit_vectors(self.border).T.contiguous()  # (3, border)
        rows = [
            (_to_unit_vectors(part) @ border).argmax(dim=1) for part in lonlat.split(BORDER_ROWS)
        ]
        return self.border[torch.cat(rows)]

    def prepare(self) -> None:
        """Make what the map's file leaves out: sums of the surroundings, and the border.

        A sum is over 5 x 5 nodes around every other node.
        """
        pad = (AROUND, AROUND)
        nodes = np.pad(self.components.numpy(), (pad, pad, (0, 0)), mode="wrap").astype(np.int16)
        nodes[:AROUND], nodes[-AROUND:] = nodes[AROUND], nodes[-1 - AROUND]  # beyond the poles
        near = nodes[AROUND - 1 : 1 - AROUND, AROUND - 1 : 1 - AROUND, -1]  # one more on each side
        inner = near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
        rows, columns = np.nonzero(near[1:-1, 1:-1] > inner)
        border = np.stack([columns / CELLS_PER_DEG - 180, 90 - rows / CELLS_PER_DEG], axis=1)
        self.border = torch.from_numpy(border)
        num_rows, num_columns, _ = self.components.shape
        steps = range(2 * AROUND + 1)
        nodes = reduce(np.add, (nodes[step : step + num_rows : 2] for step in steps))
        nodes = reduce(np.add, (nodes[:, step : step + num_columns : 2] for step in steps))
        self.sums = torch.from_numpy(nodes)


def save_retrieval(folder: Path | str, retrieval: Retrieval) -> Path:
    """Write the map into the folder of a checkpoint, without the nodes that have no image."""
    path = Path(folder) / RETRIEVAL_NAME
    tensors = retrieval.state_dict()
    has_image = tensors["components"][..., -1] > 0
    tensors["components"] = tensors["components"][has_image][:, :-1].contiguous()
    tensors["has_image"] = torch.from_numpy(np.packbits(has_image.numpy()))  # a bit for each node
    with write_atomically(path) as scratch:
        save_file(tensors, scratch)
    return path


def load_retrieval(model: Any) -> Retrieval:
    """Load the map of a checkpoint.

    Args:
        model: What :func:`~satclip_lib.checkpoints.download.find_checkpoint` takes; anything else
            has no map.

    Raises:
        ValueError: If the model has none.
        CheckpointError: If the map is damaged.
    """
    path = find_beside(model, RETRIEVAL_NAME) if isinstance(model, str | Path) else None
    if path is None:
        raise ValueError(
            f"this model has no {RETRIEVAL_NAME}, which retrieval needs: pass the folder of a "
            "checkpoint that was trained here, or 'blue-marble-l40'"
        )
    try:
        check_is_file(path)
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        tensors = load_file(path)
        if set(tensors) != {"has_image", *Retrieval(1, 1, 1).state_dict()}:
            raise ValueError(f"it holds {', '.join(sorted(tensors))}")
        tensors["components"] = _unpack(tensors["components"], tensors.pop("has_image"))
        retrieval = Retrieval(
            tensors["components"].shape[-1] - 1, len(tensors["bias"]), len(tensors["local_bias"])
        )
        for name, wanted in retrieval.state_dict().items():
            found = tensors[name]
            if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
                raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)}")
            if found.is_floating_point() and not found.isfinite().all():
                raise ValueError(f"{name} holds NaN or inf")
        retrieval.load_state_dict(tensors)
        retrieval.prepare()
    except Exception as error:  # those of safetensors are of many kinds
        raise CheckpointError(f"cannot read {path} ({error}): fetch or train it again") from error
    return retrieval.eval()


def _unpack(found: Tensor, has_image: Tensor) -> Int8[Tensor, "rows columns channels"]:
    """All nodes of the map, from the nodes with an image, which a file keeps."""
    bits = np.unpackbits(has_image.numpy(), count=MAP_SHAPE[0] * MAP_SHAPE[1])
    nodes = torch.from_numpy(bits.reshape(MAP_SHAPE)).bool()
    if found.dtype != torch.int8 or found.ndim != 2 or len(found) != nodes.sum():
        raise ValueError(
            f"components is {found.dtype} {tuple(found.shape)} for {int(nodes.sum())} nodes"
        )
    components = torch.zeros(*MAP_SHAPE, found.shape[1] + 1, dtype=torch.int8)
    components[nodes] = torch.nn.functional.pad(found, (0, 1), value=1)
    return components


def _interpolate(
    nodes: Shaped[Tensor, "rows columns channels"], lonlat: Float[Tensor, "batch 2"]
) -> Float[Tensor, "batch channels"]:
    """Bilinear means of the nodes: components times weights; last, weights, 1 with all images."""
    num_rows, num_columns, _ = nodes.shape
    y = (90 - lonlat[:, 1].double()) * (num_rows - 1) / 180
    x = (lonlat[:, 0].double() + 180) * num_columns / 360
    top, left = y.floor().clamp(0, num_rows - 2).long(), x.floor().long()
    down, right = (y - top).float()[:, None], (x - left).float()[:, None]
    left, beside = left % num_columns, (left + 1) % num_columns
    north = torch.lerp(nodes[top, left].float(), nodes[top, beside].float(), right)
    south = torch.lerp(nodes[top + 1, left].float(), nodes[top + 1, beside].float(), right)
    return torch.lerp(north, south, down)


def _draw_sparse(num_rows: int, sizes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Rows that are standard normal at two inputs of each group, and zero at the others.

    Within a group every input is drawn about as often as any other.
    """
    groups = []
    for size in sizes:
        count = min(INPUTS_PER_GROUP, size)
        num_draws = -(-num_rows // (size // count))
        order = [torch.randperm(size, generator=generator) for _ in range(num_draws)]
        chosen = torch.cat([row[: size // count * count] for row in order]).view(-1, count)
        values = torch.randn(num_rows, count, generator=generator)
        groups.append(torch.zeros(num_rows, size).scatter_(1, chosen[:num_rows], values))
    return torch.cat(groups, dim=1)


def _to_unit_vectors(lonlat: Float64[Tensor, "batch 2"]) -> Float64[Tensor, "batch 3"]:
    lon, lat = torch.deg2rad(lonlat).unbind(dim=1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)


def _compute_zonal(latitude_deg: Float[Tensor, " batch"]) -> Float[Tensor, "batch zonal"]:
    """Legendre polynomials of degrees 1 to 4 in the sine of the latitude, each at most 1."""
    sine = torch.sin(torch.deg2rad(latitude_deg))
    square = sine.square()
    second, third = (3 * square - 1) / 2, (5 * square - 3) * sine / 2
    fourth = ((35 * square - 30) * square + 3) / 8
    return torch.stack([sine, second, third, fourth], dim=1)
