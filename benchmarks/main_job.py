"""The main job as a newcomer runs it: ``python benchmarks/main_job.py``.

Clones the committed state into a temporary folder and runs ``make figures`` there three times: from
nothing; again at once; and, after all results are deleted, with SATCLIP_OFFLINE=1. No run has other
label files than those of the repository. Another clone runs ``make figures PROFILE=rehearsal``;
``--runs rehearsal`` does only that. Writes ``benchmarks/results/main_job.json``: seconds, peak
memory, figures, and which files of the first and the last run are the same.
"""

import argparse
import json
import logging
import os
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import psutil
from common import Bar, load_result, save_result, time_once

from satclip_lib.files import sha256_of_file
from satclip_lib.plotting.figures import FIGURES
from satclip_lib.training.curve import CURVE_NAME

ROOT = Path(__file__).resolve().parents[1]
RUNS = ("again", "offline")  # after the first
MADE = ("data/demo", "build", "figures/*.*")
NUM_PATCHES = 2000  # that the rehearsal makes


def run(clone: Path, *, profile: str = "demo", **environment: str) -> dict:
    """Make the figures; return exit code, seconds, processor seconds, and peak memory in GB.

    A run that fails shows the end of its log.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["make", "figures", f"PROFILE={profile}"]
    with open(clone.parent / "log.txt", "w") as log:
        process = subprocess.Popen(
            command, cwd=clone, env=os.environ | environment, stdout=log, stderr=log
        )
        peak = [0]
        watcher = threading.Thread(target=watch_memory, args=(process.pid, peak))
        watcher.start()
        code, seconds = time_once(process.wait)
        watcher.join()
    if code:
        logging.error("%s", (clone.parent / "log.txt").read_text()[-4000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rounded = {"seconds": round(seconds, 1), "cpu_s": round(cpu, 1)}
    return {"exit": code, **rounded, "peak_gb": round(peak[0] / 1e9, 2)}


def watch_memory(pid: int, peak: list[int]) -> None:
    """Keep the largest proportional set size of a process and all its descendants, in bytes."""
    while psutil.pid_exists(pid):
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
            peak[0] = max(peak[0], sum(member.memory_full_info().pss for member in family))
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            pass
        time.sleep(2)  # adding up the pages of torch takes a good part of a core


def hash_outputs(clone: Path) -> dict[str, str]:
    """SHA-256 of every figure and of the data behind it."""
    return {
        path.name: sha256_of_file(path)
        for path in sorted((clone / "figures").glob("*.*"))
        if path.suffix in (".csv", ".png", ".pdf") and path.stat().st_size > 0
    }


def time_stages(clone: Path, profile: str = "demo") -> dict[str, float]:
    """Seconds up to the end of training, seconds of all notebooks after it, and of each one.

    The run must have come to its end.
    """
    ran = pd.DataFrame(
        {
            path.stem: json.loads(path.read_text())["metadata"]["papermill"]
            for path in sorted((clone / "build" / profile).glob("*.ipynb"))
        }
    ).T
    start, end = (ran[key].map(datetime.fromisoformat) for key in ("start_time", "end_time"))
    trained = end["02_pretraining"]
    return {
        "data_and_training_s": round((trained - start.min()).total_seconds(), 1),
        "figures_s": round((end.max() - trained).total_seconds(), 1),
        **{f"{stem}_s": round(seconds, 1) for stem, seconds in ran.duration.items()},
    }


def measure_checkpoints(clone: Path) -> dict:
    """Seconds of the epochs of the two encoders, and the size of the larger, which retrieves."""
    folders = [clone / "data/demo/checkpoints" / name for name in ("rcf-l10", "rcf-l40")]
    seconds = {f.name: round(pd.read_csv(f / CURVE_NAME).seconds.sum(), 1) for f in folders}
    size = sum(path.stat().st_size for path in folders[-1].iterdir())
    return {"training_s": seconds, "checkpoint_mb": round(size / 1e6, 1)}


def delete_made(clone: Path) -> None:
    """Delete everything that `make figures` makes, except the installation."""
    for pattern in MADE:
        for path in clone.glob(pattern):
            if path.name != "README.md":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def list_bars(result: dict) -> Iterator[Bar]:
    """Bars of time, memory, offline use and repeatability."""
    first = result["first"]
    minutes = first["seconds"] / 60
    num_figures = sum(f"{name}.png" in result["figures"] for name in FIGURES)
    what = f"`make figures` from a clean clone, set-up included, {num_figures} figures"
    yield Bar(what, "15 min", f"{minutes:.1f} min", first["exit"] == 0 and minutes <= 15)
    yield Bar("its peak memory", "6 GB", f"{first['peak_gb']} GB", first["peak_gb"] < 6)
    if trained := first.get("training_s"):
        what = f"training of its {len(trained)} encoders"
        minutes = sum(trained.values()) / 60
        yield Bar(what, "4 min", f"{minutes:.1f} min", minutes <= 4)
        what, size = "a checkpoint with its map of images", first["checkpoint_mb"]
        yield Bar(what, "25 MB", f"{size} MB", size <= 25)
    if seconds := first.get("figures_s"):
        measured = f"{seconds / 60:.1f} min"
        yield Bar("its notebooks after training", "5 min", measured, seconds <= 300)
    if again := result.get("again"):
        yield Bar("a second call", "5 s", f"{again['seconds']} s", again["seconds"] < 5)
    if offline := result.get("offline"):
        code, num_tasks = offline["exit"], len(offline["tasks"])
        measured = f"{num_tasks} (exit {code}, {offline['figures']} figures)"
        what = "SATCLIP_OFFLINE=1, no label files but those of the repository: tasks in the table"
        yield Bar(what, "10", measured, code == 0 and num_tasks >= 10)
        what = "files of figures and their data that are the same to the last bit in both runs"
        num_same, num_off = len(offline["identical"]), len(offline["different"])
        yield Bar(what, "all", f"{num_same} of {num_same + num_off}", not num_off)
    if rehearsal := result.get("rehearsal"):
        minutes, peak = rehearsal["seconds"] / 60, rehearsal["peak_gb"]
        whole = rehearsal["exit"] == 0 and rehearsal["figures"] == len(FIGURES)
        size = f"{rehearsal['patches']:,} patches"
        what = f"`make figures PROFILE=rehearsal` of {size}, set-up included"
        measured = f"{minutes:.1f} min ({rehearsal['cpu_s'] / 60:.1f} min of a core)"
        yield Bar(what, "25 min", measured, whole and minutes <= 25)
        yield Bar("its peak memory", "8 GB", f"{peak} GB", peak < 8)


def clone_to(clone: Path) -> Path:
    """The committed state, as a newcomer gets it."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    return clone


def measure_demo(clone: Path, *, runs: set[str], keep: Path | None) -> dict:
    """The first run in a clone, and those of ``RUNS`` that are asked for."""
    os.environ.pop("SATCLIP_DATA_MIRROR", None)
    first = run(clone)
    if first["exit"]:
        return {"first": first, "figures": [], "again": None, "offline": None}
    result = {"first": first | time_stages(clone) | measure_checkpoints(clone)}
    first = hash_outputs(clone)
    if keep:
        for made in ("data/demo", "build", "figures"):
            shutil.copytree(clone / made, keep / made, dirs_exist_ok=True)
    if "again" in runs:
        result["again"] = run(clone)
    if "offline" in runs:
        delete_made(clone)
        offline = run(clone, SATCLIP_OFFLINE="1")
        second = hash_outputs(clone)
        table = clone / "figures" / "downstream_table.csv"
        tasks = sorted(pd.read_csv(table).task.unique()) if table.exists() else []
        result["offline"] = offline | {
            "tasks": tasks,
            "figures": len(list((clone / "figures").glob("*.png"))),
            "identical": sorted(name for name in first if first[name] == second.get(name)),
            "different": sorted(name for name in first if first[name] != second.get(name)),
        }
    return result | {"figures": sorted(first)}


def main() -> None:
    """Measure, and write the result."""
    choices = ("rehearsal", *RUNS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", default=choices, choices=choices)
    parser.add_argument("--keep", type=Path, help="folder for what the first run made")
    arguments = parser.parse_args()
    earlier = load_result("main_job")  # of runs not asked for
    result = {name: earlier[name] for name in ("first", "figures", *choices) if name in earlier}

    def save() -> None:
        save_result("main_job", result, bars=list(list_bars(result)), packages=[])

    with tempfile.TemporaryDirectory() as folder:
        if "rehearsal" in arguments.runs:
            clone = clone_to(Path(folder) / "rehearsal")
            made = run(clone, profile="rehearsal", PATCHES=f"{NUM_PATCHES}")
            made |= {"patches": NUM_PATCHES}
            if not made["exit"]:
                made |= time_stages(clone, "rehearsal")
            names = {path.stem for path in (clone / "figures/rehearsal").glob("*.png")}
            result["rehearsal"] = made | {"figures": len(names & set(FIGURES))}
            save()
        if runs := set(arguments.runs) - {"rehearsal"}:
            clone = clone_to(Path(folder) / "satclip" / "clone")  # no label files beside it
            result |= measure_demo(clone, runs=runs, keep=arguments.keep)
            save()


if __name__ == "__main__":
    main()
