"""Processes of a test's own: real ones, from a server that has the libraries loaded.

A fresh interpreter takes seconds to import torch and Lightning; the server imports them once.
It also keeps the environment of its start: pass what a process has to know.
"""

import itertools
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

PRELOADED = [
    "pytest",
    "distributed",  # which Dask asks for whenever it computes
    "satclip_lib.training.recipes",
    "satclip_lib.data.rebuild",
    "satclip_lib.embedding.grid_files",
]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


def run(function: Callable, *args: Any) -> Any:
    """What a function returns or raises in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def start(function: Callable, *args: Any) -> multiprocessing.Process:
    """A process that has begun to run a function."""
    process = context.Process(target=function, args=args)
    process.start()
    return process


def find_exit_code(function: Callable, *args: Any) -> int:
    """That of a process that ran a function: minus the signal that killed it."""
    process = start(function, *args)
    process.join()
    return process.exitcode


def die_at_step(step: int, function: Callable, *args: Any) -> None:
    """Run a function; kill -9 after it has changed the disk (or flushed a file) n times."""
    steps = itertools.count(1)

    def make_deadly(call: Callable) -> Callable:
        def call_and_die(*call_args: Any, **kwargs: Any) -> None:
            call(*call_args, **kwargs)
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        return call_and_die

    for name in ("mkdir", "fsync", "replace", "rename", "rmdir"):
        setattr(os, name, make_deadly(getattr(os, name)))
    function(*args)


def run_together(function: Callable, *args: Any, count: int, num_nodes: int = 1) -> None:
    """``function(rank, *args)`` in processes that find each other as those of torchrun do."""
    of_group = (count, num_nodes, _find_free_port(), function)
    torch.multiprocessing.start_processes(
        _join_group, (*of_group, *args), nprocs=count, start_method="forkserver"
    )


def _join_group(
    rank: int, count: int, num_nodes: int, port: int, function: Callable, *args: Any
) -> None:
    num_local = count // num_nodes
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % num_local),
        "GROUP_RANK": str(rank // num_local),
        "GROUP_WORLD_SIZE": str(num_nodes),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(num_local),
    }
    torch.set_num_threads(1)
    function(rank, *args)


def _find_free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
