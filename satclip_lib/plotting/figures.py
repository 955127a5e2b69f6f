"""The table of figures, and saving a figure: PNG, PDF, its data and its provenance."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from satclip_lib.checkpoints.store import hash_checkpoint
from satclip_lib.data.patch_store import open_patches
from satclip_lib.files import Workspace, write_atomically, write_text

DPI = 300  # of PNGs, and of the rasterised parts of PDFs


@dataclass(frozen=True)
class FigureEntry:
    """One row of the table of figures."""

    notebook: str
    caption: str


CAPTIONS = {  # of each notebook's figures, by id
    "00_quickstart": {
        "similarity_map": "Cosine similarity of the embedding at the star with those of all land "
        "except Antarctica, and of ten places.",
    },
    "01_dataset_construction": {
        "sample_map": "Locations of the patches, uniform per land area (Equal Earth projection), "
        "by biome, with the 10-degree blocks held out for validation. Below: patches of each "
        "biome.",
    },
    "02_pretraining": {
        "training_curves": "Contrastive loss per epoch, on training patches and on held-out "
        "blocks, and retrieval accuracy on held-out blocks.",
    },
    "03_embedding_space": {
        "method_overview": "The method: an image encoder and a location encoder. Right: cosines "
        "of six held-out images with six locations, by the trained model.",
        "embedding_globes": "The first three principal components of the embeddings as red, green "
        "and blue, before and after pretraining. Right: three independent components of the same "
        "space, as colours too. Pale: sea and Antarctica, which pretraining never saw.",
        "similarity_places": "Cosine similarity of all land except Antarctica with the place at "
        "the star.",
    },
    "04_downstream_tasks": {
        "downstream_table": "Linear probes on frozen embeddings of each family: R2 (regression) "
        "and accuracy (classification), on random folds and in held-out blocks. Cells are shaded "
        "by rank.",
        "difference_forest": "Score of the trained encoder minus that of others, with 95 % "
        "intervals over places, from resampled blocks. Arrows have the values beyond the axis "
        "beside them.",
        "learning_curves": "Score in held-out blocks against the number of labels that the linear "
        "probe is fitted to.",
        "prediction_map": "The error of a linear probe on the trained embeddings. Each point is "
        "predicted from 10-degree blocks other than its own. Below: measured and predicted.",
    },
    "05_geographic_generalization": {
        "continent_table": "Linear probes fitted on five continents and scored on the sixth: mean "
        "over the six. All of Russia counts as Europe. Cells are shaded by rank.",
        "distance_curve": "Mean score of six tasks against the distance to the nearest label: "
        "random folds, and blocks of 1, 5, 10, 20 and 40 degrees. Right: held-out continents. "
        "Bands and bars are 95 % intervals over places; one training is behind them.",
        "continent_forest": "Score on held-out continents of the trained encoder minus that of "
        "others, with 95 % intervals over places, from resampled blocks. Arrows have the values "
        "beyond the axis beside them.",
        "continent_maps": "Each continent predicted from the five others, by the trained encoder "
        "and by its untrained twin. Below: the errors, and R2 on each continent. Bars end at -1; "
        "the printed numbers do not.",
        "few_shot_curves": "Score on held-out continents against the share of their points in "
        "the training set. The tested points stay the same. Axes are logarithmic below -1.",
    },
    "06_biome_clustering": {
        "biome_umap": "Large: UMAP of the latitude and of what images at a place and around it "
        "show. No trained weight of SatCLIP is in it. Larger biomes are named once, where they are "
        "densest. Small: some of these places, by other encoders, trained and untrained. Vote: how "
        "often 15 neighbours on other continents name the biome. Below: the map in the same "
        "colours. Coordinates alone cluster too.",
        "cluster_scores": "How well biomes cluster in each embedding and in its UMAP plane: "
        "accuracy of 15 nearest neighbours, silhouette, and k-means against biomes.",
        "biome_across_continents": "Above: the mean of each biome on each continent in three UMAP "
        "planes; lines join the same biome of different continents. Below: how often the 15 "
        "nearest neighbours on other continents name the biome of a place, with the number of "
        "places. Marks are encoders; lines go from the lowest to the highest.",
        "umap_by_label": "One UMAP plane by biome, climate, continent and elevation, beside the "
        "map in the same colours. All of Russia counts as Europe.",
        "biome_similarity": "Cosine similarity of the biomes' mean embeddings, centred, and its "
        "average-linkage tree.",
        "umap_stability": "UMAP planes of the same places for three seeds and three numbers of "
        "neighbours, aligned. Below each: the share of the embedding's 15 nearest neighbours that "
        "the plane keeps, and k-NN accuracy.",
    },
    "07_image_localization": {
        "localization_maps": "Patches from held-out blocks, and their cosine similarity with "
        "places on land. Star: where the patch was taken; circle: the most similar place.",
        "localization_errors": "Share of patches from held-out blocks with an error below each "
        "distance.",
        "retrieved_patches": "The held-out patches most similar to a place, best first, with their "
        "distance to the place.",
    },
    "08_ablations": {
        "ablation_forest": "The worth of one changed knob: linear-probe score of each variant "
        "minus that of the base, in small runs. Diamonds: mean of tasks, with 95 % intervals over "
        "places, from resampled blocks. Arrows mark values beyond the axis.",
        "ablation_full_size": "The worth of one changed knob at full size: 40,000 locations, seven "
        "tasks, differences from “ours” with the same seed. Lines go from the lowest to the "
        "highest of several seeds; variants without a line have one seed.",
        "split_ranking": "The order of the variants, best on top, by the mean of all tasks under "
        "each protocol. In colour: the best of each column. Numbers are Spearman's rank "
        "correlations with the order on random folds.",
    },
}
FIGURES = {
    figure_id: FigureEntry(notebook, caption)
    for notebook, captions in CAPTIONS.items()
    for figure_id, caption in captions.items()
}


def save_figure(
    fig: Figure,
    figure_id: str,
    *,
    workspace: Workspace,
    seed: int,
    checkpoints: Iterable[str | Path] = (),
    data: pd.DataFrame | None = None,
    numbers: Mapping[str, float] | None = None,
) -> None:
    """Save one of the figures of ``FIGURES`` in the profile's figure folder.

    Writes ``<id>.png`` (300 dpi), ``<id>.pdf``, ``<id>.json`` (caption, notebook, profile, seed,
    numbers, hashes of patches and checkpoints, version) and, if given, ``<id>.csv`` with what is
    drawn.

    Args:
        fig: Figure to save.
        figure_id: Key of the figure in ``FIGURES``.
        workspace: Folders of the profile.
        seed: Random seed that the notebook ran with.
        checkpoints: Models that the figure was made with, as names of folders in
            ``workspace.checkpoints`` or as paths.
        data: Table of what is drawn.
        numbers: Main results, for the contact sheet.

    Raises:
        ValueError: If the id is not in the table of figures.
        FileNotFoundError: If the patch store or one of the models is not on disk.
    """
    if figure_id not in FIGURES:
        raise ValueError(f"unknown figure {figure_id!r}; add it to FIGURES: {list(FIGURES)}")
    stem = workspace.figures / figure_id
    with write_atomically(stem.with_suffix(".png")) as scratch:
        fig.savefig(scratch, format="png", dpi=DPI)
    with write_atomically(stem.with_suffix(".pdf")) as scratch:
        fig.savefig(scratch, format="pdf", dpi=DPI, metadata={"CreationDate": None})
    if data is not None:
        with write_atomically(stem.with_suffix(".csv")) as scratch:
            data.to_csv(scratch, index=False)
    entry = FIGURES[figure_id]
    folders = [workspace.checkpoints / name for name in checkpoints]  # of a path: the path itself
    provenance = {
        "figure": figure_id,
        "caption": entry.caption,
        "notebook": entry.notebook,
        "profile": workspace.profile,
        "seed": seed,
        "numbers": {name: float(f"{value:.4g}") for name, value in (numbers or {}).items()},
        "patches": open_patches(workspace.patches).attrs["sha256"],
        "checkpoints": {path.name: hash_checkpoint(path) for path in folders},
        "satclip_lib": version("satclip-lib"),
    }
    write_text(stem.with_suffix(".json"), json.dumps(provenance, indent=2) + "\n")
