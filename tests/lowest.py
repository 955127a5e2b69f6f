"""Do the lower bounds in pyproject.toml hold? ``python tests/lowest.py``, with a package index.

Installs the light core at its lowest versions, torch apart unless ``--torch`` is given, into an
environment of its own, and runs the core's tests there.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("spherical_harmonics", "location_encoder", "loss", "model", "store", "published")
TOOLS = ("pytest", "hypothesis", "beartype", "scipy")  # what these tests need beside the core


def find_lowest(*, with_torch: bool) -> list[str]:
    """The lower bounds, with the fixes that were made to these versions; torch as locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    core, *others = (
        [Requirement(line) for line in group]
        for group in (project["dependencies"], optional["research"], optional["dev"])
    )
    tools = [requirement for group in others for requirement in group if requirement.name in TOOLS]
    lowest = {r.name: next(iter(r.specifier)).version for r in core + tools}
    if not with_torch:
        lock = (ROOT / "requirements.lock").read_text().splitlines()
        lowest["torch"] = next(line for line in lock if line.startswith("torch==")).split("==")[1]
    return [f"{name}=={version}.*" for name, version in lowest.items()]


def main() -> None:
    """Install and test; the exit code is that of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="torch at its lowest too, a large one")
    requirements = find_lowest(with_torch=parser.parse_args().torch)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        subprocess.run([python, "-m", "pip", "install", "--no-deps", "-q", ROOT], check=True)
        subprocess.run([python, "-m", "pip", "freeze"], check=True)
        files = [ROOT / "tests" / f"test_{name}.py" for name in TESTS]
        done = subprocess.run(
            [python, "-m", "pytest", "-q", "-W", "default", *files], cwd=ROOT, check=False
        )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
