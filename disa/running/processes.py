"""Several processes that share one evaluation, as torchrun and `accelerate launch` start them.

Signature: environment (RANK, WORLD_SIZE, LOCAL_RANK) -> Processes. What they exchange are sums of
    counts, on the CPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from disa.errors import DisaError

PATIENCE = timedelta(days=2)  # a slow process is waited for; a dead one is noticed by the launcher
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among its like."""

    rank: int
    count: int
    local_rank: int  # on this machine

    def summed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over all processes, the same in each."""
        if self.count == 1:
            return tensors
        sums = {name: tensor.clone() for name, tensor in tensors.items()}
        for tensor in sums.values():
            dist.all_reduce(tensor)
        return sums

    def gathered(self, value: T) -> list[T]:
        """Return every process's value, by rank."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def device(self, name: str) -> str:
        """Return this process's device; for several, "auto" and "cuda" mean one GPU each.

        Raises `DisaError` for one GPU that several would share.
        """
        if self.count == 1:
            return name
        if name.startswith("cuda:"):
            raise DisaError(
                f"--device {name}: {self.count} processes cannot share it; use --device cuda, a "
                "GPU for each"
            )
        return (
            f"cuda:{self.local_rank}"
            if torch.cuda.is_available() and name in ("auto", "cuda")
            else name
        )


ALONE = Processes(0, 1, 0)
_PEER_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
)  # what gloo says then


def is_first() -> bool:
    """Whether this process is the first or the only one: it speaks after all have left."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join(backend: str = "gloo") -> Iterator[Processes]:
    """Join the other processes, if a launcher started several; `backend` as torch names it.

    Raises `DisaError` if the launcher's variables make no sense, and in the others when one of them
    stops.
    """
    try:
        rank, count, local = (
            int(os.environ.get(n, d))
            for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        if count > 1:
            dist.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DisaError(
            f"cannot join the other processes ({reason}); start them with torchrun or accelerate"
        ) from None
    try:
        yield Processes(rank, count, local) if count > 1 else ALONE
    except RuntimeError as error:
        if count > 1 and (
            isinstance(error, dist.DistError) or any(said in str(error) for said in _PEER_GONE)
        ):
            raise DisaError("another process has stopped; what it said is the reason") from None
        raise
    # not after an error: the others are in the middle of something, and this would wait for them
    if count > 1:
        dist.destroy_process_group()
