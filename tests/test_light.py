"""Light use stays light: what a fresh process has imported after some work."""

import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
HEAVY = {"pandas", "sklearn", "xarray", "dask", "geopandas", "rasterio", "scipy", "zarr"}
HEAVY |= {"lightning", "cartopy", "timm", "torchvision", "matplotlib"}
# Work, what it needs, and what it must do without.
WORK = {
    "import": ("import satclip_lib", {"satclip_lib"}, {"torch", "numpy", "huggingface_hub"}),
    "load and embed": (
        "from satclip_lib import embed\n"
        "assert embed([[2.35, 48.86]]).shape == (1, 256)\n"
        "assert embed([[2.35, 48.86]], retrieval=True).shape == (1, 1156)",
        {"torch", "numpy"},
        HEAVY | {"PIL"},
    ),
    "load a Lightning file without Lightning": (
        "sys.modules['lightning'] = sys.modules['pytorch_lightning'] = sys.modules['timm'] = None\n"
        "import satclip_lib; satclip_lib.load_location_encoder(sys.argv[1])",
        {"torch"},
        HEAVY | {"requests", "httpx"},
    ),
    "ask for help": (
        "from satclip_lib import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass",
        {"embed", "grid", "similar", "localize", "info"},  # the commands
        HEAVY,
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_light_work_imports_little(name):
    """No package for data, training or maps, and none where nothing is computed."""
    work, needed, heavy = WORK[name]
    code = f"import sys\n{work}\nprint(*[name for name in sys.modules if sys.modules[name]])"
    command = [sys.executable, "-c", code, FIXTURES / "official_l10.ckpt"]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    packages = {word.partition(".")[0] for word in words}
    assert needed <= packages and not packages & heavy
