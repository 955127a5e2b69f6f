"""Build S2-100K anew from the scenes of a STAC API, in the layout that the public one has.

The folder holds ``index.csv``, ``images/patch_<N>.tif``, ``provenance/patch_<N>.json`` and
``plan.json``. The tif of a patch is written last, and each file appears whole or not at all. So a
run that is killed loses only unfinished patches, and the next one makes those that are missing.
"""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from satclip_lib.data.s2_folder import encode_patch
from satclip_lib.data.scenes import ScenePatch
from satclip_lib.data.stac import ScenePlan, draw_patch, find_search
from satclip_lib.files import sweep, write_atomically, write_text
from satclip_lib.progress import progress_bar

logger = logging.getLogger(__name__)

PLAN_NAMES = ("sampling", "seed", "api_url", "collection", "date_range", "bbox", "max_cloud_cover")


@dataclass(frozen=True)
class RebuildReport:
    """What a run left behind.

    Attributes:
        index: One row for each patch that is there, as in ``index.csv``.
        failures: ``number`` and ``reason`` of each patch that is not, as in ``failures.csv``.
    """

    index: pd.DataFrame
    failures: pd.DataFrame


def rebuild_s2_100k(
    folder: Path | str,
    plan: ScenePlan | None = None,
    *,
    num_patches: int,
    scheduler: Any = "threads",
    num_workers: int = 8,
) -> RebuildReport:
    """Draw the patches 0 to ``num_patches`` - 1 of a plan that ``folder`` does not hold yet.

    The result is the same however the work is spread and however often it was interrupted. A
    patch that cannot be made does not end the run: it is listed in ``failures.csv``, and tried
    again by the next run. The first patches of a larger folder are those of a smaller one.

    Args:
        folder: Folder to make or to complete. With Dask, all workers see it under this name.
        plan: Which patches to draw, ``ScenePlan()`` by default.
        num_patches: Number of patches; the paper has 100,000.
        scheduler: "threads", the address of a Dask scheduler (``"tcp://..."``) or a
            ``distributed.Client``.
        num_workers: Number of threads; a Dask cluster has its own workers.

    Raises:
        ValueError: If ``folder`` was begun with another plan (what differs is named), or
            ``num_patches`` is negative, or ``scheduler`` is unknown.
        OSError: If the API cannot be reached at the start, or the disk is full.
    """
    folder, plan = Path(folder).absolute(), plan or ScenePlan()
    if num_patches < 0:
        raise ValueError(f"num_patches must not be negative, got {num_patches}")
    find_search(plan)  # fail now rather than 100,000 times
    _keep_plan(folder / "plan.json", plan)
    for part in ("images", "provenance"):
        (folder / part).mkdir(exist_ok=True)
        sweep(folder / part)  # also where no patch is left to make
    numbers = [n for n in range(num_patches) if not _tif_path(folder, n).exists()]
    try:
        with _open_executor(scheduler, num_workers) as executor:
            futures = {executor.submit(_make_patch, folder, plan, n): n for n in numbers}
            failures = _collect_failures(futures, num_patches)
    finally:  # also after Ctrl-C
        index = _make_index(folder)
        _write_table(index, folder / "index.csv")
    _write_table(failures, folder / "failures.csv")
    return RebuildReport(index, failures)


def _collect_failures(futures: dict[Future, int], num_patches: int) -> pd.DataFrame:
    """Wait for all patches; number and reason of those that could not be made."""
    failures = {}
    try:
        with progress_bar(
            total=num_patches, initial=num_patches - len(futures), desc="patches"
        ) as bar:
            for future in as_completed(futures):
                if reason := future.result():
                    failures[futures[future]] = reason
                    logger.warning("patch %d failed: %s", futures[future], reason)
                    bar.set_postfix(failures=len(failures), refresh=False)
                bar.update()
    finally:
        for future in futures:  # nothing is left to do, unless the run ends early
            future.cancel()
    return pd.DataFrame(sorted(failures.items()), columns=["number", "reason"])


def _make_patch(folder: Path, plan: ScenePlan, number: int) -> str | None:
    """Draw a patch and write it; the reason if it cannot be drawn."""
    try:
        patch = draw_patch(plan, number)
    except Exception as error:  # of one patch, whatever it is
        return f"{type(error).__name__}: {error}"
    _write_patch(folder, number, patch)
    return None


def _write_patch(folder: Path, number: int, patch: ScenePatch) -> None:
    tif_path = _tif_path(folder, number)
    provenance = json.dumps({"fn": tif_path.name} | patch.provenance) + "\n"
    _write_bytes(_provenance_path(tif_path), provenance.encode())
    tif = encode_patch(patch.numbers, patch.crs, patch.transform)
    _write_bytes(tif_path, tif)  # last: its presence says that all is there


def _write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is whole also after a loss of power."""
    with write_atomically(path) as scratch, open(scratch, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _tif_path(folder: Path, number: int) -> Path:
    return folder / "images" / f"patch_{number}.tif"


def _provenance_path(tif_path: Path) -> Path:
    return tif_path.parents[1] / "provenance" / f"{tif_path.stem}.json"


def _keep_plan(path: Path, plan: ScenePlan) -> None:
    """Write what decides which patches are drawn, or see that it is the same as before."""
    wanted = json.loads(json.dumps({name: getattr(plan, name) for name in PLAN_NAMES}))
    if path.exists():
        found = json.loads(path.read_text())
        changes = [
            f"{name}={found.get(name)!r} (now {value!r})"
            for name, value in wanted.items()
            if found.get(name) != value
        ]
        if changes:
            raise ValueError(
                f"{path.parent} was begun with {', '.join(changes)}: "
                "choose another folder, or the same plan"
            )
        return
    write_text(path, json.dumps(wanted, indent=2) + "\n")


def _make_index(folder: Path) -> pd.DataFrame:
    tif_paths = sorted((folder / "images").glob("patch_*.tif"), key=lambda path: int(path.stem[6:]))
    rows = [json.loads(_provenance_path(path).read_text()) for path in tif_paths]
    index = pd.DataFrame(rows)
    return index[["lat", "lon", "fn", *index.columns.drop(["lat", "lon", "fn"])]] if rows else index


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table; an empty one is no file."""
    if table.empty:
        path.unlink(missing_ok=True)
        return
    with write_atomically(path) as scratch:
        table.to_csv(scratch, index=False)


@contextmanager
def _open_executor(scheduler: Any, num_workers: int) -> Iterator[Executor]:
    """Threads or a Dask cluster behind one interface."""
    with ExitStack() as stack:
        if scheduler == "threads":
            executor = ThreadPoolExecutor(num_workers)
        else:
            if isinstance(scheduler, str) and "://" in scheduler:
                from distributed import Client  # here, because one machine does not need it

                scheduler = stack.enter_context(Client(scheduler))
            if not hasattr(scheduler, "get_executor"):
                raise ValueError(
                    "scheduler must be 'threads', 'tcp://...' or a distributed.Client, got "
                    f"{scheduler!r}"
                )
            executor = scheduler.get_executor(pure=False)
        yield stack.enter_context(executor)
