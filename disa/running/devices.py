"""The choice of a device by its name, and the numbers on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from disa.errors import DisaError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device of that name; "auto" takes the fastest there is.

    Raises `DisaError` if it is not there.
    """
    # The fastest first: "auto" takes the first of them.
    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        available.append("mps")
    available.append("cpu")

    name = str(device)
    if name == "auto":
        return torch.device(available[0])
    # torch's own name for the current GPU, which is the first.
    full_name = "cuda:0" if name == "cuda" else name
    if full_name not in available:
        raise DisaError(
            f'the device "{name}" is not available here; use {", ".join(available)} or auto'
        )
    return torch.device(full_name)


@contextmanager
def own_numbers(device: torch.device) -> Iterator[None]:
    """Compute without gradients and in the type that the model was loaded with.

    The caller's `torch.autocast` and default device end here: a segmenter has chosen its own.
    """
    with torch.inference_mode(), torch.autocast(device.type, enabled=False), usual_device():
        yield


@contextmanager
def usual_device() -> Iterator[None]:
    """Make tensors on the CPU, whatever default the caller has set."""
    # As a context a device looks at every call, so it is one only where it is needed.
    is_usual = torch.get_default_device().type == "cpu"
    with nullcontext() if is_usual else torch.device("cpu"):
        yield


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Make tensors in 32 bit on the CPU, whatever defaults the caller has set.

    The default type is that of all threads, so this is for loading a model and not for every call.
    """
    own = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with usual_device():
            yield
    finally:
        torch.set_default_dtype(own)


def _compute_alone() -> None:
    torch.set_num_threads(1)


# A forked process has none of its parent's threads, and GNU's OpenMP would wait for them for ever
# (decision D143). Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
