"""Progress bars, in terminals and live notebooks but not in executed copies of notebooks."""

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress_bar(iterable: Iterable | None = None, **options) -> tqdm:
    """A tqdm bar that disappears when done; ``SATCLIP_PROGRESS=0`` hides all bars.

    Args:
        iterable: Things to iterate over, or None for a bar that is updated by hand.
        **options: Options of tqdm, such as ``desc`` and ``total``.
    """
    hidden = os.environ.get("SATCLIP_PROGRESS") == "0"
    return tqdm(iterable, **{"leave": False, "disable": hidden} | options)
