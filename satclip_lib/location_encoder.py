"""The location encoder: from longitude and latitude to an embedding of the place."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from satclip_lib.spherical_harmonics import Convention, SphericalHarmonics, check_lonlat


@dataclass(frozen=True)
class Damping:
    r"""How harmonics of high degree fade before the network sees them.

    Attributes:
        degree: Degree :math:`l_0` whose harmonics are halved.
        power: Power :math:`p`; with a larger one, harmonics fade more steeply around that degree.
        learned: Whether the factor of each degree is trained; it starts from the formula's value.
        scaled_init: Whether the fan-in of the first layer's initialisation is the sum of the
            squared factors, so that damping does not lower the variance at the start.

    Raises:
        ValueError: If ``degree`` is not positive.
    """

    degree: float = 6.0
    power: float = 4.0
    learned: bool = False
    scaled_init: bool = False

    def __post_init__(self) -> None:
        if not self.degree > 0:
            raise ValueError(f"degree of the damping must be positive, got {self.degree}")


@dataclass(frozen=True)
class LocationEncoderConfig:
    """Everything that is needed to build a :class:`LocationEncoder`; the defaults are the paper's.

    Attributes:
        num_degrees: Number of degrees of the spherical harmonics, the paper's L: 10 (coarse,
            better in unseen regions) or 40 (fine, better between training points).
        embed_dim: Number of values per location.
        hidden_dim: Width of the hidden layers.
        num_hidden_layers: Number of sine layers before the linear one.
        first_omega: Factor of the first sine's argument, SIREN's w0; later sines have 1.
        dropout: Share of hidden pre-activations set to zero while training.
        damping: Damping of high degrees, see :class:`SpectralDamping`; None leaves the harmonics
            as they are, as the paper does.
        ordered: Whether training rotates embeddings onto the principal axes of image embeddings.
        convention: Sign and scale of the harmonics, see :class:`SphericalHarmonics`.

    Raises:
        ValueError: If a number is out of its range; the message names it.
    """

    num_degrees: int = 10
    embed_dim: int = 256
    hidden_dim: int = 512
    num_hidden_layers: int = 2
    first_omega: float = 30.0
    dropout: float = 0.5
    damping: Damping | None = None
    ordered: bool = False
    convention: Convention = "orthonormal"

    def __post_init__(self) -> None:
        for name in ("num_degrees", "embed_dim", "hidden_dim", "num_hidden_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


class LocationEncoder(nn.Module):
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
        damping = self.config.damping
        spectral = SpectralDamping(self.config.num_degrees, damping) if damping else None
        self.damping = spectral or nn.Identity()
        self.network = Siren(
            self.harmonics.num_features,
            self.config.embed_dim,
            hidden_dim=self.config.hidden_dim,
            num_hidden_layers=self.config.num_hidden_layers,
            first_omega=self.config.first_omega,
            dropout=self.config.dropout,
        )
        if spectral and damping and damping.scaled_init:
            self.network.reset_parameters(fan_in=spectral.factors().square().sum().item())

    def forward(self, lonlat: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch embed_dim"]:
        """Embed locations.

        Args:
            lonlat: Longitude in [-180, 180] and latitude in [-90, 90], degrees, in that order.
                Pass float64 where metres matter: float32 degrees are good to about 1 m.

        Returns:
            ``(batch, embed_dim)``, not normalised, in the dtype of the weights.

        Raises:
            ValueError: In eval mode, if a row is no longitude and latitude.
        """
        if not self.training:
            check_lonlat(lonlat)
        return self.embed_harmonics(self.compute_harmonics(lonlat))

    def compute_harmonics(self, lonlat: Float[Tensor, "batch 2"]) -> Tensor:
        """The harmonics, ``(batch, num_degrees**2)``, in the dtype of the weights.

        No trained parameter is involved, so locations that do not change need this only once.
        """
        return self.harmonics(lonlat, dtype=self.network.last_layer.weight.dtype)

    def embed_harmonics(
        self, harmonics: Float[Tensor, "batch num_features"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Damping and network: from the result of :meth:`compute_harmonics` to the embedding."""
        return self.network(self.damping(harmonics))


class SpectralDamping(nn.Module):
    r"""Multiplies the harmonics of degree l by :math:`1 / (1 + (l / l_0)^p)`.

    A smoothness prior on the sphere. Undamped, the :math:`L^2` harmonics enter the network with
    equal weight, and nearly all of them have high degrees: at L = 40 three quarters change sign
    within less than 10 degrees, and the network can distinguish places without learning what they
    have in common. With damping, it learns coarse patterns before fine ones.

    Args:
        num_degrees: Number of degrees of the harmonics.
        damping: Degree and power of the formula. Learned factors are trained as logarithms, so
            that they stay positive.
    """

    orders_per_degree: Tensor

    def __init__(self, num_degrees: int, damping: Damping):
        super().__init__()
        degrees = torch.arange(num_degrees, dtype=torch.float64)
        log_factors = -torch.log1p((degrees / damping.degree) ** damping.power)
        log_factors = log_factors.to(torch.get_default_dtype())
        if damping.learned:
            self.log_factors = nn.Parameter(log_factors)
        else:
            self.register_buffer("log_factors", log_factors, persistent=False)
        self.register_buffer(
            "orders_per_degree", 2 * torch.arange(num_degrees) + 1, persistent=False
        )

    def factors(self) -> Float[Tensor, " num_features"]:
        """Factor of each column, ``(num_degrees**2,)``."""
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
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self, *, fan_in: float | None = None) -> None:
        """Uniform weights and biases: +-1/n in the first layer, +-sqrt(6/n) later, n the fan-in.

        Args:
            fan_in: Effective number of inputs of the first layer; None takes their number.
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
        for omega, layer in zip(self.omegas, self.layers, strict=True):
            x = torch.sin(omega * self.dropout(layer(x)))
        return self.last_layer(x)
