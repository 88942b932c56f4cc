"""Random starts that two networks share: a part's weights depend on the seed and its name, not on what else there is.

Signature: (name, function that builds a part) -> the part
"""

import zlib
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Part = TypeVar("Part", bound=nn.Module)


class Starts:
    """One network's, or one level's, source of random starts (decision D85). It draws one number where it is made."""

    def __init__(self) -> None:
        self.base = int(torch.randint(2**31, (), device="cpu"))

    def __call__(self, name: str, build: Callable[[], Part]) -> Part:
        """Return what `build` makes; torch's own random numbers go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{self.base} {name}".encode()))
            return build()
