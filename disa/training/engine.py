"""Where and how a step is computed: the device, the precision, and how many processes share the batch (accelerate).

Signature: (settings, device) -> Engine; it knows nothing of segmentation. Processes come from torchrun or
`accelerate launch`; one process is the same code with sums over one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from disa.errors import DisaError
from disa.running.devices import choose_device
from disa.running.processes import Processes, join
from disa.training.precision import check_precision
from disa.training.settings import TrainConfig
from disa.training.shards import local

MOST_SKIPPED = (
    20  # fp16 steps in a row without a finite gradient, each at half the scale of the one before
)


class Engine:
    """One process of a run. `processes` tells it from the others; the first writes, all compute."""

    def __init__(self, settings: TrainConfig, device: str, processes: Processes) -> None:
        """Use `open_engine`, which also gives everything back."""
        self.processes, self.shards = processes, settings.shard
        refuse(settings, device, processes.count)
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        self.accelerator = Accelerator(
            mixed_precision="no" if settings.precision == "fp32" else settings.precision,
            cpu=device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
        self.device = torch.device(device)
        self.fp16, self.skipped = settings.precision == "fp16", 0
        self.undivided: list[
            nn.Parameter
        ] = []  # under shards: scalars, which are whole on every process

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.processes.rank == 0

    def prepare(
        self, module: nn.Module, adam: Optimizer, unused: bool = False
    ) -> tuple[nn.Module, Any]:
        """Return both as the processes share them: with a copy of all weights each, or with a part of each weight.

        `unused`: some weights may have no part in a step, which copies must look out for.
        """
        if not self.shards:
            assert self.accelerator.ddp_handler is not None
            self.accelerator.ddp_handler.find_unused_parameters = unused
            prepared = self.accelerator.prepare(module, adam)
            return prepared[0], prepared[1]
        # torch's own: accelerate has it on GPUs only, for networks without scalars, and with weights cast to 16 bit.
        # One group: parts of CLIP's blocks are called one by one, which no inner group would see (D87)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        self.undivided = [parameter for parameter in module.parameters() if parameter.ndim == 0]
        mesh = init_device_mesh(self.device.type, (self.processes.count,))
        fully_shard(
            module, mesh=mesh, reshard_after_forward=False, ignored_params=set(self.undivided)
        )
        parts = dict(module.named_parameters())
        for group in adam.param_groups:
            group["params"] = [parts[names[id(parameter)]] for parameter in group["params"]]
            group["foreach"] = group["fused"] = (
                False  # these take no mixture of whole and divided tensors
            )
        return module, self.accelerator.prepare_optimizer(adam)

    @contextmanager
    def collecting(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Compute in the run's precision, and only add gradients up for all parts of a batch but the last."""
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
            with self.accelerator.autocast():
                yield
        elif last:
            yield
        else:
            with self.accelerator.no_sync(module):
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this process's share of the loss: shares add up over parts and processes."""
        self.accelerator.backward(loss * self.processes.count)  # the processes average

    def clipped(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients down to a norm of `most` and return the norm before."""
        if not self.shards:
            return float(self.accelerator.clip_grad_norm_(parameters, most))
        for parameter in self.undivided:
            if parameter.grad is not None:
                parameter.grad = self.summed(parameter.grad) / self.processes.count
        squares = torch.zeros((), device=self.device)
        for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
            # what every process has whole must count once
            share = 1 if isinstance(gradient, DTensor) else self.processes.count
            squares += local(gradient).square().sum() / share
        norm = float(self.summed(squares).sqrt())
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(
                    min(1.0, most / (norm + 1e-6))
                )  # as torch.nn.utils.clip_grad_norm_
        return norm

    def update(self, adam: Any, norm: float) -> None:
        """Do the optimizer's step. Raises `FloatingPointError` if fp16 finds no scale at which gradients are finite."""
        adam.step()
        self.skipped = self.skipped + 1 if self.fp16 and adam.step_was_skipped else 0
        if self.skipped > MOST_SKIPPED:
            raise FloatingPointError(
                f"norm {norm} in {self.skipped} steps of fp16, at ever smaller scales"
            )

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return value if self.processes.count == 1 else self.accelerator.reduce(value, "sum")

    def wait(self) -> None:
        """Wait for the other processes."""
        self.accelerator.wait_for_everyone()

    @property
    def scale(self) -> dict[str, Any] | None:
        """What fp16 multiplies losses by, and how it changes; None in other precisions."""
        return self.accelerator.scaler.state_dict() if self.fp16 else None

    @scale.setter
    def scale(self, value: dict[str, Any] | None) -> None:
        if self.fp16 and value is not None:
            self.accelerator.scaler.load_state_dict(value)


@contextmanager
def open_engine(settings: TrainConfig, device: str) -> Iterator[Engine]:
    """Join the other processes, if there are any; `device` as `disa.load` takes it, one GPU for each of several.

    Raises `DisaError` for settings that the device cannot serve.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and device != "cpu" else "gloo"
    with join(backend) as processes:
        try:
            yield Engine(settings, str(choose_device(processes.device(device))), processes)
        finally:
            AcceleratorState._reset_state(
                reset_partial_state=True
            )  # another run may have another precision


def refuse(settings: TrainConfig, device: str, processes: int) -> None:
    """Raise `DisaError`, with the remedy, for settings that the device, the processes or the launcher contradict."""
    if settings.batch % processes:
        raise DisaError(
            f"batch={settings.batch}: {processes} processes share it, so it must be a multiple of {processes}"
        )
    share = settings.batch // processes
    if settings.micro_batch and share % settings.micro_batch:
        raise DisaError(
            f"micro_batch={settings.micro_batch}: a process has {share} of the {settings.batch} images of a step, "
            "which must be a multiple of it"
        )
    if settings.shard and processes == 1:
        raise DisaError(
            "shard=true: there is one process only; start several with torchrun or accelerate launch"
        )
    if settings.shard and (settings.compile or settings.precision == "fp16"):
        said = "compile=true" if settings.compile else "precision=fp16"
        raise DisaError(f"{said}: not with shard=true; leave one of them out")
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise DisaError("accelerate launch --use_fsdp: leave it out, and add --set shard=true")
    check_precision(settings.precision, device)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").replace("no", "fp32")
    if asked not in (
        "fp32",
        settings.precision,
    ):  # "no" is also what the launcher says when nobody was asked
        raise DisaError(
            f"accelerate launch --mixed_precision {asked}: the run has precision={settings.precision}; "
            f"leave the option out, or add --set precision={asked}"
        )
    if (parts := os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")) != "1":
        raise DisaError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={parts}: unset it, and use --set micro_batch"
        )
    if (backend := os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()) != "no":
        raise DisaError(
            f"accelerate launch --dynamo_backend {backend}: leave it out, and add --set compile=true"
        )
