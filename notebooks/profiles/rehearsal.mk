# The rehearsal makes here what the paper profile downloads, and then goes the same way.
PATCHES ?= 2000
$(BUILD)/01_dataset_construction.ipynb: data/rehearsal/raw/registry.json
data/rehearsal/raw/registry.json: | $(READY)
	@$(VENV)/bin/python -m tools.make_rehearsal $(@D) --num-patches $(PATCHES)

include notebooks/profiles/paper.mk
