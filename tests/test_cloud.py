"""What is promised for Binder and Colab: addresses lead somewhere, and the commands work."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cloud.md").read_text()


def test_named_notebooks_are_there():
    """The notebook for Binder, and those that the commands run, exist; no address is made up."""
    named = re.findall(r"notebooks/(\w+)\.ipynb|tools\.run_notebook (\w+)", PAGE)
    assert len(named) == 4
    for path, name in named:
        assert (ROOT / "notebooks" / f"{path or name}.ipynb").is_file()
    assert "OWNER" not in PAGE + (ROOT / "README.md").read_text()


def test_binder_reads_what_is_there():
    """Its requirements are ours, its Python is one we declare, its build runs our notebooks."""
    folder = ROOT / ".binder"
    for line in (folder / "requirements.txt").read_text().splitlines():
        assert (folder / line.split()[1]).resolve() in (
            ROOT / "requirements.txt",
            ROOT / "requirements.lock",
        )
    assert (folder / "runtime.txt").read_text().strip() == "python-3.11"
    build = folder / "postBuild"
    assert os.access(build, os.X_OK)
    subprocess.run(["bash", "-n", build], check=True)
    notebooks = re.findall(r"-m tools\.run_notebook (\w+)", build.read_text())
    assert [name[:2] for name in notebooks] == ["01", "02"]
    assert all((ROOT / "notebooks" / f"{name}.ipynb").is_file() for name in notebooks)


@pytest.mark.slow
def test_commands_work_in_an_empty_environment(tmp_path, monkeypatch):
    """The commands for Colab, one after the other, on a clone and with nothing installed."""
    if not os.environ.get("SATCLIP_TEST_INSTALL"):
        pytest.skip("NOT RUN: set SATCLIP_TEST_INSTALL=1, with a package index and some minutes")
    (commands,) = re.findall(r"```bash\n(.+?)```", PAGE, flags=re.S)
    commands = commands.replace("$REPOSITORY", f"file://{ROOT}")
    venv.create(tmp_path / "env", with_pip=True)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SATCLIP_HOME")}
    path = f"{tmp_path / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", commands], cwd=tmp_path, env=kept | {"PATH": path}, check=True
    )
    assert (tmp_path / "satclip" / "build" / "smoke" / "00_quickstart.ipynb").is_file()


def test_a_plain_install_has_everything(tmp_path):
    """A wheel holds labels, the registry and the plotting style, and nothing of the checkout."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"  # setuptools leaves its scratch files beside what it builds
    for folder in ("satclip_lib", "tools", "docs", "benchmarks"):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert sorted(top.split("-")[0] for top in tops) == ["satclip_lib", "satclip_lib"]
    program = (
        "from satclip_lib.data.registry import load_registry\n"
        "from importlib.resources import files\n"
        "assert load_registry() and files('satclip_lib.data').joinpath('label_files').is_dir()\n"
        "assert [p for p in files('satclip_lib.plotting').iterdir() if p.name.endswith('mplstyle')]"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(wheel)},
        check=True,
    )  # fmt: skip
