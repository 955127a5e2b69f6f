"""The contrastive loss for large batches: tile by tile, on one process or many.

Embeddings are unit vectors, so no logit exceeds the scale. One matrix of exponentials,
:math:`E_{ij} = e^{s_{ij}}`, therefore serves both softmaxes and the gradient without the usual
search for the largest logit: its row sums are the denominators of one, its column sums those of
the other. It is computed in tiles that are large enough for fast matrix products. On a CPU,
elementwise operations go through a tile in pieces that stay in the cache from one to the next.

Larger scales than ``LARGEST_SCALE`` could overflow float32. The logarithms of both sums are then
computed with the largest logit of each row and column subtracted, and the backward pass makes two
matrices of exponentials. This is slower, but right for any scale.
"""

import threading
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from satclip_lib.loss import SoftTargets, check_embeddings

TILE_ROWS, TILE_ELEMENTS = 1024, 2**23  # at most, of a tile on a CPU
PIECE_ELEMENTS = 2**18  # logits per piece of a tile, 1 MB
CUDA_TILE_ELEMENTS = 2**28  # on a GPU, where kernels want to be large
KEPT_ELEMENTS = 2**28  # exponentials kept for the gradient, 1 GB; beyond that they are made again
LARGEST_SCALE = 40.0  # float32 exponentials overflow at 88; this leaves room for sums and products


def tiled_contrastive_loss(
    image_embeddings: Float[Tensor, "batch embed_dim"],
    location_embeddings: Float[Tensor, "batch embed_dim"],
    *,
    logit_scale: Float[Tensor, ""],
    soft_targets: SoftTargets | None = None,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """The loss of :func:`satclip_lib.loss.contrastive_loss`, and its gradients, for large batches.

    Where ``torch.distributed`` is initialised, the batch is the union of the batches of all
    processes, which may differ in size. Each process compares its own images with the locations of
    all. It returns the loss of the whole batch, and gradients that have to be averaged over
    processes, as DistributedDataParallel does.

    Under autocast the matrix products are computed in its dtype, and all else in that of the
    embeddings, but at least in float32.

    Args:
        image_embeddings: This process's part of the image embeddings, ``(batch, embed_dim)``.
        location_embeddings: Location embeddings; row i belongs to image i.
        logit_scale: Learned logarithm of the inverse temperature.
        soft_targets: Soft targets of this process's images; all processes share their settings.
        gather: Whether the batch is that of all processes; False takes this process's part alone.

    Raises:
        ValueError: If the two batches differ in shape or are empty.
    """
    check_embeddings(image_embeddings, location_embeddings)
    processes = _Processes(gather)
    device = image_embeddings.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with torch.autocast(device, enabled=False):
        images = _Normalize.apply(_at_least_float32(image_embeddings))
        locations = _Normalize.apply(_at_least_float32(location_embeddings))
        alike = None if soft_targets is None else _Alike(soft_targets, images.dtype, processes)
        keep = torch.is_grad_enabled()
        return _TiledLoss.apply(images, locations, logit_scale, alike, processes, dtype, keep)


class _TiledLoss(torch.autograd.Function):
    """Rows are this process's images, columns the locations of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        own: Tensor,
        logit_scale: Tensor,
        alike: "_Alike | None",
        processes: "_Processes",
        dtype: torch.dtype | None,
        keep: bool,
    ) -> Tensor:
        columns, start = processes.gather(own)
        scale = logit_scale.exp()
        vanishing = bool(scale > LARGEST_SCALE)
        num_rows, num_columns = len(rows), len(columns)
        keep = keep and not vanishing
        ctx.kept = _Exponentials.claim(num_rows, num_columns, rows) if keep else None
        pairs = 1.0 if alike is None else 1 - alike.weight
        wanted = pairs * scale * (rows * own).sum()  # sum of the logits that are aimed at
        row_sums = rows.new_empty(num_rows)
        column_sums = rows.new_zeros(num_columns)
        row_logs = rows.new_empty(num_rows)  # logarithms of the softmaxes' denominators
        column_logs = rows.new_full((num_columns,), -torch.inf)
        for tile in _tiles(num_rows, num_columns, rows.device):
            out = None if ctx.kept is None else ctx.kept.buffer[tile]
            logits = _matmul(rows[tile] * scale, columns.T, dtype, out=out)  # (tile, columns)
            if alike is not None:
                wanted += torch.linalg.vecdot(alike.targets(tile), logits).sum()
            if vanishing:
                row_logs[tile] = logits.logsumexp(dim=1)
                column_logs = torch.logaddexp(column_logs, logits.logsumexp(dim=0))
            else:
                for piece in _pieces(logits):
                    torch.sum(logits[piece].exp_(), dim=1, out=row_sums[tile][piece])
                column_sums += logits.sum(dim=0)
        if vanishing:
            column_logs = processes.logsumexp(column_logs)
        else:
            processes.sum(column_sums)
            row_logs, column_logs = row_sums.log(), column_sums.log()
        own_columns = slice(start, start + len(own))
        loss = ((row_logs.sum() + column_logs[own_columns].sum()) / 2 - wanted) / num_columns
        processes.sum(loss)
        ctx.save_for_backward(rows, columns, scale, row_logs, column_logs)
        ctx.alike, ctx.own_columns, ctx.processes, ctx.dtype = alike, own_columns, processes, dtype
        ctx.vanishing = vanishing
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, scale, row_logs, column_logs = ctx.saved_tensors
        alike, own_columns = ctx.alike, ctx.own_columns
        per_row, per_column = (-row_logs).exp() / 2, (-column_logs).exp() / 2
        rows_grad = torch.empty_like(rows)
        columns_grad = torch.zeros_like(columns)
        exponentials = None if ctx.kept is None else ctx.kept.release()
        tiles = _tiles(len(rows), len(columns), rows.device)
        for tile in tiles:
            # the mean of both softmaxes, minus what is aimed at; the pairs themselves come below
            if ctx.vanishing:
                logits = _matmul(rows[tile] * scale, columns.T, ctx.dtype)
                share = (logits - row_logs[tile, None]).exp_()
                share.add_(logits.sub_(column_logs).exp_()).div_(2)
            else:
                if exponentials is not None:
                    share = exponentials[tile]
                else:
                    share = _matmul(rows[tile] * scale, columns.T, ctx.dtype).exp_()
                for piece in _pieces(share):
                    share[piece] *= per_row[tile, None][piece] + per_column
            if alike is not None:
                share -= alike.targets(tile)
            _matmul(share, columns, ctx.dtype, out=rows_grad[tile])
            if ctx.dtype is None:
                columns_grad.addmm_(share.T, rows[tile])
            else:
                columns_grad += _matmul(share.T, rows[tile], ctx.dtype)
        pairs = 1.0 if alike is None else 1 - alike.weight
        rows_grad.sub_(columns[own_columns], alpha=pairs)
        columns_grad[own_columns].sub_(rows, alpha=pairs)
        ctx.processes.sum(columns_grad)
        # DistributedDataParallel averages over processes what has to be summed
        factor = grad * scale * (ctx.processes.count / len(columns))
        logit_scale_grad = factor * (rows_grad * rows).sum()
        inputs_grad = rows_grad.mul_(factor), columns_grad[own_columns].mul_(factor)
        return *inputs_grad, logit_scale_grad, None, None, None, None


class _Normalize(torch.autograd.Function):
    """``F.normalize(x, dim=1)``, with few temporaries in the backward pass."""

    SHORTEST = 1e-12

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(_Normalize.SHORTEST)
        unit = x / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        unit, length = ctx.saved_tensors
        along = (unit / length).mul_(grad).sum(dim=1, keepdim=True)
        along.masked_fill_(length <= _Normalize.SHORTEST, 0.0)  # where the length is no part of it
        return (grad / length).sub_(along * unit)


class _Exponentials:
    """One buffer per thread for the exponentials, owned by its latest forward pass.

    It is reused in every step, because to allocate memory of this size takes as long as to compute
    the exponentials. If a later forward pass has taken the buffer, the backward pass computes the
    exponentials again.
    """

    of_thread = threading.local()

    def __init__(self, buffer: Tensor, owner: dict[str, "_Exponentials"]):
        self.buffer, self.owner = buffer, owner

    @classmethod
    def claim(cls, num_rows: int, num_columns: int, like: Tensor) -> "_Exponentials | None":
        """A buffer ``(num_rows, num_columns)``, or None where that is too large to be kept."""
        if num_rows * num_columns > KEPT_ELEMENTS:
            return None
        owner = vars(cls.of_thread)  # of this thread; the backward pass may run in another
        buffer = owner["latest"].buffer if "latest" in owner else None
        fits = buffer is not None and buffer.shape == (num_rows, num_columns)
        if not fits or (buffer.dtype, buffer.device) != (like.dtype, like.device):
            buffer = like.new_empty(num_rows, num_columns)
        owner["latest"] = cls(buffer, owner)
        return owner["latest"]

    def release(self) -> Tensor | None:
        """The buffer, which may then be overwritten; None if a later pass has claimed it."""
        if self.owner["latest"] is not self:
            return None
        self.owner["latest"] = _Exponentials(self.buffer, self.owner)
        return self.buffer


class _Alike:
    """Tiles of the soft targets, the mean of both directions: this process's rows, all columns."""

    def __init__(self, soft: SoftTargets, dtype: torch.dtype, processes: "_Processes"):
        self.weight, self.temperature = soft.weight, soft.temperature
        self.rows = soft.components.to(dtype)
        self.columns, start = processes.gather(self.rows)
        tiles = _tiles(len(self.rows), len(self.columns), self.rows.device)
        sums, _ = processes.gather(torch.cat([self._kernel(tile).sum(dim=1) for tile in tiles]))
        self.per_column = soft.weight / 2 / sums
        self.per_row = self.per_column[start : start + len(self.rows)]

    def targets(self, tile: slice) -> Tensor:
        """Targets for the rows of one tile, ``(tile, columns)``, without the share of the pairs."""
        return self._kernel(tile).mul_(self.per_row[tile, None] + self.per_column)

    def _kernel(self, tile: slice) -> Tensor:
        similarity = (self.rows[tile] / self.temperature) @ self.columns.T  # (tile, columns)
        return similarity.sub_(1 / self.temperature).exp_()


class _Processes:
    """Those that share a batch: all of ``torch.distributed`` where it runs, else this one."""

    def __init__(self, gather: bool):
        together = gather and dist.is_available() and dist.is_initialized()
        self.count, self.rank = (dist.get_world_size(), dist.get_rank()) if together else (1, 0)

    def sum(self, tensor: Tensor) -> None:
        """Add up a tensor over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)

    def logsumexp(self, logs: Tensor) -> Tensor:
        """Combine logarithms of sums of each process into logarithms of the sums over all."""
        if self.count == 1:
            return logs
        largest = logs.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        sums = (logs - largest).exp()
        self.sum(sums)
        return sums.log() + largest

    def gather(self, own: Tensor) -> tuple[Tensor, int]:
        """The rows of all processes in the order of their ranks, and the first row of this one."""
        if self.count == 1:
            return own, 0
        lengths = own.new_zeros(self.count, dtype=torch.int64)
        lengths[self.rank] = len(own)
        self.sum(lengths)
        start = int(lengths[: self.rank].sum())
        everything = own.new_zeros(int(lengths.sum()), *own.shape[1:])
        everything[start : start + len(own)] = own
        self.sum(everything)
        return everything, start


def _tiles(num_rows: int, num_columns: int, device: torch.device) -> list[slice]:
    if device.type == "cpu":
        return _slices(num_rows, min(TILE_ROWS, TILE_ELEMENTS // num_columns))
    return _slices(num_rows, CUDA_TILE_ELEMENTS // num_columns)


def _pieces(tile: Tensor) -> list[slice]:
    return _slices(len(tile), PIECE_ELEMENTS // tile.shape[1] if tile.is_cpu else len(tile))


def _slices(length: int, step: int) -> list[slice]:
    step = max(1, step)
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _matmul(
    a: Tensor, b: Tensor, dtype: torch.dtype | None, *, out: Tensor | None = None
) -> Tensor:
    """Matrix product in ``dtype`` (None: as they are), returned in the dtype of ``a``."""
    if dtype is None:
        return torch.mm(a, b, out=out)
    product = torch.mm(a.to(dtype), b.to(dtype))
    return product.to(a.dtype) if out is None else out.copy_(product)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
