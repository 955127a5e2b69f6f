"""Train the recipes that a profile lists, one process per GPU, or two where there is none.

``python -m tools.train_recipes --profile rehearsal`` runs ``satclip_lib.training.recipes`` under
torchrun for each line of ``recipes`` in the profile. What is finished is not repeated.
"""

import argparse
import os
import subprocess
import sys

import torch

from satclip_lib.files import Workspace
from tools.run_notebook import load_environment, read_profile


def train_recipes(profile: str) -> None:
    """Train all recipes of a profile, and note that in ``build/<profile>/recipes.txt``.

    Raises:
        subprocess.CalledProcessError: If one of them fails.
    """
    num_processes = torch.cuda.device_count() or 2
    recipes = read_profile(profile).get("recipes", [])
    for recipe in recipes:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(num_processes), "-m", "satclip_lib.training.recipes"]
        subprocess.run([*command, *recipe.split(), "--profile", profile], check=True)
    done = Workspace(profile).build / "recipes.txt"
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text("\n".join(recipes) + "\n")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="rehearsal")
    profile = parser.parse_args().profile
    os.environ |= load_environment(profile) | {"SATCLIP_PROGRESS": "0"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # per process
    train_recipes(profile)


if __name__ == "__main__":
    main()
