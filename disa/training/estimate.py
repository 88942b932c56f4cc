"""What a run will need, said before its first step: memory by counting, time by one part of a step that is thrown away.

Signature: (config, settings, labels) -> Memory; (Learner) -> seconds per step
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from torch import Tensor

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.count import parameters
from disa.model.disa import Disa
from disa.model.losses import segmentation_loss
from disa.training.checkpoint import checkpoints
from disa.training.engine import Engine
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder
from disa.training.settings import TrainConfig

GB = 1e9
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
LESS_MEMORY = "set micro_batch=1 (the same batch in parts), recompute=true, or categories to fewer than there are"


class Memory(NamedTuple):
    """Bytes that a process needs on its device, without what libraries take for themselves."""

    weights: int
    optimizer: int  # gradients, AdamW's two moments, averaged weights
    activations: int  # kept for the gradient of one part of a batch

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_size(value)}" for name, value in self._asdict().items())
        return f"about {_size(self.total)} ({parts})"


def memory(
    config: ModelConfig, settings: TrainConfig, labels: int, tokens: int, processes: int = 1
) -> Memory:
    """Count the bytes on the meta device: nothing is computed and no memory is taken.

    Activations are those that autograd keeps in 32 bit; with 16 bit half of them is assumed. `labels` take part in a
    step, their prompts are `tokens` long. Activations of the text tower are counted if it trains.
    """
    side = settings.image_size or config.backbone_image_size
    images = settings.micro_batch or settings.batch // processes
    with torch.device("meta"):
        model = Disa(config).train()
        model.recompute = settings.recompute
        kept = _kept_bytes(model, images, labels, tokens, side)
    weights = 4 * parameters(model)["total"]
    trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    parts = processes if settings.shard else 1
    copies = 4 if settings.ema else 3
    return Memory(
        weights,  # whole on every process while a step is computed, also where they are shared between steps
        copies * trained // parts,
        kept if settings.precision == "fp32" else kept // 2,
    )


def check_memory(needed: Memory, engine: Engine) -> float:
    """Return the GB that the device has. Raises `DisaError` if the run cannot fit, with what to change."""
    device = engine.device
    there = (
        torch.cuda.get_device_properties(device).total_memory
        if device.type == "cuda"
        else machine_memory()
    )
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", engine.processes.count))
    several = 1 if device.type == "cuda" else beside  # processes on one machine share its memory
    if needed.total * several > there:
        raise DisaError(
            f"training needs about {_size(needed.total * several)}, {device} has {_size(there)}: {LESS_MEMORY}"
        )
    return there / GB


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that the container in which this process runs may use."""
    limits = [psutil.virtual_memory().total]
    for path in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def check_disk(learner: Learner, folder: RunFolder) -> None:
    """Raise `DisaError` if the disk cannot hold the checkpoints to come, the best model and the last one."""
    settings = learner.settings
    weights = 4 * parameters(learner.model)["total"]
    trained = 4 * sum(parameter.numel() for parameter in learner.trained.values())
    checkpoint = (
        weights + (3 if settings.ema else 2) * trained
    )  # AdamW's two moments, averaged weights
    there = len(checkpoints(folder.checkpoints))
    models = sum(not path.exists() for path in (folder.model, folder.best))
    kept = settings.checkpoints
    to_come = max(
        1, kept + 1 - there
    )  # one more than are kept: an old one goes when the new one is whole
    needed, free = to_come * checkpoint + models * weights, shutil.disk_usage(folder.path).free
    if needed > free:
        raise DisaError(
            f"{folder.path}: the run will write about {needed / GB:.2f} GB (it keeps {kept} checkpoints), "
            f"{free / GB:.2f} are free; free some space, set checkpoints=1, or choose an --out on another disk"
        )


def step_seconds(learner: Learner, size: int) -> float:
    """Return how long a step takes, measured on a part of a batch of noise whose gradients are thrown away.

    On a GPU, and of a compiled model, two parts are computed and the second is timed: the first pays for what is set up
    once.
    """
    settings, engine = learner.settings, learner.engine
    share = settings.batch // engine.processes.count
    images = settings.micro_batch or share
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    count = len(learner.source.labels)
    labels = min(
        settings.categories or count, count
    )  # those of the noise are all present, and so take part
    target = torch.randint(0, labels, (images, size, size), generator=generator)
    seconds = 0.0
    for _ in range(2 if engine.device.type == "cuda" or settings.compile else 1):
        _synchronise(engine.device)
        begun = time.monotonic()
        learner.gradients(0, pixels, target)
        _synchronise(engine.device)
        seconds = time.monotonic() - begun
    learner.adam.zero_grad(set_to_none=True)
    return seconds * (share // images)


def _size(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / 1e6:.0f} MB"


class _Kept:
    """Adds up the storages that autograd keeps while it is open, each once, leaving out the weights."""

    def __init__(self, model: Disa) -> None:
        self.own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self.held: dict[
            int, Tensor
        ] = {}  # a tensor keeps its storage, whose address would else be given to another
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.held.values())

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in self.own:
            self.held[storage] = tensor
        return tensor


def _kept_bytes(model: Disa, images: int, labels: int, tokens: int, side: int) -> int:
    """Return the bytes that autograd keeps of one forward pass on the meta device.

    With `recompute`, that is what is kept between the parts, and the largest part, which is computed again as a whole.
    """
    prompts = len(model.config.backbone_templates)
    ids = torch.zeros(labels * prompts, tokens, dtype=torch.long)

    def forward() -> int:
        kept = _Kept(model)
        with kept.hooks:
            text = model.encode_text(ids)
            prediction = model(
                torch.empty(images, 3, side, side), text.unflatten(0, (labels, prompts))
            )
            segmentation_loss(
                prediction, torch.zeros(images, side, side, dtype=torch.long), model.config
            )
        return kept.bytes

    if not model.recompute:
        return forward()
    text = _Kept(model)
    with text.hooks:
        model.backbone.encode_text(ids)
    parts = [text.bytes]

    def measured(module: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        hook.remove()
        kept = _Kept(model)
        with kept.hooks:
            module(*arguments)
        parts.append(kept.bytes)

    for part in (*model.refine.levels, model.disentangle, model.decode):
        if part is not None:
            hook = part.register_forward_pre_hook(measured)
            model.recompute = False
            forward()
    model.recompute = True
    return forward() + max(parts)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
