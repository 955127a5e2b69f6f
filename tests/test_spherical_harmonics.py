"""Spherical harmonics: agree with SciPy and with the public models, exact at poles and seam."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y_all

from satclip_lib import spherical_harmonics
from satclip_lib.spherical_harmonics import SphericalHarmonics


def _lonlat(num_points, *, dtype=torch.float64):
    """Random locations, then both poles, the date line from both sides, and the origin."""
    uniform = np.random.default_rng(0).uniform((-180, -90), (180, 90), (num_points, 2))
    special = [[0, 90], [77, 90], [0, -90], [-123, -90], [180, 12], [-180, 12], [180, 90], [0, 0]]
    return torch.tensor(np.concatenate([uniform, special]), dtype=dtype)


def _by_scipy(lonlat, num_degrees, *, condon_shortley=False):
    """Real harmonics from SciPy's complex ones, column l * l + l + m."""
    lon, lat = np.radians(lonlat.double().numpy()).T
    top = num_degrees - 1
    complex_y = sph_harm_y_all(top, top, lat + np.pi / 2, lon + np.pi)  # [l, m], m < 0 from the end
    columns = []
    for degree in range(num_degrees):
        for m in range(-degree, degree + 1):
            y = complex_y[degree, abs(m)]
            sign = 1 if condon_shortley else (-1) ** m
            part = y.imag if m < 0 else y.real
            columns.append(part if m == 0 else sign * np.sqrt(2) * part)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(("num_degrees", "bar"), [(10, 1e-12), (40, 1e-11), (100, 1e-10)])
def test_agrees_with_scipy(num_degrees, bar):
    """Every column agrees with SciPy in float64, also at the poles and the date line."""
    lonlat = _lonlat(100)
    found = SphericalHarmonics(num_degrees)(lonlat)
    assert found.shape == (108, num_degrees**2) and found.dtype == torch.float64
    np.testing.assert_allclose(found, _by_scipy(lonlat, num_degrees), rtol=0, atol=bar)


def test_float32_keeps_its_digits_at_forty_degrees():
    """In float32 the harmonics of L = 40 are good to 2e-5."""
    lonlat = _lonlat(300, dtype=torch.float32)
    found = SphericalHarmonics(40)(lonlat)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, _by_scipy(lonlat, 40), rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_numbers_are_rounded_at_the_end(dtype):
    """Half precision is as good as rounding what is exact."""
    lonlat = _lonlat(100)
    found = SphericalHarmonics(40)(lonlat, dtype=dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), SphericalHarmonics(40)(lonlat), rtol=torch.finfo(dtype).eps, atol=1e-5
    )


def test_analytic_convention_multiplies_zonal_columns_by_pi():
    """'satclip-analytic' differs from the orthonormal convention in the m = 0 columns alone."""
    lonlat = _lonlat(20)
    expected = SphericalHarmonics(12)(lonlat)
    expected[:, [degree * degree + degree for degree in range(12)]] *= np.pi
    found = SphericalHarmonics(12, convention="satclip-analytic")(lonlat)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_closed_form_convention_has_the_condon_shortley_sign():
    """'satclip-closed-form' flips the columns with odd m, as SciPy's phase does."""
    lonlat = _lonlat(50)
    found = SphericalHarmonics(15, convention="satclip-closed-form")(lonlat)
    expected = _by_scipy(lonlat, 15, condon_shortley=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_date_line_has_no_seam():
    """-180 and 180 degrees give the same numbers, bit for bit, at every latitude."""
    lat = torch.linspace(-90, 90, 19, dtype=torch.float64)
    east, west = (torch.stack([torch.full_like(lat, lon), lat], dim=1) for lon in (180.0, -180.0))
    harmonics = SphericalHarmonics(40)
    assert torch.equal(harmonics(east), harmonics(west))


@pytest.mark.parametrize("pole", [-90.0, 90.0])
def test_a_pole_is_one_place(pole):
    """At a pole every longitude gives the same numbers, zero wherever m is not zero."""
    lon = torch.linspace(-180, 180, 37, dtype=torch.float64)
    found = SphericalHarmonics(40)(torch.stack([lon, torch.full_like(lon, pole)], dim=1))
    assert torch.equal(found, found[:1].expand_as(found))
    degree = torch.arange(40, dtype=torch.float64)
    zonal = found[0, (degree * degree + degree).long()]
    assert torch.count_nonzero(found[0]) == 40
    # P_l(1) = 1, P_l(-1) = (-1)^l; SatCLIP's theta = lat + 90 is zero at the south pole
    sign = 1 if pole < 0 else (-1) ** degree
    torch.testing.assert_close(zonal, sign * ((2 * degree + 1) / (4 * np.pi)).sqrt())


def test_gradients_are_those_of_finite_differences():
    """Gradients with respect to longitude and latitude pass gradcheck, near a pole too."""
    lonlat = torch.tensor(
        [[12.3, 45.6], [-100.0, -60.0], [170.0, 0.0], [5.0, 89.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(SphericalHarmonics(6), (lonlat,), atol=1e-7)


def test_gradients_flow_after_inference():
    """What inference mode has cached serves training as well."""
    spherical_harmonics._order_of_column.cache_clear()
    spherical_harmonics._compute_coefficients.cache_clear()
    harmonics = SphericalHarmonics(6)
    lonlat = torch.tensor([[12.3, 45.6]], dtype=torch.float64)
    with torch.inference_mode():
        harmonics(lonlat)
    lonlat.requires_grad_()
    harmonics(lonlat).sum().backward()
    assert lonlat.grad.isfinite().all()


def test_longitudes_beyond_the_map_wrap_around():
    """A longitude and the same plus 360 degrees are one place."""
    lonlat = _lonlat(20)
    harmonics = SphericalHarmonics(20)
    turned = harmonics(lonlat + torch.tensor([360.0, 0.0]))
    torch.testing.assert_close(turned, harmonics(lonlat), rtol=0, atol=1e-11)


def test_memory_layout_of_the_input_does_not_matter():
    """Columns apart in memory give the same numbers, and the input is unchanged."""
    lonlat, harmonics = _lonlat(10), SphericalHarmonics(10)
    strided = lonlat.T.contiguous().T
    assert torch.equal(harmonics(strided), harmonics(lonlat))
    assert torch.equal(strided, lonlat) and not strided.is_contiguous()


def test_impossible_settings_are_errors(shape_checks_off):
    """No degrees are refused, and a misspelt convention is answered with all conventions."""
    with pytest.raises(ValueError, match="num_degrees must be at least 1, got 0"):
        SphericalHarmonics(0)
    with pytest.raises(ValueError, match=r"'analytic'.*orthonormal.*satclip-closed-form"):
        SphericalHarmonics(5, convention="analytic")
