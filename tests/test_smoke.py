"""All notebooks and solutions run, one after another, in the smallest profile."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from cells import SOLUTIONS, run_cells

from satclip_lib.checkpoints.store import hash_checkpoint, load_config, load_location_encoder
from satclip_lib.embedding.embed import embed
from satclip_lib.files import Workspace
from satclip_lib.plotting.figures import FIGURES
from satclip_lib.training.recipes import make_recipe
from tools.save_model import COMMAND, IMAGES, save_model

pytestmark = pytest.mark.slow


def test_all_notebooks_run_without_network_or_label_files(in_smoke_run):
    """The smoke profile runs end to end offline: figures are made, absent tasks say why."""
    figures = Workspace("smoke").figures
    for figure_id in FIGURES:
        assert (figures / f"{figure_id}.png").stat().st_size > 10_000
        assert (figures / f"{figure_id}.pdf").stat().st_size > 10_000
    assert (figures / "biome_atlas.html").stat().st_size > 500_000
    table = (figures / "downstream_table.csv").read_text()
    assert all(name in table for name in ("climate_zone", "population_density", "air_temperature"))
    assert "SATCLIP_OFFLINE forbids" in (in_smoke_run / "absent.txt").read_text()
    assert not list(in_smoke_run.rglob(".partial-*"))


def test_figures_name_the_models_they_were_made_with(in_smoke_run):
    """Those that notebooks used, not what pretraining left beside them."""
    used = {
        path.stem: set(json.loads(path.read_text())["checkpoints"])
        for path in Workspace("smoke").figures.glob("*.json")
    }
    assert used["sample_map"] == set()
    assert used["training_curves"] == used["downstream_table"] == {"rcf-l10"}
    assert used["similarity_map"] == {"rcf-l40"}
    assert used["embedding_globes"] == used["biome_umap"] == {"rcf-l10", "rcf-l40"}
    assert used["biome_similarity"] == used["retrieved_patches"] == {"rcf-l40"}


def test_the_model_that_travels_is_that_of_the_recipe(in_smoke_run, tmp_path):
    """Trained small and saved: config and card say what the recipe says; it embeds as before."""
    source = Workspace("smoke").checkpoints / "rcf-l40"
    folder = save_model(source, tmp_path / "model")
    config = load_config(folder)
    trained = config["provenance"]["pretraining"]
    recipe = json.loads(json.dumps(asdict(make_recipe("ours-l40"))))
    smaller = ("batch_size", "num_epochs", "learning_rate", "schedule", "jitter_m", "patience")
    for name in set(recipe) - {*smaller}:
        assert trained[name] == recipe[name], name
    assert config["location_encoder"] == recipe["location_encoder"]
    card = (folder / "README.md").read_text()
    for text in (COMMAND, IMAGES, hash_checkpoint(folder), 'load_location_encoder("model")'):
        assert text in card
    for name, value in config["location_encoder"].items():
        assert isinstance(value, dict) or f"| {name} | {value} |" in card
    places = [[2.35, 48.86], [-60.0, -3.0]]
    np.testing.assert_allclose(embed(places, folder), embed(places, source), atol=0.02, rtol=0.02)
    assert (
        embed(places, folder, retrieval=True).shape == embed(places, source, retrieval=True).shape
    )
    assert load_location_encoder(folder).config == load_location_encoder(source).config


@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_hold(stem, in_smoke_run):
    """Each solution runs after the notebooks, and what it asserts is so."""
    run_cells(f"solutions/{stem}", profile="smoke")
