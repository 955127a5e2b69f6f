"""One table of all bars: ``python benchmarks/report.py`` writes it into ``benchmarks/RESULTS.md``.

Every number is read from ``benchmarks/results/*.json``; what stands around the table is prose.
``--check`` only says whether the table is up to date.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from satclip_lib.files import write_atomically
from satclip_lib.plotting.figures import FIGURES

FOLDER = Path(__file__).parent
PAGE = FOLDER / "RESULTS.md"
MARKS = "<!-- made by benchmarks/report.py -->", "<!-- end -->"
HOLDS = {True: "yes", False: "**no**", None: "not measured"}

Row = tuple[str, str, str, bool | None]  # what, bar, measured, whether it holds
# Ours was chosen among variants by the scores of the first; the others played no part in that.
SEEDS = {"3 seeds, chosen by them": (0, 1, 2), "3 other seeds": (3, 4, 5)}


def load(name: str) -> Any:
    """One result."""
    return json.loads((FOLDER / "results" / f"{name}.json").read_text())


def list_rows() -> Iterator[tuple[str, Row]]:
    """All bars, each with the script that measured it."""
    for name, list_bars in BARS.items():
        if (FOLDER / "results" / f"{name}.json").is_file():
            for row in list_bars(load(name)):
                yield name, row


def list_main_job_bars(result: dict) -> Iterator[Row]:
    """`make figures`."""
    first, again = result["first"], result.get("again", {})
    same, offline = result.get("same_seed", {}), result.get("offline", {})
    minutes = first["seconds"] / 60
    num_figures = sum(f"{name}.png" in result["figures"] for name in FIGURES)
    yield (
        f"`make figures` from a clean clone, set-up included, {num_figures} figures",
        "15 min",
        f"{minutes:.1f} min",
        first["exit"] == 0 and minutes <= 15,
    )
    yield "its peak memory", "6 GB", f"{first['peak_gb']} GB", first["peak_gb"] < 6
    seconds = first["figures_s"]
    yield "its notebooks after training", "5 min", f"{seconds / 60:.1f} min", seconds <= 300
    if again:
        yield "a second call", "5 s", f"{again['seconds']} s", again["seconds"] < 5
    if same:
        yield (
            "one seed twice: files of figures and their data that are the same to the last bit",
            "all",
            f"{len(same['identical'])} of {len(same['identical']) + len(same['different'])}",
            not same["different"],
        )
    if offline:
        yield (
            "without network and label files: tasks in the table",
            "3",
            f"{len(offline['tasks'])} (exit {offline['exit']}, {offline['figures']} figures)",
            offline["exit"] == 0 and len(offline["tasks"]) == 3,
        )


def list_harmonics_bars(result: dict) -> Iterator[Row]:
    """Largest errors against SciPy."""
    for row in result["rows"]:
        what = f"harmonics against SciPy, L = {row['num_degrees']}, {row['dtype']}"
        yield what, f"{row['bar']:.0e}", f"{row['largest_error']:.1e}", row["holds"]


def list_load_bars(result: dict) -> Iterator[Row]:
    """Loading, and float32."""
    for what, row in result["times"].items():
        yield f"{what}, after torch", f"{row['bar_s']} s", f"{row['median_s']:.2f} s", row["holds"]
    for degrees, row in result["float32_against_float64"].items():
        yield (
            f"float32 embeddings of {row['num_points']:,} points against float64, {degrees}",
            f"{row['bar']:.0e}",
            f"{row['largest_relative_difference']:.1e}",
            row["holds"],
        )


def list_patch_store_bars(result: dict) -> Iterator[Row]:
    """The store of patches."""
    bars, holds = result["bars"], result["holds"]
    speedup, size = result["reading"]["speedup"], result["size"]["size_ratio"]
    peak = max(row["peak_gb"] for row in result["features"])
    yield (
        "shuffled batches, store over tifs",
        f"{bars['speedup']}x",
        f"{speedup}x",
        holds["speedup"],
    )
    yield "numbers equal to the last bit", "yes", "yes", holds["equal"]
    yield (
        "size of the store over that of the tifs",
        f"{bars['size_ratio']}",
        f"{size}",
        (holds["size_ratio"]),
    )
    yield "memory while features are built", f"{bars['peak_gb']} GB", f"{peak} GB", holds["peak_gb"]


def list_pretraining_bars(result: dict) -> Iterator[Row]:
    """Speed of training, per machine."""
    for machine, entry in result.items():
        for step in entry["one_step"]:
            share = step["share_of_matmul_rate"]
            yield (
                f"one step, L = {step['num_degrees']}, batch {entry['batch_size']:,}, "
                f"{step['dtype']}, share of the matrix product's rate ({machine})",
                "0.5" if step["num_degrees"] == 10 else "",
                f"{share} ({step['speedup_over_textbook']}x the textbook step)",
                share >= 0.5 if step["num_degrees"] == 10 else None,
            )
        for recipe in entry["full_recipe"]:
            minutes = recipe["projected_minutes_of_full_recipe"]
            yield (
                f"full recipe, L = {recipe['num_degrees']}, {recipe['dtype']}, from "
                f"{recipe['measured_epochs']} epochs",
                "60 min" if machine.startswith("cpu") else "1 min",
                f"{minutes} min (matrix products alone: {recipe['minutes_at_matmul_rate']} min)",
                minutes <= (60 if machine.startswith("cpu") else 1),
            )
        if ratio := entry.get("cached_over_per_step_backbone"):
            yield "cached training over a ResNet18 step", "100x", f"{ratio}x", ratio >= 100
    if not any("bfloat16" in step["dtype"] for e in result.values() for step in e["one_step"]):
        yield "bfloat16 over float32", "2x", "no machine with bfloat16 at hand", None
    if all(machine.startswith("cpu") for machine in result):
        yield "full recipe on a GPU", "1 min", "no GPU at hand", None


def list_ablation_bars(result: dict) -> Iterator[Row]:
    """What training is worth."""
    rows = pd.concat(
        pd.DataFrame(run["scores"]).assign(variant=run["variant"], seed=run["seed"])
        for run in result["runs"]
    )
    by_task = average_seeds(rows, ["paper L=10", "untrained L=10"])
    gain = by_task["paper L=10"] - by_task["untrained L=10"]
    for task, protocol, bar in (
        ("elevation", "blocks", 0.05),
        ("climate_zone", "Africa", 0.15),
        ("air_temperature", "random", -0.03),
        ("biome", "random", -0.03),
    ):
        what = f"trained over untrained, L = 10, {task.replace('_', ' ')}, {protocol}"
        found = gain[task, protocol]
        yield what, f"{bar:+}", f"{found:+.3f}", found >= bar
    for title, seeds in SEEDS.items():
        by_task = average_seeds(rows[rows.seed.isin(seeds)], ["ours", "paper L=10"])
        means = by_task.groupby("protocol").mean()
        for protocol in ("random", "blocks", "continents"):
            ours, paper = means.loc[protocol, "ours"], means.loc[protocol, "paper L=10"]
            what = f"L = 40 damped over L = 10, {protocol}, mean over tasks, {title}"
            yield what, f"> {paper:.3f}", f"{ours:.3f}", ours > paper


def average_seeds(rows: pd.DataFrame, variants: list[str]) -> pd.DataFrame:
    """Mean score by task and protocol of some variants, over the seeds that all of them have."""
    seeds = set.intersection(*(set(rows[rows.variant == name].seed) for name in variants))
    rows = rows[rows.variant.isin(variants) & rows.seed.isin(seeds)]
    return rows.pivot_table(index=["task", "protocol"], columns="variant", values="score")


def list_downstream_bars(result: dict) -> Iterator[Row]:
    """The benchmark of tasks."""
    for name in ("tasks", "baselines", "protocols", "seeds"):
        count = result["counts"][name]
        yield (
            f"downstream benchmark: {name}",
            f"{result['bars'][name]}",
            f"{count}",
            (result["holds"][name]),
        )
    minutes, cached = result["minutes"], result["minutes_with_the_cache"]
    yield "its time", "10 min", f"{minutes} min, again {cached} min", result["holds"]["minutes"]
    scores = pd.read_csv(FOLDER / "results" / "downstream.csv")
    scores = scores[scores.protocol == "continents"].pivot(
        index="task", columns="encoder", values="score"
    )
    for num_degrees in (10, 40):
        won = scores[f"SatCLIP L={num_degrees}"] > scores[f"untrained L={num_degrees}"]
        yield (
            f"trained beats untrained on held-out continents, L = {num_degrees}",
            "6 of 8 tasks",
            f"{won.sum()} of {len(won)}",
            won.sum() * 8 >= 6 * len(won),
        )


def list_atlas_bars(result: dict) -> Iterator[Row]:
    """The atlas."""
    umap, atlas = result["umap"], result["atlas"]
    what = f"UMAP of {result['num_points']:,} points"
    yield (
        what,
        f"{umap['bar_s']:.0f} s",
        f"{umap['seconds']} s (umap-learn as it comes: {umap['plain_umap_s']} s)",
        umap["holds"],
    )
    yield "size of the atlas", f"{atlas['bar_mb']:.0f} MB", f"{atlas['size_mb']} MB", atlas["holds"]


def list_embedding_bars(result: dict) -> Iterator[Row]:
    """Locations per second."""
    fine, holds = result["L=40"], result["holds"]
    globe = result["globe, 0.25 degrees, L=40"]
    grid, peer = "grid twice as fast as scattered", "harmonics no slower than sphericart-torch"
    yield (
        "scattered, L = 40, float32, share of the bound",
        "0.6",
        f"{fine['share of the bound, scattered']}",
        holds["scattered at 60 % of the bound"],
    )
    float32, float64 = (
        fine[f"harmonics, {dtype} / sphericart-torch, float64"] for dtype in ("float32", "float64")
    )
    yield (
        "harmonics, L = 40, rate over sphericart-torch's in float64",
        "1",
        f"{float32} in float32, {float64} in float64",
        holds[peer],
    )
    yield (
        "grid over scattered, locations per second",
        "2x",
        f"{fine['grid / scattered']}x",
        holds[grid],
    )
    difference = fine["largest difference of grid and scattered"]
    yield (
        "grid against scattered",
        "1e-05",
        f"{difference:.0e}",
        (holds["grid equals scattered to 1e-5"]),
    )
    yield "0.25-degree globe to Zarr", "40 s", f"{globe['seconds']} s", holds["globe in 40 s"]
    yield "its memory", "2 GiB", f"{globe['peak memory, GiB']} GiB", holds["globe in 2 GiB"]


def list_uncertainty_bars(result: dict) -> Iterator[Row]:
    """Whether uncertainty says something."""
    for what, holds in result["holds"].items():
        yield f"{what}, last fifth over first", "yes", "yes" if holds else "no", holds


BARS = {
    "main_job": list_main_job_bars,
    "harmonics": list_harmonics_bars,
    "load": list_load_bars,
    "patch_store": list_patch_store_bars,
    "pretrain": list_pretraining_bars,
    "ablations": list_ablation_bars,
    "downstream": list_downstream_bars,
    "atlas": list_atlas_bars,
    "embed": list_embedding_bars,
    "uncertainty": list_uncertainty_bars,
}


def make_table() -> str:
    """The table in Markdown."""
    lines = ["| what | bar | measured | holds | by |", "|---|---|---|---|---|"]
    for name, (what, bar, measured, holds) in list_rows():
        lines.append(
            f"| {what} | {bar} | {measured} | {HOLDS[holds] if bar else ''} | `{name}.py` |"
        )
    return "\n".join(lines)


def put_table(page: str) -> str:
    """The page with the table of now."""
    start, end = MARKS
    pattern = re.escape(start) + ".*?" + re.escape(end)
    if not re.search(pattern, page, flags=re.S):
        raise ValueError(f"{PAGE.name} has no {start} ... {end}")
    return re.sub(pattern, lambda _: f"{start}\n{make_table()}\n{end}", page, flags=re.S)


def main() -> None:
    """Update the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    page = PAGE.read_text()
    updated = put_table(page)
    if parser.parse_args().check:
        sys.exit(updated != page and f"{PAGE.name} is out of date: run benchmarks/report.py")
    with write_atomically(PAGE) as scratch:
        scratch.write_text(updated)


if __name__ == "__main__":
    main()
