"""Several processes that share one run, as torchrun and `accelerate launch` start them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from disa.errors import DisaError, one_line

# One process may compute for long while the others wait. The launcher notices one that dies.
PATIENCE = timedelta(days=2)
# What gloo says when another process has gone.
PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "Socket closed")
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The number of this process, from 0, among all and among those of its machine."""

    rank: int
    count: int
    local_rank: int

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, the same in each."""
        if self.count == 1:
            return tensor
        # torch writes the sum over its argument, which belongs to the caller.
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def gathered(self, value: T) -> list[T]:
        """Return the value of every process, by rank."""
        # torch fills this list; its length is all that counts.
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def device(self, name: str) -> str:
        """Return the device of this process: "auto" and "cuda" give each process a GPU of its own.

        Raises `DisaError` for a single GPU that several would share.
        """
        if self.count == 1:
            return name
        # All processes read the same command line, so a numbered GPU would be every one's.
        if name.startswith("cuda:"):
            raise DisaError(
                f"--device {name}: {self.count} processes cannot share it; use --device cuda, "
                "a GPU for each"
            )
        if name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank}"
        return name


ALONE = Processes(0, 1, 0)


def is_first() -> bool:
    """Tell whether this process is the only one or the first, which speaks for all.

    Unlike `Processes.rank`, this is known before and after they are joined.
    """
    # torchrun and accelerate both set it.
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join(backend: str = "gloo") -> Iterator[Processes]:
    """Join the other processes, if a launcher started several; `backend` as torch names it.

    Raises `DisaError` if the launcher's variables make no sense, and when another process stops.
    """
    try:
        processes = Processes(
            rank=int(os.environ.get("RANK", 0)),
            count=int(os.environ.get("WORLD_SIZE", 1)),
            local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        )
        if processes.count > 1:
            dist.init_process_group(
                backend, rank=processes.rank, world_size=processes.count, timeout=PATIENCE
            )
    except (ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise DisaError(
            f"cannot join the other processes ({reason}); start them with torchrun or accelerate"
        ) from None

    if processes.count == 1:
        yield ALONE
        return
    try:
        yield processes
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(text in str(error) for text in PEER_GONE):
            raise DisaError("another process has stopped; its own message says why") from None
        raise
    # Not after an error: this would wait for the others, which are in the middle of something.
    dist.destroy_process_group()
