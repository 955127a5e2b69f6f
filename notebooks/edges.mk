# Written by `make edges`: what each notebook imports, and the figures it makes.

00_quickstart := $(FIGURES)/similarity_map.png
$(00_quickstart): $(BUILD)/00_quickstart.ipynb
$(BUILD)/00_quickstart.ipynb: $(call missing,$(00_quickstart)) satclip_lib/__init__.py \
  satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/labels.py satclip_lib/data/land.py satclip_lib/data/natural_earth.py \
  satclip_lib/data/patch_store.py satclip_lib/data/registry.json satclip_lib/data/registry.py \
  satclip_lib/data/seasons.py satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/similar.py \
  satclip_lib/embedding/uncertainty.py satclip_lib/evaluation/__init__.py \
  satclip_lib/evaluation/inaturalist.py satclip_lib/evaluation/loaders.py \
  satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/siren.py satclip_lib/files.py satclip_lib/image_encoder/__init__.py \
  satclip_lib/image_encoder/backbones.py satclip_lib/image_encoder/base.py \
  satclip_lib/image_encoder/random_features.py satclip_lib/location_encoder.py \
  satclip_lib/model.py satclip_lib/plotting/__init__.py satclip_lib/plotting/figures.py \
  satclip_lib/plotting/maps.py satclip_lib/plotting/similarity.py \
  satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py satclip_lib/progress.py \
  satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

01_dataset_construction := $(FIGURES)/sample_map.png
$(01_dataset_construction): $(BUILD)/01_dataset_construction.ipynb
$(BUILD)/01_dataset_construction.ipynb: $(call missing,$(01_dataset_construction)) \
  satclip_lib/__init__.py satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/images.py satclip_lib/data/labels.py satclip_lib/data/land.py \
  satclip_lib/data/natural_earth.py satclip_lib/data/patch_store.py \
  satclip_lib/data/patch_writer.py satclip_lib/data/quality.py satclip_lib/data/registry.json \
  satclip_lib/data/registry.py satclip_lib/data/s2_100k.py satclip_lib/data/s2_folder.py \
  satclip_lib/data/seasons.py satclip_lib/data/sentinel2.py satclip_lib/data/transforms.py \
  satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/uncertainty.py \
  satclip_lib/evaluation/__init__.py satclip_lib/evaluation/baselines.py \
  satclip_lib/evaluation/benchmark.py satclip_lib/evaluation/end_to_end.py \
  satclip_lib/evaluation/inaturalist.py satclip_lib/evaluation/loaders.py \
  satclip_lib/evaluation/mlp.py satclip_lib/evaluation/prediction.py \
  satclip_lib/evaluation/probes.py satclip_lib/evaluation/ridge.py \
  satclip_lib/evaluation/scoring.py satclip_lib/evaluation/splits.py \
  satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/seeded.py satclip_lib/fast/siren.py satclip_lib/files.py \
  satclip_lib/image_encoder/__init__.py satclip_lib/image_encoder/backbones.py \
  satclip_lib/image_encoder/base.py satclip_lib/image_encoder/random_features.py \
  satclip_lib/location_encoder.py satclip_lib/model.py satclip_lib/plotting/__init__.py \
  satclip_lib/plotting/figures.py satclip_lib/plotting/layers.py satclip_lib/plotting/maps.py \
  satclip_lib/plotting/patches.py satclip_lib/plotting/style.mplstyle \
  satclip_lib/plotting/style.py satclip_lib/progress.py satclip_lib/sphere.py \
  satclip_lib/spherical_harmonics.py

02_pretraining := $(FIGURES)/training_curves.png
$(02_pretraining): $(BUILD)/02_pretraining.ipynb
$(BUILD)/02_pretraining.ipynb: $(call missing,$(02_pretraining)) satclip_lib/__init__.py \
  satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/features.py satclip_lib/data/images.py satclip_lib/data/land.py \
  satclip_lib/data/moco.py satclip_lib/data/natural_earth.py satclip_lib/data/patch_store.py \
  satclip_lib/data/registry.json satclip_lib/data/registry.py satclip_lib/data/seasons.py \
  satclip_lib/data/sentinel2.py satclip_lib/data/transforms.py satclip_lib/embedding/__init__.py \
  satclip_lib/embedding/retrieval.py satclip_lib/evaluation/__init__.py \
  satclip_lib/evaluation/splits.py satclip_lib/fast/__init__.py satclip_lib/fast/seeded.py \
  satclip_lib/fast/siren.py satclip_lib/fast/tiled_loss.py satclip_lib/files.py \
  satclip_lib/image_encoder/__init__.py satclip_lib/image_encoder/backbones.py \
  satclip_lib/image_encoder/base.py satclip_lib/image_encoder/random_features.py \
  satclip_lib/location_encoder.py satclip_lib/loss.py satclip_lib/model.py \
  satclip_lib/plotting/__init__.py satclip_lib/plotting/curves.py satclip_lib/plotting/figures.py \
  satclip_lib/plotting/globes.py satclip_lib/plotting/maps.py satclip_lib/plotting/style.mplstyle \
  satclip_lib/plotting/style.py satclip_lib/progress.py satclip_lib/sphere.py \
  satclip_lib/spherical_harmonics.py satclip_lib/training/__init__.py \
  satclip_lib/training/batches.py satclip_lib/training/checkpoint_io.py \
  satclip_lib/training/curve.py satclip_lib/training/fit.py \
  satclip_lib/training/image_components.py satclip_lib/training/module.py \
  satclip_lib/training/recipes.py

03_embedding_space := $(FIGURES)/method_overview.png $(FIGURES)/embedding_globes.png \
  $(FIGURES)/similarity_places.png
$(03_embedding_space): $(BUILD)/03_embedding_space.ipynb
$(BUILD)/03_embedding_space.ipynb: $(call missing,$(03_embedding_space)) satclip_lib/__init__.py \
  satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/features.py satclip_lib/data/images.py satclip_lib/data/labels.py \
  satclip_lib/data/land.py satclip_lib/data/natural_earth.py satclip_lib/data/patch_store.py \
  satclip_lib/data/registry.json satclip_lib/data/registry.py satclip_lib/data/seasons.py \
  satclip_lib/data/sentinel2.py satclip_lib/data/transforms.py satclip_lib/embedding/__init__.py \
  satclip_lib/embedding/cf.py satclip_lib/embedding/containers.py \
  satclip_lib/embedding/coordinates.py satclip_lib/embedding/embed.py \
  satclip_lib/embedding/geometries.py satclip_lib/embedding/retrieval.py \
  satclip_lib/embedding/similar.py satclip_lib/embedding/similarity_search.py \
  satclip_lib/embedding/uncertainty.py satclip_lib/evaluation/__init__.py \
  satclip_lib/evaluation/baselines.py satclip_lib/evaluation/clusters.py \
  satclip_lib/evaluation/positional.py satclip_lib/evaluation/projection.py \
  satclip_lib/evaluation/splits.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/seeded.py satclip_lib/fast/siren.py satclip_lib/files.py \
  satclip_lib/image_encoder/__init__.py satclip_lib/image_encoder/backbones.py \
  satclip_lib/image_encoder/base.py satclip_lib/image_encoder/random_features.py \
  satclip_lib/location_encoder.py satclip_lib/model.py satclip_lib/plotting/__init__.py \
  satclip_lib/plotting/figures.py satclip_lib/plotting/globes.py satclip_lib/plotting/maps.py \
  satclip_lib/plotting/schematic.py satclip_lib/plotting/similarity.py \
  satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py satclip_lib/progress.py \
  satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

04_downstream_tasks := $(FIGURES)/downstream_table.png $(FIGURES)/difference_forest.png \
  $(FIGURES)/learning_curves.png $(FIGURES)/prediction_map.png
$(04_downstream_tasks): $(BUILD)/04_downstream_tasks.ipynb
$(BUILD)/04_downstream_tasks.ipynb: $(call missing,$(04_downstream_tasks)) \
  satclip_lib/__init__.py satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/labels.py satclip_lib/data/land.py satclip_lib/data/natural_earth.py \
  satclip_lib/data/patch_store.py satclip_lib/data/registry.json satclip_lib/data/registry.py \
  satclip_lib/data/seasons.py satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/tables.py \
  satclip_lib/embedding/text_tables.py satclip_lib/embedding/uncertainty.py \
  satclip_lib/evaluation/__init__.py satclip_lib/evaluation/ablations.py \
  satclip_lib/evaluation/baselines.py satclip_lib/evaluation/benchmark.py \
  satclip_lib/evaluation/encoders.py satclip_lib/evaluation/end_to_end.py \
  satclip_lib/evaluation/inaturalist.py satclip_lib/evaluation/loaders.py \
  satclip_lib/evaluation/mlp.py satclip_lib/evaluation/own_table.py \
  satclip_lib/evaluation/peers.py satclip_lib/evaluation/positional.py \
  satclip_lib/evaluation/prediction.py satclip_lib/evaluation/probes.py \
  satclip_lib/evaluation/ridge.py satclip_lib/evaluation/scoring.py \
  satclip_lib/evaluation/splits.py satclip_lib/evaluation/summary.py \
  satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/seeded.py satclip_lib/fast/siren.py satclip_lib/files.py \
  satclip_lib/image_encoder/__init__.py satclip_lib/image_encoder/backbones.py \
  satclip_lib/image_encoder/base.py satclip_lib/image_encoder/random_features.py \
  satclip_lib/location_encoder.py satclip_lib/model.py satclip_lib/plotting/__init__.py \
  satclip_lib/plotting/curves.py satclip_lib/plotting/figures.py satclip_lib/plotting/forest.py \
  satclip_lib/plotting/maps.py satclip_lib/plotting/predictions.py \
  satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py satclip_lib/plotting/tables.py \
  satclip_lib/progress.py satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

05_geographic_generalization := $(FIGURES)/continent_table.png $(FIGURES)/distance_curve.png \
  $(FIGURES)/continent_forest.png $(FIGURES)/continent_maps.png $(FIGURES)/few_shot_curves.png
$(05_geographic_generalization): $(BUILD)/05_geographic_generalization.ipynb
$(BUILD)/05_geographic_generalization.ipynb: $(call missing,$(05_geographic_generalization)) \
  satclip_lib/__init__.py satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/labels.py satclip_lib/data/land.py satclip_lib/data/natural_earth.py \
  satclip_lib/data/patch_store.py satclip_lib/data/registry.json satclip_lib/data/registry.py \
  satclip_lib/data/seasons.py satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/uncertainty.py \
  satclip_lib/evaluation/__init__.py satclip_lib/evaluation/ablations.py \
  satclip_lib/evaluation/baselines.py satclip_lib/evaluation/benchmark.py \
  satclip_lib/evaluation/encoders.py satclip_lib/evaluation/end_to_end.py \
  satclip_lib/evaluation/inaturalist.py satclip_lib/evaluation/loaders.py \
  satclip_lib/evaluation/mlp.py satclip_lib/evaluation/peers.py \
  satclip_lib/evaluation/positional.py satclip_lib/evaluation/prediction.py \
  satclip_lib/evaluation/probes.py satclip_lib/evaluation/ridge.py \
  satclip_lib/evaluation/scoring.py satclip_lib/evaluation/splits.py \
  satclip_lib/evaluation/summary.py satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py \
  satclip_lib/fast/folded_encoder.py satclip_lib/fast/seeded.py satclip_lib/fast/siren.py \
  satclip_lib/files.py satclip_lib/image_encoder/__init__.py \
  satclip_lib/image_encoder/backbones.py satclip_lib/image_encoder/base.py \
  satclip_lib/image_encoder/random_features.py satclip_lib/location_encoder.py \
  satclip_lib/model.py satclip_lib/plotting/__init__.py satclip_lib/plotting/curves.py \
  satclip_lib/plotting/figures.py satclip_lib/plotting/forest.py satclip_lib/plotting/maps.py \
  satclip_lib/plotting/predictions.py satclip_lib/plotting/style.mplstyle \
  satclip_lib/plotting/style.py satclip_lib/plotting/tables.py satclip_lib/progress.py \
  satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

06_biome_clustering := $(FIGURES)/biome_umap.png $(FIGURES)/cluster_scores.png \
  $(FIGURES)/biome_across_continents.png $(FIGURES)/umap_by_label.png \
  $(FIGURES)/biome_similarity.png $(FIGURES)/umap_stability.png $(FIGURES)/biome_atlas.html
$(06_biome_clustering): $(BUILD)/06_biome_clustering.ipynb
$(BUILD)/06_biome_clustering.ipynb: $(call missing,$(06_biome_clustering)) \
  satclip_lib/__init__.py satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/images.py satclip_lib/data/labels.py satclip_lib/data/land.py \
  satclip_lib/data/natural_earth.py satclip_lib/data/patch_store.py satclip_lib/data/registry.json \
  satclip_lib/data/registry.py satclip_lib/data/seasons.py satclip_lib/data/sentinel2.py \
  satclip_lib/data/transforms.py satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/uncertainty.py \
  satclip_lib/evaluation/__init__.py satclip_lib/evaluation/baselines.py \
  satclip_lib/evaluation/clusters.py satclip_lib/evaluation/inaturalist.py \
  satclip_lib/evaluation/loaders.py satclip_lib/evaluation/positional.py \
  satclip_lib/evaluation/projection.py satclip_lib/evaluation/splits.py \
  satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/seeded.py satclip_lib/fast/siren.py satclip_lib/files.py \
  satclip_lib/image_encoder/__init__.py satclip_lib/image_encoder/backbones.py \
  satclip_lib/image_encoder/base.py satclip_lib/image_encoder/random_features.py \
  satclip_lib/location_encoder.py satclip_lib/model.py satclip_lib/plotting/__init__.py \
  satclip_lib/plotting/atlas.html satclip_lib/plotting/atlas.panels.js \
  satclip_lib/plotting/atlas.py satclip_lib/plotting/atlas.side.js \
  satclip_lib/plotting/atlas.state.js satclip_lib/plotting/clusters.py \
  satclip_lib/plotting/figures.py satclip_lib/plotting/globes.py satclip_lib/plotting/layers.py \
  satclip_lib/plotting/maps.py satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py \
  satclip_lib/progress.py satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

07_image_localization := $(FIGURES)/localization_maps.png $(FIGURES)/localization_errors.png \
  $(FIGURES)/retrieved_patches.png
$(07_image_localization): $(BUILD)/07_image_localization.ipynb
$(BUILD)/07_image_localization.ipynb: $(call missing,$(07_image_localization)) \
  satclip_lib/__init__.py satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/features.py satclip_lib/data/images.py satclip_lib/data/labels.py \
  satclip_lib/data/land.py satclip_lib/data/moco.py satclip_lib/data/natural_earth.py \
  satclip_lib/data/patch_store.py satclip_lib/data/registry.json satclip_lib/data/registry.py \
  satclip_lib/data/seasons.py satclip_lib/data/sentinel2.py satclip_lib/data/transforms.py \
  satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/localization.py satclip_lib/embedding/regions.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/similarity_search.py \
  satclip_lib/embedding/uncertainty.py satclip_lib/evaluation/__init__.py \
  satclip_lib/evaluation/baselines.py satclip_lib/evaluation/benchmark.py \
  satclip_lib/evaluation/end_to_end.py satclip_lib/evaluation/inaturalist.py \
  satclip_lib/evaluation/loaders.py satclip_lib/evaluation/mlp.py \
  satclip_lib/evaluation/prediction.py satclip_lib/evaluation/probes.py \
  satclip_lib/evaluation/ridge.py satclip_lib/evaluation/scoring.py \
  satclip_lib/evaluation/splits.py satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py \
  satclip_lib/fast/folded_encoder.py satclip_lib/fast/seeded.py satclip_lib/fast/siren.py \
  satclip_lib/files.py satclip_lib/image_encoder/__init__.py \
  satclip_lib/image_encoder/backbones.py satclip_lib/image_encoder/base.py \
  satclip_lib/image_encoder/random_features.py satclip_lib/location_encoder.py \
  satclip_lib/model.py satclip_lib/plotting/__init__.py satclip_lib/plotting/curves.py \
  satclip_lib/plotting/figures.py satclip_lib/plotting/maps.py satclip_lib/plotting/similarity.py \
  satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py satclip_lib/progress.py \
  satclip_lib/sphere.py satclip_lib/spherical_harmonics.py

08_ablations := $(FIGURES)/ablation_forest.png $(FIGURES)/ablation_full_size.png \
  $(FIGURES)/split_ranking.png
$(08_ablations): $(BUILD)/08_ablations.ipynb
$(BUILD)/08_ablations.ipynb: $(call missing,$(08_ablations)) satclip_lib/__init__.py \
  satclip_lib/checkpoints/__init__.py satclip_lib/checkpoints/archive.py \
  satclip_lib/checkpoints/assemble.py satclip_lib/checkpoints/download.py \
  satclip_lib/checkpoints/model_card.py satclip_lib/checkpoints/published.py \
  satclip_lib/checkpoints/store.py satclip_lib/data/__init__.py satclip_lib/data/blue_marble.py \
  satclip_lib/data/features.py satclip_lib/data/images.py satclip_lib/data/labels.py \
  satclip_lib/data/land.py satclip_lib/data/moco.py satclip_lib/data/natural_earth.py \
  satclip_lib/data/patch_store.py satclip_lib/data/registry.json satclip_lib/data/registry.py \
  satclip_lib/data/seasons.py satclip_lib/data/sentinel2.py satclip_lib/data/transforms.py \
  satclip_lib/embedding/__init__.py satclip_lib/embedding/cf.py \
  satclip_lib/embedding/containers.py satclip_lib/embedding/coordinates.py \
  satclip_lib/embedding/embed.py satclip_lib/embedding/geometries.py \
  satclip_lib/embedding/retrieval.py satclip_lib/embedding/uncertainty.py \
  satclip_lib/evaluation/__init__.py satclip_lib/evaluation/ablations.py \
  satclip_lib/evaluation/baselines.py satclip_lib/evaluation/benchmark.py \
  satclip_lib/evaluation/end_to_end.py satclip_lib/evaluation/inaturalist.py \
  satclip_lib/evaluation/loaders.py satclip_lib/evaluation/mlp.py \
  satclip_lib/evaluation/prediction.py satclip_lib/evaluation/probes.py \
  satclip_lib/evaluation/ridge.py satclip_lib/evaluation/scoring.py \
  satclip_lib/evaluation/splits.py satclip_lib/evaluation/summary.py \
  satclip_lib/evaluation/tasks.py satclip_lib/fast/__init__.py satclip_lib/fast/folded_encoder.py \
  satclip_lib/fast/seeded.py satclip_lib/fast/siren.py satclip_lib/fast/tiled_loss.py \
  satclip_lib/files.py satclip_lib/image_encoder/__init__.py \
  satclip_lib/image_encoder/backbones.py satclip_lib/image_encoder/base.py \
  satclip_lib/image_encoder/random_features.py satclip_lib/location_encoder.py satclip_lib/loss.py \
  satclip_lib/model.py satclip_lib/plotting/__init__.py satclip_lib/plotting/figures.py \
  satclip_lib/plotting/forest.py satclip_lib/plotting/style.mplstyle satclip_lib/plotting/style.py \
  satclip_lib/progress.py satclip_lib/sphere.py satclip_lib/spherical_harmonics.py \
  satclip_lib/training/__init__.py satclip_lib/training/batches.py \
  satclip_lib/training/checkpoint_io.py satclip_lib/training/curve.py satclip_lib/training/fit.py \
  satclip_lib/training/image_components.py satclip_lib/training/module.py \
  satclip_lib/training/recipes.py satclip_lib/training/sweep.py
