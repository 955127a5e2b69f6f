"""The location encoder: longitude and latitude in, a description of the place out."""

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from satclip_lib.hub import PretrainedMixin
from satclip_lib.spherical_harmonics import Convention, SphericalHarmonics, check_shape

ROWS_AT_ONCE = 1024  # through the network on a CPU: so many hidden units stay in its cache


@dataclass(frozen=True)
class LocationEncoderConfig:
    """Everything that is needed to build a :class:`LocationEncoder`; defaults are the paper's.

    Attributes:
        num_degrees: degrees of the spherical harmonics, the paper's L: 10 (coarse, better in
            unseen regions) or 40 (fine, better between training points).
        embed_dim: numbers per location.
        hidden_dim: width of the hidden layers.
        num_hidden_layers: sine layers before the linear one.
        first_omega: frequency of the first sine, SIREN's w0.
        dropout: share of hidden pre-activations set to zero while training.
        damping_degree: degree at which harmonics are halved before the network sees them, see
            :class:`SpectralDamping`; None leaves them as they are, as the paper does.
        damping_power: how steeply harmonics beyond that degree fade.
        learned_damping: train the factor of each degree, from this start.
        damped_init: draw the first layer for as many inputs as damping leaves, not for all; the
            network starts with the variance it would have on undamped harmonics of low degree.
        convention: sign and scale of the harmonics, see :class:`SphericalHarmonics`.
    """

    num_degrees: int = 10
    embed_dim: int = 256
    hidden_dim: int = 512
    num_hidden_layers: int = 2
    first_omega: float = 30.0
    dropout: float = 0.5
    damping_degree: float | None = None
    damping_power: float = 4.0
    learned_damping: bool = False
    damped_init: bool = False
    convention: Convention = "orthonormal"

    def __post_init__(self) -> None:
        for name in ("num_degrees", "embed_dim", "hidden_dim", "num_hidden_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.damping_degree is None and self.learned_damping:
            raise ValueError("learned_damping needs a start: give damping_degree, for instance 6")
        if self.damping_degree is None and self.damped_init:
            raise ValueError("damped_init needs damping: give damping_degree, for instance 6")
        if self.damping_degree is not None and not self.damping_degree > 0:
            raise ValueError(f"damping_degree must be positive or None, got {self.damping_degree}")


class LocationEncoder(PretrainedMixin, nn.Module):
    """SIREN(SH(lon, lat)): spherical harmonics followed by a small sine network.

    Between the two the harmonics may be damped, see :class:`SpectralDamping`.

    Example:
        >>> encoder = LocationEncoder(LocationEncoderConfig(num_degrees=10)).eval()
        >>> encoder(torch.tensor([[2.35, 48.86], [139.69, 35.69]])).shape
        torch.Size([2, 256])

    References:
        Russwurm et al. (2024), Geographic location encoding with spherical harmonics and
        sinusoidal representation networks, arXiv 2310.06743.
    """

    def __init__(self, config: LocationEncoderConfig | None = None):
        super().__init__()
        self.config = config or LocationEncoderConfig()
        self.harmonics = SphericalHarmonics(
            self.config.num_degrees, convention=self.config.convention
        )
        self.damping = (
            nn.Identity()
            if self.config.damping_degree is None
            else SpectralDamping(
                self.config.num_degrees,
                degree=self.config.damping_degree,
                power=self.config.damping_power,
                learned=self.config.learned_damping,
            )
        )
        self.network = Siren(
            self.harmonics.num_features,
            self.config.embed_dim,
            hidden_dim=self.config.hidden_dim,
            num_hidden_layers=self.config.num_hidden_layers,
            first_omega=self.config.first_omega,
            dropout=self.config.dropout,
        )
        if self.config.damped_init and isinstance(self.damping, SpectralDamping):
            self.network.reset_parameters(fan_in=self.damping.factors().square().sum().item())

    def forward(self, lonlat: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch embed_dim"]:
        """Embed locations.

        Args:
            lonlat: longitude in [-180, 180] and latitude in [-90, 90], degrees, in that order.
                Pass float64 where metres matter: float32 degrees are good to about 1 m.

        Returns:
            ``(batch, embed_dim)``, not normalised, in the dtype of the weights.

        Raises:
            ValueError: in eval mode, if a coordinate is not a longitude and latitude.
        """
        if not self.training:
            check_lonlat(lonlat)
        return self.embed_harmonics(self.compute_harmonics(lonlat))

    def compute_harmonics(self, lonlat: Float[Tensor, "batch 2"]) -> Tensor:
        """The first half, ``(batch, num_degrees**2)``, in the dtype of the weights.

        It has no trained parameter, so locations that stay the same need it only once.
        """
        return self.harmonics(lonlat, dtype=self.network.last_layer.weight.dtype)

    def embed_harmonics(
        self, harmonics: Float[Tensor, "batch num_features"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """The second half: from what :meth:`compute_harmonics` returns to the embedding."""
        return self.network(self.damping(harmonics))

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return asdict(self.config)


class SpectralDamping(nn.Module):
    r"""Multiplies the harmonics of degree l by :math:`1 / (1 + (l / l_0)^p)`.

    A smoothness prior on the sphere. Undamped, the :math:`L^2` harmonics enter the network with
    equal weight, and nearly all of them have high degrees: at L = 40 three quarters vary within
    less than 10 degrees, and the network can tell places apart without finding out what they
    have in common. Damped, what is coarse is learned first and what is fine has to earn its place.

    Args:
        num_degrees: degrees of the harmonics.
        degree: :math:`l_0`, whose harmonics are halved.
        power: :math:`p`, how steeply those beyond it fade.
        learned: make the factors parameters; they are trained as logarithms and stay positive.
    """

    orders_per_degree: Tensor

    def __init__(self, num_degrees: int, *, degree: float, power: float, learned: bool = False):
        super().__init__()
        degrees = torch.arange(num_degrees, dtype=torch.float64)
        log_factors = -torch.log1p((degrees / degree) ** power).to(torch.get_default_dtype())
        if learned:
            self.log_factors = nn.Parameter(log_factors)
        else:
            self.register_buffer("log_factors", log_factors, persistent=False)
        self.register_buffer(
            "orders_per_degree", 2 * torch.arange(num_degrees) + 1, persistent=False
        )

    def factors(self) -> Float[Tensor, " num_features"]:
        """What each column is multiplied by, ``(num_degrees**2,)``."""
        return self.log_factors.exp().repeat_interleave(self.orders_per_degree)

    def forward(
        self, harmonics: Float[Tensor, "batch num_features"]
    ) -> Float[Tensor, "batch num_features"]:
        """Damp ``(batch, num_degrees**2)``."""
        return harmonics * self.factors()


class Siren(nn.Module):
    """Linear layers with sines between them, initialised so that signals keep their variance.

    Dropout is applied before each sine, as SatCLIP does. Parameters are named as in the public
    models: ``layers.<i>.weight``, ``layers.<i>.bias``, ``last_layer.weight``, ``last_layer.bias``.

    References:
        Sitzmann et al. (2020), Implicit neural representations with periodic activation
        functions, arXiv 2006.09661, section 3.2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_dim: int,
        num_hidden_layers: int,
        first_omega: float,
        dropout: float,
    ):
        super().__init__()
        widths = [in_features] + [hidden_dim] * num_hidden_layers
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.last_layer = nn.Linear(hidden_dim, out_features)
        self.omegas = [first_omega] + [1.0] * (num_hidden_layers - 1)
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self, *, fan_in: float | None = None) -> None:
        """Uniform weights and biases: +-1/n in the first layer, +-sqrt(6/n) later, n the fan-in.

        Args:
            fan_in: that of the first layer, if its inputs are not of one size; None counts them.
        """
        for index, layer in enumerate([*self.layers, self.last_layer]):
            if index == 0:
                bound = 1 / (fan_in or layer.in_features)
            else:
                bound = math.sqrt(6 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """Map ``(batch, in_features)`` to ``(batch, out_features)``."""
        if x.device.type == "cpu" and len(x) > ROWS_AT_ONCE:
            return torch.cat([self(rows) for rows in x.split(ROWS_AT_ONCE)])
        for omega, layer in zip(self.omegas, self.layers, strict=True):
            x = torch.sin(omega * self.dropout(layer(x)))
        return self.last_layer(x)


class Dropout(nn.Dropout):
    """``nn.Dropout`` with one random byte per number on a CPU, ten times as fast.

    There the probability is rounded to a multiple of 1/256.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero a random share of ``x`` while training, and scale up the rest."""
        if x.device.type != "cpu" or not self.training or self.p == 0 or x.numel() == 0:
            return super().forward(x)
        num_kept = max(1, round(256 * (1 - self.p)))
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        mask = words.view(torch.uint8)[: x.numel()].view(x.shape) < num_kept
        return x * (mask.to(x.dtype) * (256 / num_kept))


def check_lonlat(lonlat: Tensor) -> None:
    """Refuse anything that is not ``(batch, 2)`` finite degrees, longitude first.

    Raises:
        ValueError: says what came, what was expected and, where latitude seems to come first,
            how to turn the columns round.
    """
    check_shape(lonlat)
    if lonlat.numel() == 0:
        return
    if not lonlat.isfinite().all():
        bad = int((~lonlat.isfinite().all(dim=1)).sum())
        raise ValueError(f"lonlat must be finite, but {bad} of {len(lonlat)} rows hold NaN or inf")
    largest_lon, largest_lat = lonlat.abs().amax(dim=0).tolist()
    if largest_lat > 90:
        hint = (
            "; the columns look swapped: pass longitude first, lonlat[:, [1, 0]]"
            if largest_lon <= 90 and largest_lat <= 180
            else ""
        )
        raise ValueError(
            f"latitude (column 1) must be within [-90, 90] degrees, got |lat| up to "
            f"{largest_lat:g}{hint}"
        )
    if largest_lon > 180:
        raise ValueError(
            f"longitude (column 0) must be within [-180, 180] degrees, got |lon| up to "
            f"{largest_lon:g}; wrap it with (lon + 180) % 360 - 180"
        )
