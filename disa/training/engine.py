"""Where and how a step is computed: device, precision, and the processes that share a batch.

The engine knows nothing of segmentation. A single process runs the same code as several.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from disa.errors import DisaError
from disa.running.devices import DTYPES, choose_device
from disa.running.processes import Processes, join
from disa.running.terminal import warn
from disa.training.settings import TrainConfig

MOST_SKIPPED = 20  # fp16 steps in a row without a finite gradient; each halves the scale

# Names of `torch.cpu.get_capabilities` on x86 and ARM.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16")


class Engine:
    """One process of a run. The first writes, all compute."""

    def __init__(self, settings: TrainConfig, device: str, processes: Processes) -> None:
        """Raise `DisaError` for settings that the device cannot serve. Use `open_engine`."""
        refuse(settings, device, processes.count)
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        self.processes = processes
        self.device = torch.device(device)
        # Of the forward pass; weights, losses and gradients have 32 bits.
        self.dtype = DTYPES[settings.precision]

        # torch warns that RMSNorm of 16-bit values by 32-bit weights is slow. Users cannot help it.
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")

        # fp16 has a small range: losses are multiplied by a scale that follows the gradients.
        is_fp16 = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type) if is_fp16 else None
        self.skipped = 0

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.processes.rank == 0

    def prepare(self, module: nn.Module, unused: bool = False) -> nn.Module:
        """Return the module as the processes share it: a copy each, whose gradients are averaged.

        `unused` says that some weights may have no gradient, for which the copies must not wait.
        """
        if self.processes.count == 1:
            return module
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=unused,
        )

    @contextmanager
    def computing(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Compute in the run's precision.

        The processes exchange gradients once a batch, with its `last` part; before it, each of
        them only adds up its own.
        """
        # Without `no_sync`, every backward pass waits for the other processes' gradients.
        is_half = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=is_half):
            if isinstance(module, DistributedDataParallel) and not last:
                with module.no_sync():
                    yield
            else:
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this process's share of the loss.

        Shares add up over parts and processes; the factor undoes the processes' averaging.
        """
        loss = loss * self.processes.count
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()

    def clip(self, parameters: list[nn.Parameter], adam: Optimizer, most: float) -> float:
        """Scale the gradients down to a norm of `most` and return the norm before."""
        # Gradients carry the losses' scale, `most` does not.
        if self.scaler is not None:
            self.scaler.unscale_(adam)
        return float(torch.nn.utils.clip_grad_norm_(parameters, most))

    def update(self, adam: Optimizer, norm: float) -> None:
        """Do the optimizer's step.

        In fp16, a step whose gradients overflow is left out, and the scale falls. Raises
        `FloatingPointError` if no scale makes them finite.
        """
        if self.scaler is None:
            adam.step()
            return
        # Only a lower scale tells that the step was left out.
        before = self.scaler.get_scale()
        self.scaler.step(adam)
        self.scaler.update()
        overflowed = self.scaler.get_scale() < before
        self.skipped = self.skipped + 1 if overflowed else 0
        if self.skipped > MOST_SKIPPED:
            raise FloatingPointError(
                f"norm {norm} in {self.skipped} steps of fp16, at ever smaller scales"
            )

    def any(self, value: bool) -> bool:
        """Whether `value` is true in any process."""
        return any(self.processes.gathered(value))

    def wait(self) -> None:
        """Wait for the other processes."""
        self.processes.gathered(None)

    @property
    def scale(self) -> dict[str, Any] | None:
        """What fp16 multiplies losses by, and how it changes; None in other precisions."""
        return None if self.scaler is None else self.scaler.state_dict()

    @scale.setter
    def scale(self, value: dict[str, Any] | None) -> None:
        if self.scaler is not None and value is not None:
            self.scaler.load_state_dict(value)


@contextmanager
def open_engine(settings: TrainConfig, device: str) -> Iterator[Engine]:
    """Join the other processes, if there are any; of several, each has a GPU of its own.

    `device` is a name as `disa.load` takes it. Raises `DisaError` for settings that the device
    cannot serve.
    """
    # Gradients on GPUs go by nccl, everything else by gloo.
    on_gpus = torch.cuda.is_available() and device != "cpu"
    with join("cpu:gloo,cuda:nccl" if on_gpus else "gloo") as processes:
        chosen = choose_device(processes.device(device))
        yield Engine(settings, str(chosen), processes)


def refuse(settings: TrainConfig, device: str, processes: int) -> None:
    """Raise `DisaError`, with the remedy, for settings that device or processes contradict."""
    if settings.batch % processes:
        raise DisaError(
            f"batch={settings.batch}: {processes} processes share it, so it must be a multiple of "
            f"{processes}"
        )
    share = settings.batch // processes
    if settings.micro_batch and share % settings.micro_batch:
        raise DisaError(
            f"micro_batch={settings.micro_batch}: a process has {share} of the {settings.batch} "
            "images of a step, which must be a multiple of it"
        )
    _check_precision(settings.precision, device)


def _check_precision(precision: str, device: str) -> None:
    """Raise `DisaError` for 16 bit that the device cannot compute, and warn of emulated bf16."""
    if precision == "fp16" and device == "cpu":
        raise DisaError("precision=fp16: a CPU cannot train in it; use precision=fp32")
    if precision != "bf16":
        return
    if device.startswith("cuda") and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DisaError("precision=bf16: this GPU cannot compute it; use fp16 or fp32")
    capabilities = torch.cpu.get_capabilities()
    if device == "cpu" and not any(capabilities.get(name) for name in BF16_INSTRUCTIONS):
        warn("precision=bf16: this CPU only emulates it, slowly; --precision fp32 is faster")
