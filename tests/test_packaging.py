"""One truth for versions: pyproject.toml, requirements, lock and environment agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, requires, version

import pytest
import yaml
from cells import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
    if not line.startswith(PROJECT["name"])  # an extra that contains another
]
TABLES = """
import sys
from importlib.metadata import packages_distributions

unwanted = set(sys.argv[1].split())
hidden = {m for m, found in packages_distributions().items() if unwanted.issuperset(found)}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hide())
import numpy as np, pandas as pd
from satclip_lib import LocationEncoder, LocationEncoderConfig, embed, save_pretrained
from satclip_lib.cli import main
from satclip_lib.embedding.sklearn import LocationEmbedder

config = LocationEncoderConfig(num_degrees=3, hidden_dim=4, embed_dim=4)
save_pretrained(LocationEncoder(config), "model")
table = pd.DataFrame({"lon": [2.35, 139.69], "lat": [48.86, 35.69]})
table.to_csv("points.csv", index=False)
assert embed(table, "model").shape[0] == 2
assert LocationEmbedder("model").fit_transform(table[["lon", "lat"]]).shape == (2, 4)
for command in (
    "info model",
    "embed points.csv -o out.parquet --model model",
    "grid --model model --resolution 30 -o globe.zarr",
    "grid --model model --resolution 30 -o globe.tif",
):
    assert main(command.split()) == 0, command
"""


def _read_lines(name: str) -> list[str]:
    """Lines of a list of requirements that are no comments."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_lock_pins_every_requirement(requirement):
    """Each requirement of pyproject.toml is pinned, within its bounds, and installed so."""
    pins = (line.split("==") for line in _read_lines("requirements.lock"))
    of_name = {canonicalize_name(name): pin for name, pin in pins}
    pin = of_name[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)
    assert version(requirement.name).split("+")[0] == pin


def test_lock_lets_pip_choose_the_torch_build():
    """No local versions, hashes or CUDA packages, which would tie the lock to one machine."""
    text = "\n".join(_read_lines("requirements.lock"))
    assert not re.search(r"\+cpu|sha256|nvidia|triton|file:|@", text)


def test_conda_environment_is_built_on_the_same_pins():
    """environment.yml installs requirements.txt under requirements.lock, like the Makefile."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-c requirements.lock"]}
    (python,) = [name.split("=")[1] for name in conda if name.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert "-r requirements.txt -c requirements.lock" in (ROOT / "Makefile").read_text()


def test_requirements_name_no_versions():
    """requirements.txt is the project with its extras, and nothing that could contradict it."""
    assert _read_lines("requirements.txt") == ["-e .[research,dev]"]


def _collect(group: str) -> set[str]:
    """Names of what an extra installs, with all that it brings along."""
    extras = PROJECT["optional-dependencies"]
    waiting = [Requirement(line) for line in PROJECT["dependencies"] + extras[group]]
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            needed = [Requirement(line) for line in requires(name) or []]
            waiting += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": ""})]
    return found


def test_the_extra_for_tables_is_enough_for_tables(tmp_path):
    """Pandas, scikit-learn, grids and the command line work without the rest of `research`."""
    installed = {canonicalize_name(found.name) for found in distributions()}
    unwanted = installed - _collect("tables") - {canonicalize_name(PROJECT["name"])}
    assert {"matplotlib", "lightning", "jupyterlab"} <= unwanted
    ran = subprocess.run(
        [sys.executable, "-c", TABLES, " ".join(sorted(unwanted))],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out.parquet").is_file() and (tmp_path / "globe.tif").is_file()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_source_is_valid_in_every_declared_python(python):
    """Each Python that we declare, where it is at hand, can read all of the package."""
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    program = (
        "import pathlib, sys\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*.py'):\n"
        "    compile(path.read_text(), path, 'exec')\n"
        "print('%d.%d' % sys.version_info[:2])"
    )
    interpreter = shutil.which(f"python{python}")
    if interpreter is None:
        pytest.skip(f"no python{python} at hand")
    read = subprocess.run(
        [interpreter, "-W", "error", "-c", program, ROOT / "satclip_lib"],
        capture_output=True,
        text=True,
    )
    if "pyenv" in read.stderr:
        pytest.skip(f"python{python} is not switched on")
    assert read.stdout.strip() == python, read.stderr
