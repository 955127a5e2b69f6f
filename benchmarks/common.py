"""Shared by the benchmarks: bars, result files, and timing."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from satclip_lib.files import write_text

RESULTS = Path(__file__).parent / "results"


class Bar(NamedTuple):
    """One row of the table in ``RESULTS.md``.

    Attributes:
        what: What was measured.
        bar: Goal that it has to reach; empty if there is none.
        measured: Measured value.
        holds: Whether the bar is reached; None if it could not be measured;
            "level" if the 95 % interval of a difference has zero in it.
    """

    what: str
    bar: str
    measured: str
    holds: bool | str | None


def save_result(
    name: str, result: dict[str, Any], *, bars: Sequence[Bar], packages: Sequence[str] = ("torch",)
) -> None:
    """Write ``results/<name>.json``: machine and versions, what was measured, and the bars."""
    about = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
    rows = [bar._asdict() for bar in bars]
    content = about | result | {"bars": rows}
    text = json.dumps(content, indent=2, ensure_ascii=False, default=lambda x: x.item())  # NumPy's
    write_text(RESULTS / f"{name}.json", text + "\n")


def load_result(name: str) -> dict:
    """Result of a script, by its name; an empty dictionary if it has not run yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def time_once(run: Callable[[], Any]) -> tuple[Any, float]:
    """Result of a function, and the seconds it took."""
    start = time.perf_counter()
    returned = run()
    return returned, time.perf_counter() - start


def time_in_turns(
    contenders: dict[str, Callable[[], Any]], *, num_rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each of several rounds, in which all run one after another."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(num_rounds):
        for name, run in contenders.items():
            seconds[name].append(time_once(run)[1])
    return seconds


def run_fresh(code: str, *arguments: Any, **environment: str) -> list[float]:
    """Run code in a new Python process; return the numbers in the last line that it prints."""
    output = subprocess.check_output(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"SATCLIP_PROGRESS": "0"} | environment,
        text=True,
    )
    return [float(word) for word in output.splitlines()[-1].split()]


def draw_on_sphere(num_points: int, *, seed: int = 0) -> np.ndarray:
    """Locations uniform on the sphere, ``(num_points, 2)`` degrees."""
    rng = np.random.default_rng(seed)
    lon, sine = rng.uniform(-180, 180, num_points), rng.uniform(-1, 1, num_points)
    return np.stack([lon, np.degrees(np.arcsin(sine))], axis=1)


def replace_marked(page: Path, marks: tuple[str, str], text: str) -> str:
    """The content of a page with a new text between two marks, each of which is in it once.

    Raises:
        ValueError: If the page does not have each mark once.
    """
    parts = re.split("|".join(map(re.escape, marks)), page.read_text())
    if len(parts) != 3:
        raise ValueError(f"{page.name} should have {marks[0]} ... {marks[1]} once")
    return f"{parts[0]}{marks[0]}{text}{marks[1]}{parts[2]}"


def to_markdown(rows: Iterable[dict[str, str]]) -> str:
    """A table in Markdown, with a column per key of the first row; a | in a cell is escaped."""
    rows = list(rows)
    cells = [[cell.replace("|", r"\|") for cell in row.values()] for row in rows]
    lines = [rows[0].keys(), ["---"] * len(rows[0]), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace(" --- ", "---")
