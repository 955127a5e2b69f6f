"""Initial weights drawn from a seed, without changing the random state of the process."""

import torch
from torch.overrides import TorchFunctionMode


class Seeded(TorchFunctionMode):
    """A block in which ``torch.nn.init`` draws what it would after ``torch.manual_seed(seed)``.

    The random state of the process, which all threads share, does not change;
    ``torch.random.fork_rng`` would change it until the block ends.

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
        """Pass the generator to every function that takes one, as those of ``torch.nn.init`` do."""
        kwargs = dict(kwargs or {})
        if "generator" in kwargs:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
