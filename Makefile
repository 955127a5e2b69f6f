# Two commands do all set-up: `make figures` and `make test`. `make` alone prints this help.
PROFILE ?= demo
PYTHON ?= python3
VENV := .venv
BUILD := build/$(PROFILE)
FIGURES := $(if $(filter demo,$(PROFILE)),figures,figures/$(PROFILE))
READY := $(VENV)/.ready
export OMP_WAIT_POLICY := PASSIVE

.DELETE_ON_ERROR:
.PHONY: help figures data pretrain reference test lint lab lock clean
.DEFAULT_GOAL := help

help:  ## print this help
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo "Options: PROFILE=smoke|demo|paper (now $(PROFILE)), SATCLIP_DATA_MIRROR=folder, SATCLIP_OFFLINE=1"

# --- set-up -------------------------------------------------------------------------------------
$(READY): requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c requirements.lock
	touch $@

# --- notebooks: each is rerun when it, its parameters, its code or what it reads has changed -----
method := $(wildcard satclip_lib/*.py satclip_lib/image_encoder/*.py)
plotting := $(wildcard satclip_lib/plotting/*.py)
profiles := notebooks/profiles/$(PROFILE).yaml
run = $(VENV)/bin/python -m satclip_lib.notebooks $(basename $(notdir $@)) --profile $(PROFILE)

$(BUILD)/%.ipynb: notebooks/%.ipynb $(profiles) $(plotting) | $(READY)
	$(run)

$(BUILD)/00_quickstart.ipynb: $(BUILD)/02_pretraining.ipynb
$(BUILD)/01_dataset_construction.ipynb: $(wildcard satclip_lib/data/*.py)
$(BUILD)/02_pretraining.ipynb: $(BUILD)/01_dataset_construction.ipynb $(method) $(wildcard satclip_lib/training/*.py)
$(BUILD)/04_downstream_tasks.ipynb: $(BUILD)/02_pretraining.ipynb $(wildcard satclip_lib/evaluation/*.py)
$(BUILD)/05_geographic_generalization.ipynb: $(BUILD)/02_pretraining.ipynb $(wildcard satclip_lib/evaluation/*.py)
$(BUILD)/06_biome_clustering.ipynb: $(BUILD)/02_pretraining.ipynb $(wildcard satclip_lib/evaluation/*.py)

# --- figures: made by the notebook on the right; one that was deleted is made again --------------
$(FIGURES)/similarity_map.png: $(BUILD)/00_quickstart.ipynb
$(FIGURES)/sample_map.png: $(BUILD)/01_dataset_construction.ipynb
$(FIGURES)/training_curves.png: $(BUILD)/02_pretraining.ipynb
$(FIGURES)/downstream_table.png $(FIGURES)/difference_forest.png $(FIGURES)/learning_curves.png $(FIGURES)/prediction_map.png: $(BUILD)/04_downstream_tasks.ipynb
$(FIGURES)/continent_table.png $(FIGURES)/continent_forest.png $(FIGURES)/continent_maps.png $(FIGURES)/few_shot_curves.png: $(BUILD)/05_geographic_generalization.ipynb
$(FIGURES)/biome_umap.png: $(BUILD)/06_biome_clustering.ipynb

ALL_FIGURES := $(addprefix $(FIGURES)/,$(addsuffix .png,\
  similarity_map sample_map training_curves downstream_table difference_forest learning_curves \
  prediction_map continent_table continent_forest continent_maps few_shot_curves biome_umap))

$(ALL_FIGURES):
	@test -f $@ || { rm -f $(firstword $^) && $(MAKE) --no-print-directory $(firstword $^); }
	@touch $@

figures: $(ALL_FIGURES)  ## make every figure from real imagery (set-up included)

data: $(BUILD)/01_dataset_construction.ipynb  ## make the patch store only

pretrain: $(BUILD)/02_pretraining.ipynb  ## and train the encoder

reference: figures  ## refresh figures/reference, the small copies that git tracks
	$(VENV)/bin/python -c "from satclip_lib.files import Workspace; from satclip_lib.plotting.figures import save_reference; save_reference(Workspace('$(PROFILE)'))"

# --- for people who change things ----------------------------------------------------------------
test: $(READY)  ## run all tests, without a network
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadgroup

lint: $(READY)  ## check style, notebooks included
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/nbstripout --verify --keep-id notebooks/*.ipynb

lab: $(READY)  ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab notebooks

lock: $(READY)  ## rewrite requirements.lock from what is installed now
	sed -n '/^#/p' requirements.lock > requirements.lock.new
	$(VENV)/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## delete executed notebooks and figures, never data or checkpoints
	rm -rf $(BUILD) $(ALL_FIGURES) $(ALL_FIGURES:.png=.pdf) $(ALL_FIGURES:.png=.json) $(ALL_FIGURES:.png=.csv)
