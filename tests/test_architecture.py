"""The package keeps to its plan: imports point one way, one list is public, nothing is executed."""

import ast
import graphlib
import re
import subprocess
import sys
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
METHOD = ("spherical_harmonics", "location_encoder", "image_encoder", "model", "loss")
# What each room may import beside itself and the ground floor; inside functions as well.
GROUND = ("sphere", "files", "progress")
ROOMS = {
    "sphere": METHOD,
    "files": ("progress",),
    "progress": (),
    "fast": METHOD,
    "checkpoints": (*METHOD, *GROUND),
    "data": (*METHOD, *GROUND),
    "embedding": (*METHOD, *GROUND, "fast", "checkpoints", "data"),
    "training": (*METHOD, *GROUND, "fast", "checkpoints", "data", "embedding"),
    "evaluation": (*METHOD, *GROUND, "fast", "checkpoints", "data", "embedding"),
    "plotting": (*METHOD, *GROUND, "checkpoints", "data", "embedding", "evaluation"),
}
METHOD_PACKAGES = {"torch", "numpy", "jaxtyping"}
# Calls that run what they read.
DANGEROUS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load",
    "pickle.loads", "pd.read_pickle", "joblib.load", "marshal.loads", "shelve.open",
    "yaml.load", "yaml.unsafe_load",
}  # fmt: skip


def find_imports(tree: ast.AST) -> Iterator[str]:
    """Full names that a module imports, at its head or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_own_imports(source: str) -> set[str]:
    """Our own modules among them."""
    found = set()
    for name in find_imports(ast.parse(source)):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} - {"", "satclip_lib"}
    return found


def room_of(name: str) -> str:
    """The room of a module, a folder or a file at the top of the package."""
    return name.split(".")[1] if "." in name else ""


def find_trespassers(modules: dict[str, str]) -> set[str]:
    """Imports that the plan of rooms does not allow; ``modules`` maps names to source code."""
    return {
        f"{name} imports {imported}"
        for name, source in modules.items()
        if room_of(name) in (*METHOD, *ROOMS)
        for imported in find_own_imports(source)
        if room_of(imported) not in (room_of(name), *ROOMS.get(room_of(name), METHOD))
    }


def find_circle(modules: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, none if they can be read in an order."""
    graph = {name: find_own_imports(source) - {name} for name, source in modules.items()}
    # A package's own __init__ runs before its modules and may name them.
    graph = {n: {i for i in imported if not n.startswith(f"{i}.")} for n, imported in graph.items()}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


SOURCES = {name: path.read_text() for name, path in MODULES.items()}


def test_rooms_import_what_lies_below_them():
    """Imports point one way, inside functions too: see 'How it is built' in the README."""
    assert {room_of(name) for name in SOURCES} == {"", "cli", *METHOD, *ROOMS}
    assert not find_trespassers(SOURCES)


def test_no_circles():
    """Modules can be read in an order in which each needs only those before it."""
    assert not find_circle(SOURCES)


@pytest.mark.parametrize("indent", ["", "def f():\n    "])
def test_trespassers_and_circles_are_seen(indent):
    """The two tests above can fail: also for an import inside a function."""
    wrong = SOURCES | {"satclip_lib.loss": f"{indent}from satclip_lib.data import land"}
    assert find_trespassers(wrong) == {"satclip_lib.loss imports satclip_lib.data.land"}
    wrong = SOURCES | {"satclip_lib.sphere": f"{indent}import satclip_lib.data.land as sea"}
    wrong |= {"satclip_lib.data.land": "from satclip_lib.sphere import compute_block_ids"}
    assert set(find_circle(wrong)) == {"satclip_lib.sphere", "satclip_lib.data.land"}


@pytest.mark.parametrize("name", [name for name in SOURCES if room_of(name) in METHOD])
def test_the_method_needs_torch_alone(name):
    """Beside Python's own library and itself it imports torch, numpy and jaxtyping."""
    packages = {n.split(".")[0] for n in find_imports(ast.parse(SOURCES[name]))}
    foreign = packages - set(sys.stdlib_module_names) - METHOD_PACKAGES - {"satclip_lib"}
    assert not foreign


def test_nothing_installed_knows_the_checkout():
    """No module imports tools, tests, benchmarks or docs; two places look for files beside it."""
    outside = {"tools", "tests", "benchmarks", "docs"}
    looking = {name for name, source in SOURCES.items() if re.search(r"__file__.*parents", source)}
    assert looking == {"satclip_lib.data.registry", "satclip_lib.evaluation.summary"}
    for name, source in SOURCES.items():
        assert not outside & {n.split(".")[0] for n in find_imports(ast.parse(source))}, name


def test_the_top_of_the_package_is_small():
    """At most 16 entries beside ``__init__``, and the method's files stay short."""
    entries = {room_of(name) for name in SOURCES} - {""}
    assert len(entries) <= 16
    read = ("spherical_harmonics", "location_encoder", "image_encoder.base", "model", "loss")
    assert sum(len(SOURCES[f"satclip_lib.{name}"].splitlines()) for name in read) <= 700


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
