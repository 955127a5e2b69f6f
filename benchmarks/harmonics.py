"""How exact the spherical harmonics are, against SciPy: ``python benchmarks/harmonics.py``.

Writes ``benchmarks/results/harmonics.json``: the largest absolute difference over all columns, at
places all over the sphere, both poles and the date line included, and the bar that it must stay
under.
"""

import numpy as np
import torch
from common import Bar, draw_on_sphere, save_result
from scipy.special import sph_harm_y

from satclip_lib.spherical_harmonics import SphericalHarmonics

BARS = {
    (10, "float64"): 1e-12,
    (40, "float64"): 1e-11,
    (100, "float64"): 1e-10,
    (40, "float32"): 2e-5,
}


def compute_reference(lonlat: np.ndarray, num_degrees: int) -> np.ndarray:
    """Real orthonormal harmonics from SciPy's complex ones, ``(num_points, num_degrees**2)``."""
    phi, theta = np.radians(lonlat[:, 0] + 180), np.radians(lonlat[:, 1] + 90)
    columns = []
    for degree in range(num_degrees):
        for order in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(order), theta, phi)
            sign = np.sqrt(2) * (-1) ** order  # without the Condon-Shortley phase
            columns.append(y.real if order == 0 else sign * (y.real if order > 0 else y.imag))
    return np.stack(columns, axis=1)


def main() -> None:
    """Compare, and write the result."""
    special = [[0, 90], [77, 90], [0, -90], [180, 0], [-180, 45], [12, 89.9999]]
    lonlat = np.concatenate([draw_on_sphere(1000), special]).astype(np.float32).astype(np.float64)
    rows, bars = [], []
    for (num_degrees, dtype), bar in BARS.items():
        ours = SphericalHarmonics(num_degrees)(torch.tensor(lonlat, dtype=getattr(torch, dtype)))
        error = float(np.abs(ours.numpy() - compute_reference(lonlat, num_degrees)).max())
        rows.append(
            {"num_degrees": num_degrees, "dtype": dtype, "largest_error": float(f"{error:.2e}")}
        )
        what = f"harmonics against SciPy, L = {num_degrees}, {dtype}"
        bars.append(Bar(what, f"{bar:.0e}", f"{error:.1e}", error < bar))
    result = {"num_points": len(lonlat), "rows": rows}
    save_result("harmonics", result, bars=bars, packages=["torch", "scipy"])


if __name__ == "__main__":
    main()
