"""Real spherical harmonics of a location: the analogue on the sphere of sines and cosines."""

import math
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

Convention = Literal["orthonormal", "satclip-analytic", "satclip-closed-form"]


class SphericalHarmonics(nn.Module):
    r"""Real spherical harmonics :math:`Y_{lm}` of degrees ``0 .. num_degrees - 1``.

    Column ``l * l + l + m`` of the output is :math:`Y_{lm}`, with ``m = -l .. l``:
    ``sin(|m| phi)`` for ``m < 0`` and ``cos(m phi)`` for ``m > 0``. SatCLIP measures both angles
    from the far corner of the map: ``phi = radians(lon + 180)``, ``theta = radians(lat + 90)``.

    For every order m a harmonic is a polynomial in :math:`\cos\theta` (times :math:`\sin\theta`
    where m is odd), and such a polynomial is a sum of cosines,

    .. math:: Y_{lm} = f_m(\phi)\, (\sin\theta)^{|m| \bmod 2} \sum_{k<L} C_{lm,k} \cos k\theta

    so that all harmonics of all locations are one product of matrices. The coefficients are
    computed once, from a stable recurrence.

    Sines and cosines are computed in float64, because ``sin(m phi)`` loses digits in float32. The
    product is computed in float32 or float64; shorter types are rounded from float32.
    Longitudes of -180 and 180 degrees give the same numbers, and at a pole all longitudes do.
    Gradients flow to ``lonlat``.

    Args:
        num_degrees: Number of degrees, the paper's :math:`L`; gives ``num_degrees**2`` features.
        convention: Sign and scale. ``"orthonormal"`` has unit norm on the sphere and no
            Condon-Shortley sign. The two others reproduce the harmonics that public SatCLIP
            models were trained with:
            ``"satclip-analytic"`` (all six published models) multiplies every ``m = 0`` column
            by pi, ``"satclip-closed-form"`` flips the sign of the columns with odd ``m``.

    Example:
        >>> SphericalHarmonics(10)(torch.tensor([[2.35, 48.86]])).shape
        torch.Size([1, 100])

    References:
        Holmes & Featherstone (2002), J. Geodesy 76, doi:10.1007/s00190-002-0216-2, eq. 11-13.
    """

    def __init__(self, num_degrees: int, *, convention: Convention = "orthonormal"):
        super().__init__()
        if num_degrees < 1:
            raise ValueError(f"num_degrees must be at least 1, got {num_degrees}")
        if convention not in get_args(Convention):
            raise ValueError(
                f"unknown convention {convention!r}; choose from {get_args(Convention)}"
            )
        self.num_degrees = num_degrees
        self.num_features = num_degrees**2
        self.convention = convention

    def forward(
        self, lonlat: Float[Tensor, "batch 2"], *, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "batch num_features"]:
        """Evaluate all harmonics.

        Args:
            lonlat: Longitude and latitude in degrees, in that order; their range is not checked.
            dtype: Type of the result; None takes that of ``lonlat``.

        Returns:
            ``(batch, num_degrees**2)``, on the device of ``lonlat``.

        Raises:
            ValueError: If ``lonlat`` has another shape, or is not floating point.
        """
        check_shape(lonlat)
        dtype = dtype or lonlat.dtype
        work = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        longitude_deg, latitude_deg = lonlat.double().unbind(-1)  # (batch,) each
        # Everything below has the batch in the last dimension, so that rows are contiguous.
        cosines, sines = self.latitude_factors(latitude_deg)  # (L, batch), (2 L - 1, batch)
        orders = (self.longitude_factors(longitude_deg) * sines).to(work)  # (2 L - 1, batch)
        coefficients = self.coefficients(lonlat.device, work)  # (L * L, L)
        harmonics = coefficients @ cosines.to(work)  # (L * L, batch)
        return harmonics.mul_(orders[self.order_of_column(lonlat.device)]).to(dtype).T

    def longitude_factors(
        self, longitude_deg: Float64[Tensor, " batch"]
    ) -> Float64[Tensor, "orders batch"]:
        """``(2 L - 1, batch)``: ``sin(|m| phi)``, 1, ``cos(m phi)`` for m = -(L-1) .. L-1."""
        phi = torch.deg2rad(torch.remainder(longitude_deg + 180.0, 360.0))
        m = torch.arange(1, self.num_degrees, dtype=torch.float64, device=phi.device)
        angles = m[:, None] * phi  # (L - 1, batch)
        return torch.cat([angles.sin().flip(0), torch.ones_like(phi)[None], angles.cos()])

    def latitude_factors(
        self, latitude_deg: Float64[Tensor, " batch"]
    ) -> tuple[Float64[Tensor, "num_degrees batch"], Float64[Tensor, "orders batch"]]:
        """``cos(k theta)``, ``(L, batch)``, and the factor of each order, ``(2 L - 1, batch)``.

        The factor is sin(theta) for odd orders and 1 for even ones. At the poles, where only the
        order 0 does not vanish, it is 0 for all others.
        """
        k = torch.arange(self.num_degrees, dtype=torch.float64, device=latitude_deg.device)
        cosines = (k[:, None] * torch.deg2rad(latitude_deg + 90.0)).cos()
        sine = torch.deg2rad(90.0 - latitude_deg.abs()).sin()  # exactly 0 at the poles
        by_parity = torch.stack([(sine != 0).double(), sine, torch.ones_like(sine)])
        m = torch.arange(1 - self.num_degrees, self.num_degrees, device=latitude_deg.device)
        return cosines, by_parity[torch.where(m == 0, 2, m % 2)]

    def coefficients(
        self, device: torch.device | str, dtype: torch.dtype
    ) -> Float[Tensor, "num_features num_degrees"]:
        """The C of the formula above with the convention's constants, ``(L * L, L)``."""
        return _compute_coefficients(self.num_degrees, self.convention, str(device), dtype)

    def order_of_column(self, device: torch.device | str) -> Int[Tensor, " num_features"]:
        """Index of each column's order m among the orders -(L-1) .. L-1, ``(L * L,)``."""
        return _order_of_column(self.num_degrees, str(device))

    def extra_repr(self) -> str:
        """Settings that ``repr`` shows."""
        return f"num_degrees={self.num_degrees}, convention={self.convention!r}"


def check_shape(lonlat: Tensor) -> None:
    """Raise an error unless the tensor is floating point with shape ``(batch, 2)``.

    Raises:
        ValueError: If the shape or type differs.
    """
    if lonlat.ndim != 2 or lonlat.shape[-1] != 2:
        raise ValueError(
            f"lonlat must have shape (batch, 2), longitude then latitude, got {tuple(lonlat.shape)}"
        )
    if not lonlat.is_floating_point():
        raise ValueError(f"lonlat must be float32 or float64 degrees, got {lonlat.dtype}")


def check_lonlat(lonlat: Tensor) -> None:
    """Refuse everything but longitudes and latitudes in degrees, in this order.

    Args:
        lonlat: Locations, ``(batch, 2)``.

    Raises:
        ValueError: If the shape differs, or a row is not finite or out of range. The message
            names the first such row and what to change.
    """
    check_shape(lonlat)
    lon, lat = lonlat.detach().abs().unbind(-1)
    if ((lon <= 180) & (lat <= 90)).all():  # NaN is neither
        return
    _refuse(~lonlat.isfinite().all(dim=1), "locations hold NaN or inf", "drop them")
    swapped = bool((lon <= 90).all() and (lat <= 180).all())
    advice = "columns look swapped: pass lonlat[:, [1, 0]]" if swapped else "pass degrees"
    _refuse(
        lat > 90,
        f"latitudes (column 1) lie outside [-90, 90], up to {lat.max():g}",
        f"{advice}, longitude first",
    )
    _refuse(
        lon > 180,
        f"longitudes (column 0) lie outside [-180, 180], up to {lon.max():g}",
        "wrap them with (lon + 180) % 360 - 180 if that is on purpose",
    )


def _refuse(is_bad: Tensor, problem: str, advice: str) -> None:
    if is_bad.any():
        first = int(is_bad.to(torch.uint8).argmax())
        raise ValueError(
            f"{int(is_bad.sum())} of {len(is_bad)} {problem} (row {first} first): {advice}"
        )


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _order_of_column(num_degrees: int, device: str) -> Tensor:
    orders = [torch.arange(-degree, degree + 1) for degree in range(num_degrees)]
    return (torch.cat(orders) + num_degrees - 1).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
@torch.no_grad()
def _compute_coefficients(
    num_degrees: int, convention: Convention, device: str, dtype: torch.dtype
) -> Tensor:
    """Cosine series of the Legendre functions, ``(L * L, L)``, times the convention's constants.

    A polynomial of degree below L is known from its values at L Chebyshev nodes.
    """
    k = torch.arange(num_degrees, dtype=torch.float64)
    theta = torch.pi * (k + 0.5) / num_degrees  # the nodes, (L,)
    to_series = (k * theta[:, None]).cos() * 2 / num_degrees  # (node, k)
    to_series[:, 0] /= 2
    rows = []
    for degree, legendre in enumerate(_legendre(theta, num_degrees)):
        values = legendre.clone()  # (l + 1, node), orders 0 .. l
        values[1::2] /= theta.sin()
        values[1:] *= math.sqrt(2.0)
        if convention == "satclip-analytic":
            values[0] *= math.pi
        elif convention == "satclip-closed-form":
            values[1::2] *= -1.0
        series = values @ to_series  # (l + 1, k)
        series[:, degree + 1 :] = 0.0  # what is there is rounding
        rows.append(torch.cat([series[1:].flip(0), series]))  # (2 l + 1, k): |m|
    return torch.cat(rows).to(device=device, dtype=dtype)


def _legendre(theta: Float64[Tensor, " batch"], num_degrees: int) -> list[Tensor]:
    """Orthonormal associated Legendre functions, one ``(l + 1, batch)`` tensor per degree l.

    Row m of degree l comes from the two degrees below it, except ``m = l``, which comes from
    ``m = l - 1``. In this order no step divides by a small number, so errors do not grow.
    """
    cosine, sine = theta.cos(), theta.sin()
    rows = [torch.full_like(cosine[None], math.sqrt(0.25 / math.pi))]
    for degree in range(1, num_degrees):
        below = rows[degree - 1]  # (l, batch), orders 0 .. l-1
        order = torch.arange(degree, dtype=torch.float64, device=cosine.device)[:, None]
        a = ((4 * degree**2 - 1) / (degree**2 - order**2)).sqrt()
        row = a * cosine * below
        if degree > 1:
            b = (
                a[:-1]
                * (((degree - 1) ** 2 - order[:-1] ** 2) / (4 * (degree - 1) ** 2 - 1)).sqrt()
            )
            row = torch.cat([row[:-1] - b * rows[degree - 2], row[-1:]])
        sectoral = math.sqrt(1 + 0.5 / degree) * sine * below[-1:]
        rows.append(torch.cat([row, sectoral]))
    return rows
