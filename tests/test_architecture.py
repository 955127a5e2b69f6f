"""The package keeps to its plan: imports point one way, one list is public, nothing is executed."""

import ast
import graphlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import satclip_lib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "satclip_lib"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# What each part must not import, neither at its head nor inside a function. What stands in no
# row, the modules at the top of the package that use a model, may import all but the last.
FORBIDDEN = {
    "spherical_harmonics": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "location_encoder": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "image_encoder": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "loss": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "tiled_loss": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "model": ["data", "training", "evaluation", "plotting", "checkpoint"],
    "checkpoint": ["data", "training", "evaluation", "plotting"],
    "data": ["training", "evaluation", "plotting", "model"],
    "training": ["evaluation", "plotting"],
    "evaluation": ["training", "plotting"],
    "plotting": ["training"],
    "": ["notebooks", "cli"],  # where programs start: nothing imports them
}
# Calls that run what they read.
DANGEROUS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load",
    "pickle.loads", "pd.read_pickle", "joblib.load", "marshal.loads", "shelve.open",
    "yaml.load", "yaml.unsafe_load",
}  # fmt: skip


def find_imports(tree: ast.AST, *, at_head_only: bool = False) -> Iterator[str]:
    """Names of our own modules that a module imports."""
    nodes = tree.body if at_head_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name and name != "satclip_lib":
                yield name


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    """No part imports one that comes after it: see 'How it is built' in the README."""
    modules = [name for name in MODULES if f"{name}.".startswith(f"satclip_lib.{part}")]
    assert modules, f"{part} is gone: take it out of FORBIDDEN"
    wrong = {
        f"{name} imports {imported}"
        for name in modules
        for imported in find_imports(ast.parse(MODULES[name].read_text()))
        if imported.split(".")[1] in FORBIDDEN[part] and not name.endswith("__main__")
    }
    assert not wrong


def test_no_circles():
    """Modules can be read in an order in which each needs only those before it."""
    graph = {
        name: set(find_imports(ast.parse(path.read_text()), at_head_only=True)) - {name}
        for name, path in MODULES.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES) - 1


def test_public_names_are_documented_and_type_checked():
    """Each name of `satclip_lib.__all__` exists, says what it is, and is under strict types."""
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    for name in satclip_lib.__all__:
        member = getattr(satclip_lib, name)
        assert member.__doc__ and len(member.__doc__) > 40, name
        path = MODULES[member.__module__].relative_to(ROOT).as_posix()
        assert any(path == entry or path.startswith(f"{entry}/") for entry in checked), path
    assert set(satclip_lib.__all__) <= set(dir(satclip_lib))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = satclip_lib.nothing


@pytest.mark.parametrize("name", MODULES)
def test_nothing_that_is_read_is_run(name):
    """No eval, no exec, no shell, and no unpickling but by the reader that refuses all code."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert called not in DANGEROUS, f"{called} in line {node.lineno}"
            assert options.get("allow_pickle", "False") == "False"
            assert options.get("shell", "False") == "False"
            if called == "torch.load":
                assert options.get("weights_only") == "True"
        elif isinstance(node, ast.Import) and any(a.name == "pickle" for a in node.names):
            assert name == "satclip_lib.checkpoints.published"


def test_no_secrets_and_no_paths_of_one_machine():
    """Nothing tracked by git looks like a key, or like a folder of somebody's computer."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    secret = re.compile(
        r"hf_[A-Za-z]{20}|gh[pousr]_\w{30}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
        r"|/home/\w+/|/Users/\w+/|C:\\\\Users"
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".ipynb", ".json", ".yaml", ".toml", ".cff", ".cfg", ""):
            if path.is_file() and path != Path(__file__):
                found = secret.search(path.read_text(errors="ignore"))
                assert found is None, f"{name}: {found[0]}"
