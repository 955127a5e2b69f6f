"""The README of a saved model in the format of the Hugging Face Hub."""

import json
import re
from typing import Any

CARD_NAME = "README.md"


def escape_markdown(text: object) -> str:
    """Escape text so that Markdown shows it unchanged, on one line, also in a table."""
    return re.sub(r"([\\`*\[\]{}<>&|$~])", r"\\\1", " ".join(str(text).split()))


def make_model_card(config: dict[str, Any], *, repo_id: str | None = None) -> str:
    """The README of a saved model: what it is, how to load it, where it comes from.

    Args:
        config: Content of its ``config.json``.
        repo_id: Hugging Face id for the example; None for a local folder.
    """
    settings = config["location_encoder"]
    image_encoder = config["image_encoder"]
    provenance = json.dumps(config["provenance"], indent=2)
    licence = str(config["provenance"].get("licence", "mit"))
    embed_dim = settings["embed_dim"]
    rows = "\n".join(
        f"| {escape_markdown(name)} | {escape_markdown(value)} |"
        for name, value in settings.items()
    )
    tower = "none in this file" if image_encoder is None else json.dumps(image_encoder)
    return f"""---
license: {json.dumps(licence)}
library_name: satclip-lib
tags:
- satclip
- location-encoder
- earth-observation
---
# SatCLIP location encoder, L = {settings["num_degrees"]}

The model turns longitude and latitude into {embed_dim} numbers that describe what the place
looks like from space. The numbers are not normalised. The weights are safetensors: loading
runs no code.

```python
import torch
from satclip_lib import load_location_encoder

model = load_location_encoder("{repo_id or "path/to/this/folder"}")
model(torch.tensor([[2.35, 48.86]]))  # longitude, latitude in degrees -> (1, {embed_dim})
```

## Location encoder

| setting | value |
|---|---|
{rows}

Image encoder: {escape_markdown(tower)}

## Provenance

Licence of the weights: {escape_markdown(licence)}.

```json
{provenance}
```

## Reference

Klemmer et al., *SatCLIP: Global, General-Purpose Location Embeddings with Satellite Imagery*,
arXiv 2311.17179.
"""
