"""One table of all bars: ``python benchmarks/report.py`` writes it into ``benchmarks/RESULTS.md``.

The means of the downstream benchmark go into the README.

Every row is read from ``benchmarks/results/*.json``, where the script that measured it has put
it, or is computed from the runs there. The text around the tables is written by hand. ``--check``
changes nothing and fails if a table is out of date.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from common import Bar, load_result, replace_marked, to_markdown

from satclip_lib.files import write_text

PAGE = Path(__file__).parent / "RESULTS.md"
README = Path(__file__).parents[1] / "README.md"
MARKS = "<!-- made by benchmarks/report.py -->", "<!-- end -->"
HOLDS = {True: "yes", False: "**no**", None: "not measured", "level": "level"}
ORDER = (
    "main_job", "harmonics", "load", "patch_store", "imagery", "pretrain", "ablations",
    "downstream", "parts", "atlas", "embed", "uncertainty",
)  # fmt: skip
PROTOCOLS = {
    "random": "random folds", "blocks": "10-degree blocks", "blocks@40": "40-degree blocks",
    "continents": "held-out continents",
}  # fmt: skip
IN_README = {
    "SatCLIP L=40 + retrieval": "ours, L = 40, `retrieval=True`",
    "SatCLIP L=40": "ours, L = 40",
    "SatCLIP L=10": "the paper's recipe, L = 10",
    "untrained L=40": "untrained, L = 40",
    "GeoCLIP": "GeoCLIP, pretrained on photos",
    "TorchSpatial": "the six of TorchSpatial, pretrained, the best in each column",
    "inverse distance": "inverse-distance weighting, no encoder",
}
# Ours was chosen among variants by the scores of the first seeds, not by those of the others.
SEEDS = {"3 seeds, chosen by them": (0, 1, 2), "3 other seeds": (3, 4, 5)}


def list_bars(name: str, result: dict) -> Iterator[Bar]:
    """The bars of one result."""
    if name == "pretrain":
        yield from list_pretraining_bars(result)
        yield from list_gpu_bars(result)
    elif name == "ablations":
        yield from list_ablation_bars(result)
    else:
        yield from (Bar(**row) for row in result.get("bars", ()))


def list_pretraining_bars(result: dict) -> Iterator[Bar]:
    """Speed of training, per machine; the bars are for float32, and for the paper's L = 10."""
    for machine, entry in result.items():
        for step in entry["one_step"]:
            share = step["share_of_matmul_rate"]
            has_bar = step["dtype"] == "float32"
            yield Bar(
                f"one step, L = {step['num_degrees']}, batch {entry['batch_size']:,}, "
                f"{step['dtype']}, share of the matrix product's rate ({machine})",
                "0.65" if has_bar else "",
                f"{share} ({step['speedup_over_textbook']}x the textbook step)",
                share >= 0.65 if has_bar else None,
            )
        for recipe in entry["full_recipe"] if machine.startswith("cpu") else ():
            minutes = recipe["projected_minutes_of_full_recipe"]
            yield Bar(
                f"full recipe, L = {recipe['num_degrees']}, {recipe['dtype']}, from "
                f"{recipe['measured_epochs']} epochs ({machine})",
                "60 min" if recipe["num_degrees"] == 10 else "",
                f"{minutes} min (matrix products alone: {recipe['minutes_at_matmul_rate']} min)",
                minutes <= 60,
            )
        if ratio := entry.get("cached_over_per_step_backbone"):
            what = f"cached training over a ResNet18 step ({machine})"
            yield Bar(what, "100x", f"{ratio}x", ratio >= 100)


def list_gpu_bars(result: dict) -> Iterator[Bar]:
    """Bars of a GPU; not measured if there was none."""
    on_gpu = {name: entry for name, entry in result.items() if name.startswith("cuda")}
    what = "full recipe on a GPU, L = 10", "bfloat16 over float32", "held-out loss of the two"
    bars = "1 min", "2x", "within 1 %"
    if not on_gpu:
        yield from (Bar(*row, "no GPU at hand", None) for row in zip(what, bars, strict=True))
    for machine, entry in on_gpu.items():
        recipes = {row["dtype"]: row for row in entry["full_recipe"] if row["num_degrees"] == 10}
        slow = recipes["float32"]
        fast = recipes.get("bfloat16", slow)  # old GPUs have none
        minutes = fast["projected_minutes_of_full_recipe"]
        ratio = slow["seconds_per_epoch"] / fast["seconds_per_epoch"]
        apart = abs(fast["held_out_loss"] / slow["held_out_loss"] - 1)
        measured = f"{minutes} min", f"{ratio:.1f}x", f"{apart:.2%}"
        holds = minutes <= 1, ratio >= 2, apart <= 0.01
        if fast is slow:
            measured, holds = (measured[0], *["no bfloat16"] * 2), (holds[0], None, None)
        for title, *row in zip(what, bars, measured, holds, strict=True):
            yield Bar(f"{title} ({machine})", *row)


def list_ablation_bars(result: dict) -> Iterator[Bar]:
    """Trained against untrained, and ours against the paper's encoder."""
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
        yield Bar(what, f"{bar:+}", f"{found:+.3f}", found >= bar)
    for title, seeds in SEEDS.items():
        by_task = average_seeds(rows[rows.seed.isin(seeds)], ["ours", "paper L=10"])
        means = by_task.groupby("protocol").mean()
        for protocol in ("random", "blocks", "continents"):
            ours, paper = means.loc[protocol, "ours"], means.loc[protocol, "paper L=10"]
            what = f"L = 40 damped over L = 10, {protocol}, mean over tasks, {title}"
            yield Bar(what, f"> {paper:.3f}", f"{ours:.3f}", ours > paper)


def average_seeds(rows: pd.DataFrame, variants: list[str]) -> pd.DataFrame:
    """Mean score by task and protocol of some variants, over the seeds that all of them have."""
    seeds = set.intersection(*(set(rows[rows.variant == name].seed) for name in variants))
    rows = rows[rows.variant.isin(variants) & rows.seed.isin(seeds)]
    return rows.pivot_table(index=["task", "protocol"], columns="variant", values="score")


def make_table() -> str:
    """The table in Markdown."""
    rows = [
        bar._replace(holds=HOLDS[bar.holds] if bar.bar else "")._asdict() | {"by": f"`{name}.py`"}
        for name in ORDER
        for bar in list_bars(name, load_result(name))
    ]
    return to_markdown(rows)


def make_means() -> str:
    """Mean scores of the six zero-shot tasks for the README, nearest labels first."""
    table = pd.DataFrame(load_result("downstream")["mean_of_zero_shot_tasks"])
    means = table.pivot(index="encoder", columns="protocol", values="score")
    means.loc["TorchSpatial"] = means.filter(like="TorchSpatial", axis="index").max()
    best = means.loc[list(IN_README), list(PROTOCOLS)].max()
    return to_markdown(
        {"encoder": what}
        | {
            title: f"**{means.loc[name, protocol]:.3f}**"
            if means.loc[name, protocol] == best[protocol]
            else f"{means.loc[name, protocol]:.3f}"
            for protocol, title in PROTOCOLS.items()
        }
        for name, what in IN_README.items()
    )


def main() -> None:
    """Update the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    is_check = parser.parse_args().check
    for page, text in ((PAGE, make_table()), (README, make_means())):
        updated = replace_marked(page, MARKS, f"\n{text}\n")
        if is_check and updated != page.read_text():
            sys.exit(f"{page.name} is out of date: run benchmarks/report.py")
        write_text(page, updated)


if __name__ == "__main__":
    main()
