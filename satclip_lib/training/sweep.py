"""Pretraining runs that differ in one setting each, on Blue Marble patches of any size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import xarray as xr

from satclip_lib.data.features import cache_features
from satclip_lib.data.patch_store import cut_blue_marble_patches, get_imagery, get_lonlat
from satclip_lib.location_encoder import LocationEncoderConfig
from satclip_lib.training.fit import PretrainingConfig, pretrain
from satclip_lib.training.recipes import prepare_image_encoder


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of a pretraining run and of its data.

    Attributes:
        pretraining: Pretraining run. Its seed is added to that of the sweep: a variant that differs
            in the seed alone shows the effect of chance.
        num_locations: Number of locations, taken from the start of the data set; None takes all.
        size_px: Side of the patches, in pixels of the Blue Marble (1/15 degree).
        num_views: Number of views per patch, 1 for no augmentation, see
            :func:`satclip_lib.data.features.cache_features`.
        num_random_features: Number of features of the frozen image encoder, beside the mean and
            the spread of each band; two per filter.
    """

    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    num_locations: int | None = None
    size_px: int = 8
    num_views: int = 1
    num_random_features: int = 512

    def replace(self, **settings: Any) -> "Variant":
        """The same variant with other settings, each in the dataclass that has its name.

        Args:
            **settings: Settings of :class:`Variant`, of its :class:`PretrainingConfig` or of the
                latter's :class:`LocationEncoderConfig`. Their names do not overlap.

        Raises:
            ValueError: If there is no setting of this name.

        Example:
            >>> Variant().replace(num_degrees=40, batch_size=512, num_views=4).num_views
            4
        """
        parts = (Variant, PretrainingConfig, LocationEncoderConfig)
        of_variant, of_run, of_encoder = (
            {f.name: settings[f.name] for f in fields(part) if f.name in settings} for part in parts
        )
        if unknown := sorted(set(settings) - {*of_variant, *of_run, *of_encoder}):
            known = sorted({f.name for part in parts for f in fields(part)})
            raise ValueError(f"unknown setting {', '.join(unknown)}; there is {', '.join(known)}")
        run = of_variant.pop("pretraining", self.pretraining)
        encoder = of_run.pop("location_encoder", run.location_encoder)
        run = replace(run, location_encoder=replace(encoder, **of_encoder), **of_run)
        return replace(self, pretraining=run, **of_variant)


def train_variants(
    variants: Mapping[str, Variant], dataset: xr.Dataset, *, seed: int, folder: Path
) -> dict[str, Path]:
    """Train each variant, from imagery to checkpoint; finished runs are not repeated.

    Args:
        variants: Variants by name.
        dataset: Patch store or part of one. At its locations, patches of each variant's size are
            cut from the Blue Marble. Bands and scales are those of the store; if it holds other
            imagery, the bands are those of the seasons at one scale.
        seed: Random seed for filters and views, and, added to a variant's own, for weights,
            order and dropout.
        folder: Folder of features and checkpoints.

    Returns:
        Folders of the checkpoints, by the names of the variants.
    """
    image_encoders, checkpoints = {}, {}
    for name, variant in variants.items():
        part = dataset.isel(patch=slice(variant.num_locations))
        patches = cut_blue_marble_patches(
            get_lonlat(part),
            is_val=(part.split == "val").values,
            size_px=variant.size_px,
            imagery=get_imagery(part) or "seasons",
            zooms=part.attrs.get("zooms", (1,)),
        )
        key = (variant.num_locations, variant.size_px, variant.num_random_features)
        if key not in image_encoders:
            image_encoders[key] = prepare_image_encoder(
                "rcf", patches, num_random_features=variant.num_random_features, seed=seed
            )
        store = cache_features(
            patches,
            image_encoders[key],
            folder=folder / "features",
            num_views=variant.num_views,
            seed=seed,
        )
        checkpoints[name] = pretrain(
            replace(variant.pretraining, seed=seed + variant.pretraining.seed),
            store,
            image_encoder=image_encoders[key],
            folder=folder / f"seed-{seed}" / re.sub(r"\W+", "-", name),
        )
    return checkpoints
