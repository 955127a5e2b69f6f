# The recipes that the profile lists are trained between notebooks 01 and 02.
$(BUILD)/02_pretraining.ipynb: $(BUILD)/recipes.txt
$(BUILD)/recipes.txt: $(BUILD)/01_dataset_construction.ipynb notebooks/profiles/$(PROFILE).yaml
	@$(VENV)/bin/python -m tools.train_recipes --profile $(PROFILE)
