# Two commands do all set-up: `make figures` and `make test`. `make` alone prints this help.
PROFILE ?= demo
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BUILD := build/$(PROFILE)
FIGURES := $(if $(filter demo,$(PROFILE)),figures,figures/$(PROFILE))
READY := $(VENV)/.ready
export OMP_WAIT_POLICY := PASSIVE
$(if $(filter 3.%,$(MAKE_VERSION)),$(error GNU Make 4 is needed; on macOS `brew install make`, then `gmake`))

.DELETE_ON_ERROR:
.PHONY: help FORCE browser figures data pretrain reference verify expected peers solutions site test types lint edges lab exercises lock clean
.DEFAULT_GOAL := help

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Options: PROFILE=smoke|demo|rehearsal|paper (now $(PROFILE)), SATCLIP_DATA_MIRROR=folder, SATCLIP_OFFLINE=1, JOBS=2"

# --- set-up -------------------------------------------------------------------------------------
# uv is fast. pip installs torch, whose index only pip may know, and all where uv finds no index.
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.lock
unexport PYTHONDONTWRITEBYTECODE  # modules are compiled when first imported, and only then

$(READY): requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch uv
	$(VENV)/bin/uv pip install --quiet -r requirements.txt -c requirements.lock || $(INSTALL) -r requirements.txt
	touch $@

# --- notebooks: each is rerun when it, its parameters, its code or what it reads has changed -----
executed := $(patsubst notebooks/%,$(BUILD)/%,$(wildcard notebooks/*.ipynb))
after_pretraining := $(filter-out %/01_dataset_construction.ipynb %/02_pretraining.ipynb,$(executed))
solved := $(patsubst notebooks/%,$(BUILD)/%,$(wildcard notebooks/solutions/*.ipynb))
checkpoints := $(wildcard data/$(PROFILE)/checkpoints/*-l[14]0/model.safetensors)

# Pretraining has all cores. What comes after runs side by side, with one thread each.
$(BUILD)/%.ipynb: notebooks/%.ipynb notebooks/profiles/$(PROFILE).yaml requirements.lock | $(READY)
	@$(if $(filter $@,$(after_pretraining) $(solved)),OMP_NUM_THREADS=1) \
	$(VENV)/bin/python -m tools.run_notebook $* --profile $(PROFILE)

$(BUILD)/02_pretraining.ipynb: $(BUILD)/01_dataset_construction.ipynb
$(after_pretraining): $(checkpoints) | $(BUILD)/02_pretraining.ipynb
$(checkpoints): $(BUILD)/02_pretraining.ipynb ;
$(BUILD)/08_ablations.ipynb: benchmarks/results/ablations.json
$(solved): $(executed)  # they read what the notebooks left

# edges.mk lists each notebook's modules and figures. One of whose figures is gone has to run again.
missing = $(if $(filter-out $(wildcard $1),$1),FORCE)
include notebooks/edges.mk $(wildcard notebooks/profiles/$(PROFILE).mk)  # what else a profile makes
FORCE:

# --- figures ------------------------------------------------------------------------------------
all_figures := $(foreach notebook,$(executed),$($(basename $(notdir $(notebook)))))
$(all_figures):
	@touch -c $@

longest := 04_downstream_tasks 06_biome_clustering 05_geographic_generalization  # begun first
$(FIGURES)/index.html: $(longest:%=$(BUILD)/%.ipynb) $(all_figures) tools/contact_sheet.py
	@$(VENV)/bin/python -m tools.contact_sheet --profile $(PROFILE)

# `make -j4 figures` runs up to four notebooks side by side; without -j it is JOBS.
figures: $(READY)  ## make every figure from real imagery (set-up included)
	@SATCLIP_STARTED=$$(date +%s) $(MAKE) --no-print-directory \
	$(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS)) $(FIGURES)/index.html
	@echo "All figures on one page: $(FIGURES)/index.html"

data: $(BUILD)/01_dataset_construction.ipynb  ## make the patch store only
pretrain: $(BUILD)/02_pretraining.ipynb  ## make the patch store and train both encoders

reference: figures browser  ## refresh figures/reference, the small copies that git tracks
	$(VENV)/bin/python -m tools.save_reference --profile $(PROFILE)

verify: figures  ## make the figures and compare their numbers with the committed ones
	$(VENV)/bin/python benchmarks/verify.py --profile $(PROFILE)
expected: figures  ## take the numbers of the figures as those to expect
	$(VENV)/bin/python benchmarks/verify.py --profile $(PROFILE) --update
peers: $(READY)  ## install the pretrained encoders of other projects, for comparison
	$(INSTALL) --no-deps geoclip==1.3.0 && $(VENV)/bin/python -m satclip_lib.evaluation.peers
solutions: $(solved)  ## run the solutions of the exercises, for the site
site: $(READY)  ## render notebooks, figures, API and results into build/site (after make figures)
	$(VENV)/bin/python -m docs.build_site --profile $(PROFILE)

# --- for people who change things ----------------------------------------------------------------
edges:  ## rewrite notebooks/edges.mk, after a change of imports or figures in a notebook
	$(PYTHON) -m tools.edges

# The atlas is tested in a real browser: one that is there, $CHROMIUM, or Debian's if we may install.
browser:
	@test -n "$$CHROMIUM" || { command -v chromium || command -v chromium-browser || \
	command -v google-chrome; } >/dev/null || \
	{ test "$$(id -u)" = 0 && apt-get -qq update && apt-get -qq install -y chromium; } >/dev/null 2>&1 || \
	echo "No Chromium found or installed: the tests of the atlas will be skipped. Set CHROMIUM=path."

# Three processes on two cores: servers and browsers are waited for.
test: $(READY) browser  ## run all tests, without a network
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -rs

types: $(READY)  ## check the types of the public modules
	$(VENV)/bin/mypy

lint: $(READY) types  ## check style and types, notebooks included
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/nbstripout --verify --keep-id notebooks/*.ipynb notebooks/solutions/*.ipynb

lab: $(READY)  ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab notebooks/00_quickstart.ipynb
exercises: $(READY)  ## copy the data of notebooks into a profile of its own, for exercises
	@$(VENV)/bin/python -m tools.exercises --profile $(PROFILE)

lock: $(READY)  ## rewrite requirements.lock from what is installed now
	sed -n '/^#/p' requirements.lock > requirements.lock.new
	$(VENV)/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## delete executed notebooks and figures, never data or checkpoints
	rm -rf $(BUILD) $(FIGURES)/index.html $(foreach kind,png pdf json csv,$(all_figures:.png=.$(kind)))
