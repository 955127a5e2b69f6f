"""One truth for versions: pyproject.toml, requirements, lock and environment agree."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
]


def _read_lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pins}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_lock_pins_every_requirement(requirement):
    """Each requirement of pyproject.toml is pinned, within its bounds, and installed so."""
    pin = _read_lock()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)
    assert version(requirement.name).split("+")[0] == pin


def test_lock_lets_pip_choose_the_torch_build():
    """No local versions, hashes or CUDA packages, which would tie the lock to one machine."""
    text = "\n".join(
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    )
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
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-e .[research,dev]"]


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
