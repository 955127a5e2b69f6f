"""First weights that a seed decides, without touching the random numbers of the process."""

import torch
from torch.overrides import TorchFunctionMode


class Seeded(TorchFunctionMode):
    """A block in which ``torch.nn.init`` draws what it would after ``torch.manual_seed(seed)``.

    The random numbers of the process stay as they are, also for other threads, which share them:
    ``torch.random.fork_rng`` would change them until the block ends.

    Args:
        seed: Random seed of the weights.

    Example:
        >>> with Seeded(0):
        ...     model = LocationEncoder()
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Give a generator to whatever of ``torch.nn.init`` asks for one."""
        kwargs = dict(kwargs or {})
        if "generator" in kwargs:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
