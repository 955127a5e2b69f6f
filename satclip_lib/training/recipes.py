"""Recipes of pretraining, by name: the paper's, and ours; for notebooks and for many GPUs.

``torchrun --nproc-per-node 4 -m satclip_lib.training.recipes ours-l40 --image-encoder resnet18
--profile paper`` trains on four processes, from the patch store that ``make data PROFILE=paper``
made. On several machines add torchrun's ``--nnodes`` and ``--rdzv-endpoint``; the data folder must
be the same on all.
"""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from satclip_lib.data.features import cache_features, make_features_at
from satclip_lib.data.images import load_images
from satclip_lib.data.moco import make_moco_encoder
from satclip_lib.data.patch_store import count_scales, open_patches
from satclip_lib.files import Workspace
from satclip_lib.image_encoder import ImageEncoder, RandomConvolutionalFeatures
from satclip_lib.location_encoder import Damping, LocationEncoderConfig
from satclip_lib.training.fit import PretrainingConfig, pretrain
from satclip_lib.training.module import SoftTargetConfig

NUM_FITTING_IMAGES = 10_000  # of the training split, for random convolutional features
MAX_FITTING_BYTES = 2**29  # of these images: large patches are fewer
MAX_WAIT = timedelta(days=2)  # for the features of all patches

# "ours" was chosen on held-out blocks and continents: benchmarks/results/ablations.json.
RECIPES = {
    "paper-l10": PretrainingConfig(location_encoder=LocationEncoderConfig(num_degrees=10)),
    "paper-l40": PretrainingConfig(location_encoder=LocationEncoderConfig(num_degrees=40)),
    "ours-l40": PretrainingConfig(
        location_encoder=LocationEncoderConfig(
            num_degrees=40,
            damping=Damping(degree=6.0, scaled_init=True),
            first_omega=15.0,
            ordered=True,
        ),
        soft_targets=SoftTargetConfig(weight=0.5, temperature=0.1),
        retrieval=True,
    ),
}


def make_recipe(name: str, **settings: Any) -> PretrainingConfig:
    """A recipe, with some of its settings changed.

    Args:
        name: Key of ``RECIPES``. All have 500 epochs, a batch of 8,192 and a constant learning rate
            of 1e-4. The paper's have plain harmonics and pairs as targets. "ours-l40" damps the
            harmonics, initialises the first layer for what damping leaves, has soft targets,
            orders the embedding, and keeps a map of the images.
        **settings: Settings of :class:`PretrainingConfig` that replace the recipe's.

    Raises:
        ValueError: If there is no recipe of this name.
        TypeError: If there is no setting of this name.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return replace(RECIPES[name], **settings)


def prepare_image_encoder(
    name: str, dataset: xr.Dataset, *, num_random_features: int = 512, seed: int = 0
) -> ImageEncoder:
    """A frozen image encoder for the patches of a store.

    Args:
        name: "rcf" for random convolutional features that are fitted to the patches, or a key of
            ``BACKBONES``, whose registered weights for Sentinel-2 are fetched.
        dataset: Open patch store.
        num_random_features: Number of features of "rcf", two per filter.
        seed: Random seed for the filters of "rcf".

    Raises:
        ValueError: If there is no encoder of this name.
        FileUnavailableError: If weights are not on this machine and cannot be downloaded.
    """
    if name != "rcf":
        return make_moco_encoder(name)
    num_images = min(NUM_FITTING_IMAGES, MAX_FITTING_BYTES // (4 * dataset.patches[0].size))
    training = (dataset.split == "train").values.nonzero()[0][:num_images]
    return RandomConvolutionalFeatures.fit(
        load_images(dataset, training),
        num_random_features=num_random_features,
        num_scales=count_scales(dataset),
        seed=seed,
    )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--profile", default="paper", help="whose patch store is read")
    parser.add_argument("--image-encoder", default="rcf", help="rcf, resnet18, resnet50, ...")
    parser.add_argument("--num-views", type=int, default=1, help="augmented views per patch")
    parser.add_argument("--num-epochs", type=int)
    parser.add_argument("--batch-size", type=int, help="pairs, over all processes")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = {name: getattr(arguments, name) for name in ("num_epochs", "batch_size", "seed")}
    recipe = make_recipe(arguments.recipe, **{k: v for k, v in given.items() if v is not None})
    folder = train_recipe(
        recipe,
        profile=arguments.profile,
        image_encoder=arguments.image_encoder,
        num_views=arguments.num_views,
        precision=arguments.precision,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
    )
    logging.info("%s", folder)


def train_recipe(
    recipe: PretrainingConfig,
    *,
    profile: str,
    image_encoder: str = "rcf",
    num_views: int = 1,
    **trainer: Any,
) -> Path:
    """Train on a profile's patch store; write ``checkpoints/<image encoder>-l<num_degrees>``.

    Features are computed once, on the first GPU if there is one. Under torchrun the process of
    rank 0 computes them, while the others wait.

    Args:
        recipe: Settings of the run.
        profile: Profile whose folders are read and written.
        image_encoder: Name of the image encoder, see :func:`prepare_image_encoder`.
        num_views: Number of views per patch, see :func:`cache_features`.
        **trainer: Settings of the machine, see :func:`pretrain`.
    """
    workspace = Workspace(profile)
    dataset = open_patches(workspace.patches)
    encoder = prepare_image_encoder(image_encoder, dataset, seed=recipe.seed)
    with _rank_zero_first(f"features-{profile}-{image_encoder}-{num_views}-{recipe.seed}"):
        store = cache_features(
            dataset,
            encoder,
            folder=workspace.features,
            num_views=num_views,
            seed=recipe.seed,
        )
    name = f"{image_encoder}-l{recipe.location_encoder.num_degrees}"
    return pretrain(
        recipe,
        store,
        image_encoder=encoder,
        folder=workspace.checkpoints / name,
        features_at=make_features_at(dataset, encoder),
        **trainer,
    )


@contextmanager
def _rank_zero_first(what: str) -> Iterator[None]:
    """Under torchrun, let rank 0 run the block first; the others enter when it has finished.

    Meanwhile rank 0 uses the threads of all processes on its machine.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if os.environ["RANK"] != "0":
        _open_shared_store().wait([what])
        yield
        return
    num_threads = torch.get_num_threads()
    torch.set_num_threads(num_threads * int(os.environ["LOCAL_WORLD_SIZE"]))
    yield
    torch.set_num_threads(num_threads)
    _open_shared_store().set(what, "done")


@cache  # rank 0 may host it, so it lives as long as the process
def _open_shared_store() -> "torch.distributed.Store":
    """The key-value store of torchrun's processes; it needs no process group."""
    store, _, _ = next(torch.distributed.rendezvous("env://", timeout=MAX_WAIT))
    return store


if __name__ == "__main__":
    main()
