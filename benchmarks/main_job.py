"""The main job as a newcomer runs it: ``python benchmarks/main_job.py``.

Clones the committed state into a temporary folder and there runs ``make figures`` from nothing,
once more, once more with everything made deleted, and once more without network and label files.
Writes ``benchmarks/results/main_job.json``: seconds, peak memory, and what came out. Set
SATCLIP_DATA_MIRROR to a folder with the label files, so that downloads are not measured.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
import psutil

from satclip_lib.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "main_job.json"
RUNS = ("again", "same_seed", "offline")  # after the first
MADE = ("data/demo", "build", "figures/*.*")


def run(clone: Path, command: str, **environment: str) -> dict:
    """Run a command; its seconds, exit code, and the largest memory of all its processes."""
    start = time.perf_counter()
    log = open(clone.parent / "log.txt", "w")
    process = subprocess.Popen(
        command.split(), cwd=clone, env=os.environ | environment, stdout=log, stderr=log
    )
    peak = [0]
    watcher = threading.Thread(target=watch_memory, args=(process.pid, peak))
    watcher.start()
    code = process.wait()
    watcher.join()
    seconds = time.perf_counter() - start
    return {"exit": code, "seconds": round(seconds, 1), "peak_gb": round(peak[0] / 1e9, 2)}


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
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((clone / "figures").glob("*.*"))
        if path.suffix in (".csv", ".png", ".pdf") and path.stat().st_size > 0
    }


def time_stages(clone: Path) -> dict[str, float]:
    """Seconds of set-up and of the notebooks: up to the trained encoders, and after them."""
    ran = {
        path.stem: json.loads(path.read_text())["metadata"]["papermill"]
        for path in (clone / "build" / "demo").glob("*.ipynb")
    }
    start, end = (
        {stem: datetime.fromisoformat(about[key]) for stem, about in ran.items()}
        for key in ("start_time", "end_time")
    )
    trained = end["02_pretraining"]
    before = (trained - start["01_dataset_construction"]).total_seconds()
    after = (max(end.values()) - trained).total_seconds()
    each = {f"{stem}_s": round(about["duration"], 1) for stem, about in sorted(ran.items())}
    return {"data_and_training_s": round(before, 1), "figures_s": round(after, 1), **each}


def delete_made(clone: Path) -> None:
    """Delete all that `make figures` makes but the installation."""
    for pattern in MADE:
        for path in clone.glob(pattern):
            if path.name != "README.md":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", default=RUNS, choices=RUNS)
    parser.add_argument("--keep", type=Path, help="folder for what the first run made")
    arguments = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "satclip" / "clone"  # no label files beside it
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        result["first"] = run(clone, "make figures")
        result["first"] |= time_stages(clone)
        first = hash_outputs(clone)
        if arguments.keep:
            for made in ("data/demo", "build", "figures"):
                shutil.copytree(clone / made, arguments.keep / made, dirs_exist_ok=True)
        if "again" in arguments.runs:
            result["again"] = run(clone, "make figures")
        if "same_seed" in arguments.runs:
            delete_made(clone)
            result["same_seed"] = run(clone, "make figures") | time_stages(clone)
            second = hash_outputs(clone)
            result["same_seed"]["identical"] = sorted(n for n in first if first[n] == second.get(n))
            result["same_seed"]["different"] = sorted(n for n in first if first[n] != second.get(n))
        if "offline" in arguments.runs:
            delete_made(clone)
            os.environ.pop("SATCLIP_DATA_MIRROR", None)
            result["offline"] = run(clone, "make figures", SATCLIP_OFFLINE="1")
            table = pd.read_csv(clone / "figures" / "downstream_table.csv")
            result["offline"]["tasks"] = sorted(table.task.unique())
            result["offline"]["figures"] = len(list((clone / "figures").glob("*.png")))
    earlier = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    kept = {name: earlier[name] for name in RUNS if name in earlier}  # of runs not asked for
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "figures": sorted(first)}
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(about | kept | result, indent=2) + "\n")


if __name__ == "__main__":
    main()
