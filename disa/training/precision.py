"""Whether a device computes in 16 bit: (precision, device) -> nothing, or a refusal that says what to use instead."""

import time

import torch

from disa.errors import DisaError

SLOWEST = 2.0  # bf16 that takes longer than this, as a multiple of fp32, is emulated: 5 to 80 times was measured (D89)
SIDE, TRIALS = 256, 7  # of the matrices that are timed; the quickest trial counts


def check_precision(precision: str, device: str) -> None:
    """Raise `DisaError` if `device` cannot compute in `precision`, or only by emulating it."""
    if precision == "fp16" and device == "cpu":
        raise DisaError(
            "precision=fp16: not on a CPU; use precision=fp32, or bf16 if the CPU has instructions for it"
        )
    if precision != "bf16":
        return
    if device.startswith("cuda"):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise DisaError(
                "precision=bf16: this GPU cannot compute it; use precision=fp16 or precision=fp32"
            )
    elif device == "cpu" and (factor := slowdown()) > SLOWEST:
        raise DisaError(
            f"precision=bf16: this CPU emulates it (a matrix product takes {factor:.0f} times as long as in fp32) and "
            "there is no GPU in use; add --set precision=fp32"
        )


def slowdown() -> float:
    """Return how long a matrix product takes in bf16, as a multiple of fp32; a few milliseconds."""
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        matrix, trials = torch.ones(SIDE, SIDE, dtype=dtype), []
        for _ in range(TRIALS):
            begun = time.perf_counter()
            torch.mm(matrix, matrix)
            trials.append(time.perf_counter() - begun)
        seconds.append(min(trials))
    return seconds[0] / seconds[1]
