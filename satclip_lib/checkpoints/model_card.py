"""The README of a saved model in the format of the Hugging Face Hub."""

import json
import re
from typing import Any

CARD_NAME = "README.md"


def escape_markdown(text: object) -> str:
    """Escape text so that Markdown shows it unchanged, on one line, also in a table."""
    return re.sub(r"([\\`*\[\]{}<>&|$~])", r"\\\1", " ".join(str(text).split()))


def make_model_card(
    config: dict[str, Any],
    *,
    address: str = "path/to/this/folder",
    sha256: str | None = None,
    has_retrieval: bool = False,
) -> str:
    """The README of a saved model: what it is, how to load it, where it comes from.

    Args:
        config: Content of its ``config.json``. Of the provenance, "trained on", "what it is not"
            and "made by" become sentences.
        address: What the example loads: a name, a Hugging Face id or a folder.
        sha256: Hash of the file of weights, where it is written already.
        has_retrieval: Whether the model has its map of images beside it.
    """
    settings = config["location_encoder"]
    image_encoder = config["image_encoder"]
    provenance = json.dumps(config["provenance"], indent=2)
    licence = str(config["provenance"].get("licence", "mit"))
    embed_dim = settings["embed_dim"]
    rows = "\n".join(
        f"| {escape_markdown(name)} | {escape_markdown(_show_setting(value))} |"
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

model = load_location_encoder("{address}")
model(torch.tensor([[2.35, 48.86]]))  # longitude, latitude in degrees -> (1, {embed_dim})
```
{_describe(config["provenance"], sha256=sha256, address=address if has_retrieval else None)}
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


def _describe(provenance: dict[str, Any], *, sha256: str | None, address: str | None) -> str:
    """Sentences on origin, use and file; ``address`` is that of a model with retrieval."""
    lines = []
    if trained_on := provenance.get("trained on"):
        lines.append(f"- It was trained on {escape_markdown(trained_on)}.")
    if other := provenance.get("what it is not"):
        lines.append(f"- It is not {escape_markdown(other)}.")
    if address is not None:
        lines += [
            f'- `embed(places, "{address}", retrieval=True)` puts three groups of numbers before '
            "the embedding: latitude (`zonal`), what images of the place and around it show "
            "(`retrieved`), and fine position (`local`).",
            "- Take all groups to predict something, above all in a region without labels. Take "
            "the embedding alone for maps of similarity, and `num_dims=32` for neighbours, "
            "clusters and little memory.",
        ]
    if made_by := provenance.get("made by"):
        lines.append(f"- To make it again: {_show_code(made_by)}.")
    if sha256 is not None:
        lines.append(f"- SHA-256 of `model.safetensors`: `{sha256}`.")
    return "".join(f"\n{line}" for line in lines) + "\n" * bool(lines)


def _show_code(text: object) -> str:
    line = " ".join(str(text).split())
    return escape_markdown(line) if "`" in line else f"`{line}`"


def _show_setting(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)
