"""Compare the numbers of figures made on this machine with the committed ones.

``make verify`` makes the figures and compares the numbers in them with
``benchmarks/expected/<profile>.json``. ``make expected`` writes that file, and the table in
``REPRODUCING.md``, from the figures that are there.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import nbformat
import pandas as pd
import torch
from common import replace_marked, to_markdown

from satclip_lib.files import Workspace, write_text
from satclip_lib.plotting.figures import FIGURES

ROOT = Path(__file__).resolve().parents[1]
REPRODUCING = ROOT / "REPRODUCING.md"
MARKS = ("<!-- made by `make expected` -->\n", "<!-- end -->\n")
# A choice, not measured: seeds are fixed, so one machine repeats its numbers to the last digit, but
# other processors and library versions round differently, and training amplifies that.
ABSOLUTE_TOLERANCE = 0.03
RELATIVE_TOLERANCE = 0.02
MANY_ROWS = 1000  # longer tables are compared by their means
NOT_COMPARED = ("epoch", "seconds")  # and the coordinates of UMAP planes, see below


def collect_numbers(workspace: Workspace) -> dict[str, dict[str, float]]:
    """Numbers in the table behind each figure, by figure and by a description of the number."""
    numbers = {}
    for figure_id in FIGURES:
        path = workspace.figures / f"{figure_id}.csv"
        if path.is_file():
            numbers[figure_id] = summarise(pd.read_csv(path))
    return numbers


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """The numbers of a table that are compared, by description.

    These are every cell of a table with names in its rows, the last row of a table without names,
    and the means of a table with more than ``MANY_ROWS`` rows. Coordinates of UMAP planes are left
    out: the position of islands depends on the last digit.
    """
    measured = [
        name
        for name in table.select_dtypes("number")
        if name not in NOT_COMPARED and name.split()[-1] not in ("x", "y")
    ]
    names = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if len(table) > MANY_ROWS:
        means = table[measured].mean()
        return {"places": float(len(table))} | {f"mean {k}": float(v) for k, v in means.items()}
    if not names:
        return {f"last {name}": float(table[name].iloc[-1]) for name in measured}
    return {
        ", ".join([*(str(row[name]) for name in names), column]): float(row[column])
        for _, row in table.iterrows()
        for column in measured
        if pd.notna(row[column])
    }


def compare(
    expected: dict[str, dict[str, float]], found: dict[str, dict[str, float]]
) -> tuple[list[str], list[str], int]:
    """Compare numbers.

    Returns:
        Sentences about numbers beyond the tolerance, sentences about expected numbers that are
        absent, and how many numbers agree.
    """
    off, absent, num_agreeing = [], [], 0
    for figure_id, numbers in expected.items():
        for what, value in numbers.items():
            here = found.get(figure_id, {}).get(what)
            if here is None:
                absent.append(f"{figure_id}: {what} was not measured here")
            elif abs(here - value) <= tolerance(value):
                num_agreeing += 1
            else:  # NaN, too
                off.append(
                    f"{figure_id}: {what} is {_format(here)}, expected {_format(value)} "
                    f"± {_format(tolerance(value))}"
                )
    return off, absent, num_agreeing


def tolerance(value: float) -> float:
    """Largest difference from an expected number that is accepted."""
    return max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * abs(value))


def _format(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def time_notebooks(workspace: Workspace) -> dict[str, float]:
    """Seconds that each executed notebook took."""
    return {
        path.stem: round(nbformat.read(path, as_version=4).metadata.papermill.duration, 1)
        for path in sorted(workspace.build.glob("[0-9]*.ipynb"))
        if "failed" not in path.name
    }


def make_table(expected: dict) -> str:
    """The table of REPRODUCING.md: per figure the notebook, the time and some of the numbers."""
    machine, rows = expected["machine"], []
    for figure_id, numbers in expected["numbers"].items():
        notebook = FIGURES[figure_id].notebook
        telling = [what for what in numbers if "SatCLIP" in what and "linear" in what]
        shown = [
            f"{what}: {_format(numbers[what])} ± {_format(tolerance(numbers[what]))}"
            for what in (telling or list(numbers))[:8]
        ]
        more = [f"and {len(numbers) - len(shown)} more"] if len(numbers) > len(shown) else []
        row = {
            "figure": f"`{figure_id}`",
            "notebook, seconds": f"{notebook}, {expected['seconds'].get(notebook, 'not timed')}",
            "numbers in it, some of them": "<br>".join([*shown, *more])
            or "none but of a UMAP plane",
        }
        rows.append(row)
    return (
        f"Measured on {machine['cores']} cores ({machine['processor']}), Python "
        f"{machine['python']}, torch {machine['torch']}, profile {expected['profile']}. "
        "`make figures/NAME.png` makes one figure.\n\n"
        f"{to_markdown(rows)}\n"
    )


def update(workspace: Workspace, path: Path) -> None:
    """Write the present numbers as the expected ones, and for the demo profile the table."""
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    expected = {
        "profile": workspace.profile,
        "machine": machine,
        "seconds": time_notebooks(workspace),
        "numbers": {
            figure: {what: float(f"{value:.6g}") for what, value in numbers.items()}
            for figure, numbers in collect_numbers(workspace).items()
        },
    }
    write_text(path, json.dumps(expected, indent=1) + "\n")
    if workspace.profile == "demo":
        text = replace_marked(REPRODUCING, MARKS, make_table(expected))
        write_text(REPRODUCING, text)


def main() -> None:
    """Compare, or update what is expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--update", action="store_true", help="replace the expected numbers")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.profile)
    path = Path(__file__).parent / "expected" / f"{arguments.profile}.json"
    if arguments.update:
        update(workspace, path)
        return
    if not path.is_file():
        sys.exit(f"nothing is expected of profile {arguments.profile!r}: `make expected` first")
    expected = json.loads(path.read_text())["numbers"]
    off, absent, num_agreeing = compare(expected, collect_numbers(workspace))
    print("\n".join([*absent, *off]))
    print(f"{num_agreeing} numbers agree, {len(off)} are off, {len(absent)} are absent")
    if off or not num_agreeing:
        sys.exit(1)


if __name__ == "__main__":
    main()
