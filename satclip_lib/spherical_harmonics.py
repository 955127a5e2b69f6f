"""Real spherical harmonics of a location: what sines and cosines are on a line, on the sphere."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

Convention = Literal["orthonormal", "satclip-analytic", "satclip-closed-form"]


class SphericalHarmonics(nn.Module):
    r"""Real spherical harmonics :math:`Y_{lm}` of degrees ``0 .. num_degrees - 1``.

    Column ``l * l + l + m`` of the output is :math:`Y_{lm}`, with ``m = -l .. l``:
    ``sin(|m| phi)`` for ``m < 0`` and ``cos(m phi)`` for ``m > 0``. SatCLIP measures both angles
    from the far corner of the map: ``phi = radians(lon + 180)``, ``theta = radians(lat + 90)``.

    All arithmetic is float64 and the result is cast at the end, because the recurrence and
    ``sin(m phi)`` lose digits in float32. Longitudes of -180 and 180 degrees give the same
    numbers, and at a pole every longitude does. Gradients flow to ``lonlat``.

    Args:
        num_degrees: number of degrees, the paper's :math:`L`; gives ``num_degrees**2`` features.
        convention: ``"orthonormal"`` has unit norm on the sphere and no Condon-Shortley sign.
            The two others reproduce the harmonics that public SatCLIP models were trained with:
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

    def forward(self, lonlat: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch num_features"]:
        """Evaluate all harmonics.

        Args:
            lonlat: longitude and latitude in degrees, in that order, float32 or float64.

        Returns:
            ``(batch, num_degrees**2)``, of the dtype and on the device of ``lonlat``.

        Raises:
            ValueError: if ``lonlat`` has another shape, or is not floating point.
        """
        check_shape(lonlat)
        # Everything below has the batch in the last dimension, so that rows are contiguous.
        longitude_deg, latitude_deg = lonlat.double().unbind(-1)  # (batch,) each
        orders = self._azimuthal_factors(longitude_deg)  # (2 L - 1, batch), m = -(L-1) .. L-1
        centre = self.num_degrees - 1
        harmonics = []
        for degree, legendre in enumerate(_legendre(latitude_deg, self.num_degrees)):
            both_signs = torch.cat([legendre[1:].flip(0), legendre])  # (2 l + 1, batch): |m|
            harmonics.append(both_signs * orders[centre - degree : centre + degree + 1])
        return torch.cat(harmonics).to(lonlat.dtype).T  # (batch, L * L)

    def _azimuthal_factors(self, longitude_deg: Float64[Tensor, " batch"]) -> Tensor:
        """The longitude's part of every order, with the convention's constants folded in."""
        phi = torch.deg2rad(torch.remainder(longitude_deg + 180.0, 360.0))
        m = torch.arange(1, self.num_degrees, dtype=torch.float64, device=phi.device)
        scale = torch.full_like(m, math.sqrt(2.0))
        if self.convention == "satclip-closed-form":
            scale[::2] *= -1.0
        zonal = torch.full_like(phi, math.pi if self.convention == "satclip-analytic" else 1.0)
        angles = m[:, None] * phi  # (L - 1, batch)
        sines, cosines = scale[:, None] * angles.sin(), scale[:, None] * angles.cos()
        return torch.cat([sines.flip(0), zonal[None], cosines])

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"num_degrees={self.num_degrees}, convention={self.convention!r}"


def check_shape(lonlat: Tensor) -> None:
    """Refuse what is not a ``(batch, 2)`` floating point tensor.

    Raises:
        ValueError: says what came and what was expected.
    """
    if lonlat.ndim != 2 or lonlat.shape[-1] != 2:
        raise ValueError(
            f"lonlat must have shape (batch, 2), longitude then latitude, got {tuple(lonlat.shape)}"
        )
    if not lonlat.is_floating_point():
        raise ValueError(f"lonlat must be float32 or float64 degrees, got {lonlat.dtype}")


def _legendre(latitude_deg: Float64[Tensor, " batch"], num_degrees: int) -> list[Tensor]:
    """Orthonormal associated Legendre functions, one ``(l + 1, batch)`` tensor per degree l.

    Row m of degree l comes from the two degrees below it, except ``m = l``, which comes from
    ``m = l - 1``. In this order no step divides by a small number, so errors do not grow.
    """
    # cos and sin of theta = lat + 90 degrees; written so that sin is exactly 0 at the poles
    cosine = -torch.deg2rad(latitude_deg).sin()
    sine = torch.deg2rad(90.0 - latitude_deg.abs()).sin()
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
