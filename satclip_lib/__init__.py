"""SatCLIP: location encoders learned by matching coordinates with satellite images.

Importing this package imports nothing else; each name below is fetched when it is first used.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "CheckpointError": "checkpoints.download",
    "Damping": "location_encoder",
    "LocationEncoder": "location_encoder",
    "LocationEncoderConfig": "location_encoder",
    "SatCLIP": "model",
    "SphericalHarmonics": "spherical_harmonics",
    "convert_published": "checkpoints.store",
    "embed": "embedding.embed",
    "load_location_encoder": "checkpoints.store",
    "load_satclip": "checkpoints.store",
    "prepare_sentinel2": "data.sentinel2",
    "push_to_hub": "checkpoints.store",
    "save_pretrained": "checkpoints.store",
    "save_published": "checkpoints.published",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
