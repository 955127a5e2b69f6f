"""The location encoder: the paper's sizes, SIREN's start, checked input, public weights."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from small import make_encoder

from satclip_lib.checkpoints.assemble import parse_location_config
from satclip_lib.checkpoints.store import load_location_encoder, save_pretrained
from satclip_lib.location_encoder import (
    Damping,
    LocationEncoder,
    LocationEncoderConfig,
    Siren,
    SpectralDamping,
)
from satclip_lib.spherical_harmonics import check_lonlat

PARIS_TOKYO = [[2.35, 48.86], [139.69, 35.69]]


def _random_lonlat(num_points, *, dtype=torch.float64):
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (num_points, 2))
    return torch.tensor(lonlat, dtype=dtype)


@pytest.mark.parametrize(("num_degrees", "count"), [(10, 445_696), (40, 1_213_696)])
def test_sizes_are_the_papers(num_degrees, count):
    """With default settings the encoder has as many parameters as the published ones."""
    encoder = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count
    assert encoder.eval()(torch.tensor(PARIS_TOKYO)).shape == (2, 256)


def test_initial_weights_fill_their_range():
    """Weights and biases start uniform in +-1/n in the first layer and +-sqrt(6/n) later."""
    torch.manual_seed(0)
    siren = Siren(
        100, 64, hidden_dim=256, num_hidden_layers=3, first_omega=30.0, dropout=0.0
    )  # 100 -> 256 -> 256 -> 256 -> 64
    bounds = [1 / 100] + [(6 / 256) ** 0.5] * 3
    for layer, bound in zip([*siren.layers, siren.last_layer], bounds, strict=True):
        for parameter in (layer.weight, layer.bias):
            assert 0.9 * bound < parameter.detach().abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert abs(layer.weight.mean().item()) < 0.05 * bound


def test_output_is_sines_between_linear_layers():
    """The output is W2 sin(W1 sin(30 (W0 y + b0)) + b1) + b2 of the harmonics y."""
    encoder = make_encoder().double()
    lonlat = _random_lonlat(7)
    weight = {name: x.numpy() for name, x in encoder.network.state_dict().items()}
    x = encoder.compute_harmonics(lonlat).numpy()
    x = np.sin(30 * (x @ weight["layers.0.weight"].T + weight["layers.0.bias"]))
    x = np.sin(x @ weight["layers.1.weight"].T + weight["layers.1.bias"])
    x = x @ weight["last_layer.weight"].T + weight["last_layer.bias"]
    np.testing.assert_allclose(encoder(lonlat).detach(), x, atol=1e-13)


def test_dropout_silences_hidden_units_before_the_sine():
    """A dropped pre-activation of zero gives sin(0) = 0, for the configured share of units."""
    encoder = make_encoder(hidden_dim=512, dropout=0.3).train()
    inputs = []
    for layer in (encoder.network.layers[1], encoder.network.last_layer):
        layer.register_forward_pre_hook(lambda layer, args: inputs.append(args[0]))
    encoder(_random_lonlat(200))
    assert len(inputs) == 2
    for x in inputs:
        assert (x == 0).float().mean() == pytest.approx(0.3, abs=0.01)
        assert x.abs().max() <= 1  # scaled up before the sine, not behind it


def test_rows_follow_their_locations():
    """Permuting locations permutes embeddings; an empty batch and a batch of one work."""
    encoder = make_encoder().double()
    lonlat = _random_lonlat(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(lonlat[order]), encoder(lonlat)[order], rtol=0, atol=1e-12)
    assert encoder(lonlat[:0]).shape == (0, 6)
    torch.testing.assert_close(encoder(lonlat[:1]), encoder(lonlat)[:1], rtol=0, atol=1e-12)


def test_embeddings_have_the_dtype_of_the_weights():
    """Weights decide the output's dtype; float64 locations keep their digits until the network."""
    encoder = make_encoder()
    lonlat = _random_lonlat(6)
    single = encoder(lonlat)
    assert single.dtype == torch.float32
    double = encoder.double()(lonlat)
    assert double.dtype == torch.float64
    assert encoder(lonlat.float()).dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-4)


def test_configurations_of_version_0_1_are_understood():
    """There the settings of damping stood beside the others, and None meant no damping."""
    flat = {"num_degrees": 40, "damping_degree": 6.0, "damping_power": 2.0}
    flat |= {"learned_damping": True, "damped_init": True}
    expected = Damping(degree=6.0, power=2.0, learned=True, scaled_init=True)
    assert parse_location_config(flat) == LocationEncoderConfig(num_degrees=40, damping=expected)
    assert parse_location_config(flat | {"damping_degree": None}).damping is None


def test_impossible_settings_are_errors(shape_checks_off):
    """A size of zero, dropout outside [0, 1) and damping at no degree are named."""
    for name in ("num_degrees", "embed_dim", "hidden_dim", "num_hidden_layers"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            LocationEncoderConfig(**{name: 0})
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
            LocationEncoderConfig(dropout=dropout)
    with pytest.raises(ValueError, match="degree of the damping must be positive, got 0"):
        Damping(degree=0.0)


def test_the_defaults_are_the_papers():
    """Ten degrees, two hidden layers of 512 and half of the units dropped; nothing is damped."""
    assert asdict(LocationEncoderConfig()) == {
        "num_degrees": 10, "embed_dim": 256, "hidden_dim": 512, "num_hidden_layers": 2,
        "first_omega": 30.0, "dropout": 0.5, "damping": None, "ordered": False,
        "convention": "orthonormal",
    }  # fmt: skip
    damping = {"degree": 0.5, "power": 4.0, "learned": False, "scaled_init": False}
    assert asdict(Damping(degree=0.5)) == damping and Damping().degree == 6.0


@pytest.mark.parametrize(
    ("lonlat", "message"),
    [
        (torch.zeros(2), r"lonlat must have shape \(batch, 2\).*longitude.*got \(2,\)"),
        (torch.zeros(2, 3), r"lonlat must have shape \(batch, 2\).*got \(2, 3\)"),
        (torch.zeros(1, 2, dtype=torch.int64), "float32 or float64 degrees, got torch.int64"),
        (torch.tensor([[0.0, torch.inf], [torch.nan, 0.0]]), "2 of 2 locations hold NaN or inf"),
        (torch.tensor([[48.86, 139.69]]), r"up to 139.69.*columns look swapped.*\[1, 0\]"),
        (torch.tensor([[48.86, 180.0]]), r"up to 180.*columns look swapped"),
        (torch.tensor([[48.86, 139.69], [120, 10]]), r"1 of 2 .*\(row 0 first\): pass degrees"),
        (torch.tensor([[48.86, 139.69], [0, 181]]), r"2 of 2 .*up to 181 .*: pass degrees"),
        (torch.tensor([[0, 0], [180.5, 10]]), r"1 of 2 longitudes .*180.5 \(row 1 first\): wrap"),
        (torch.tensor([[0.0, -90.5]]), r"latitudes \(column 1\).*up to 90.5"),
    ],
)
def test_what_is_not_a_location_is_refused(shape_checks_off, lonlat, message):
    """Wrong shape, dtype, range, order and NaN are errors that say what came and what to do."""
    with pytest.raises(ValueError, match=message):
        check_lonlat(lonlat)
    with pytest.raises(ValueError, match=message):
        make_encoder()(lonlat)


def test_damping_halves_its_degree():
    """Factors are 1 / (1 + (l / l0)^p), the same for all orders of a degree."""
    factors = SpectralDamping(12, Damping(degree=6.0, power=4.0)).factors()
    assert factors.shape == (144,)
    for degree in range(12):
        of_degree = factors[degree**2 : (degree + 1) ** 2]
        expected = torch.full_like(of_degree, 1 / (1 + (degree / 6) ** 4))
        torch.testing.assert_close(of_degree, expected)


def test_damping_acts_between_harmonics_and_network():
    """A damped encoder is the undamped one on damped harmonics; both halves make the whole."""
    plain = make_encoder()
    damped = make_encoder(damping=Damping(degree=2.0))
    lonlat = _random_lonlat(50, dtype=torch.float32)
    harmonics = plain.compute_harmonics(lonlat)
    torch.testing.assert_close(damped.compute_harmonics(lonlat), harmonics, rtol=0, atol=0)
    expected = plain.network(harmonics * damped.damping.factors())
    torch.testing.assert_close(damped(lonlat), expected, rtol=0, atol=0)
    torch.testing.assert_close(damped.embed_harmonics(harmonics), expected, rtol=0, atol=0)
    assert not torch.allclose(damped(lonlat), plain(lonlat))


def test_learned_damping_is_trained_and_stored(tmp_path):
    """Its factors are parameters that get gradients, stay positive, and come back from disk."""
    encoder = make_encoder(damping=Damping(degree=2.0, learned=True))
    fixed = make_encoder(damping=Damping(degree=2.0))
    assert encoder.state_dict().keys() - fixed.state_dict().keys() == {"damping.log_factors"}
    assert not fixed.damping.state_dict()  # what the configuration says is not stored
    torch.testing.assert_close(encoder.damping.factors(), fixed.damping.factors())
    encoder(_random_lonlat(20)).square().sum().backward()
    gradient = encoder.damping.log_factors.grad
    assert gradient.shape == (4,) and gradient.abs().min() > 0
    with torch.no_grad():
        encoder.damping.log_factors -= 100 * gradient.sign()
    assert (encoder.damping.factors() >= 0).all()
    loaded = load_location_encoder(save_pretrained(encoder, tmp_path / "model"))
    assert loaded.config == encoder.config
    assert torch.equal(loaded.damping.log_factors, encoder.damping.log_factors)


def test_damped_init_makes_up_for_what_damping_takes():
    """The first sine starts as wide as on undamped harmonics of about as many degrees."""
    lonlat = _random_lonlat(1000)

    def spread(**config):
        encoder = make_encoder(hidden_dim=256, **config)
        harmonics = encoder.damping(encoder.compute_harmonics(lonlat))
        return encoder.network.layers[0](harmonics).std().item()

    damped = spread(num_degrees=30, damping=Damping(degree=6.0, scaled_init=True))
    assert damped == pytest.approx(spread(num_degrees=6), rel=0.25)
    assert damped > 10 * spread(num_degrees=30, damping=Damping(degree=6.0))
