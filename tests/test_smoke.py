"""All notebooks and solutions run, one after another, in the smallest profile."""

import json

import matplotlib.pyplot as plt
import pytest
from cells import SOLUTIONS, run_cells

from satclip_lib.files import Workspace
from satclip_lib.plotting.figures import FIGURES


@pytest.mark.slow
def test_all_notebooks_run_without_network_or_label_files(smoke_run, monkeypatch):
    """The smoke profile runs end to end offline: figures are made, absent tasks say why."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    figures = Workspace("smoke").figures
    for figure_id in FIGURES:
        assert (figures / f"{figure_id}.png").stat().st_size > 10_000
        assert (figures / f"{figure_id}.pdf").stat().st_size > 10_000
    assert (figures / "biome_atlas.html").stat().st_size > 500_000
    table = (figures / "downstream_table.csv").read_text()
    assert all(name in table for name in ("climate_zone", "population_density", "air_temperature"))
    assert "SATCLIP_OFFLINE forbids" in (smoke_run / "absent.txt").read_text()
    assert not list(smoke_run.rglob(".partial-*"))


@pytest.mark.slow
def test_figures_name_the_models_they_were_made_with(smoke_run, monkeypatch):
    """Those that notebooks used, not what pretraining left beside them."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    used = {
        path.stem: set(json.loads(path.read_text())["checkpoints"])
        for path in Workspace("smoke").figures.glob("*.json")
    }
    assert used["sample_map"] == set()
    assert used["training_curves"] == used["downstream_table"] == {"rcf-l10"}
    assert used["similarity_map"] == {"rcf-l40"}
    assert used["embedding_globes"] == used["biome_umap"] == {"rcf-l10", "rcf-l40"}
    assert used["biome_similarity"] == used["retrieved_patches"] == {"rcf-l40"}


@pytest.mark.slow
@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_hold(stem, smoke_run, shape_checks_off, monkeypatch):
    """Each solution runs after the notebooks, and what it asserts is so."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    run_cells(f"solutions/{stem}", profile="smoke")
    plt.close("all")
