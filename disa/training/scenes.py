"""Picturebook scenes as training samples, each a function of (seed, sample index) and of nothing else.

Signature: (seed, indices) -> pixels `b 3 H W` uint8, target `b H W` (index into `LABELS`, or 255: ignored).
"""

import signal
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from disa.data.picturebook import IGNORED, LARGEST, SEEN, SMALLEST, TRAIN_SEED, WORDS, render
from disa.errors import DisaError
from disa.training.settings import TrainConfig

LABELS = tuple(word for word in WORDS if word in SEEN)  # the words with masks for training, in the order of WORDS
_SPAN = 2**32  # samples apart lie the streams of two seeds: no run is ever that long


class TrainingScenes(Dataset[tuple[Tensor, Tensor]]):
    """Scenes without end; item `index` is (pixels uint8 `3 H W`, target int64 `H W`).

    Categories that have no masks in training (`WORDS` outside `SEEN`) are 255 in the target: the protocol of
    open-vocabulary segmentation.
    """

    def __init__(self, settings: TrainConfig, size: int) -> None:
        """Yield crops of `size` pixels a side. Raises `DisaError` for scenes that cannot be drawn."""
        largest = size * (1 + settings.scale_jitter)
        if not SMALLEST <= size <= largest <= LARGEST:
            raise DisaError(
                f"scenes of {size} to {largest:.0f} pixels a side (image_size, scale_jitter): {SMALLEST} to {LARGEST} "
                "can be drawn"
            )
        self.seed, self.size = settings.seed, size
        self.flip, self.scale_jitter = settings.flip, settings.scale_jitter
        self.to_label = np.full(256, IGNORED, dtype=np.uint8)
        for label, word in enumerate(LABELS):
            self.to_label[WORDS.index(word)] = label

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Render one sample."""
        draw = np.random.default_rng((self.seed, index))
        size = round(self.size * (1 + draw.uniform(0, self.scale_jitter)))
        scene = render(TRAIN_SEED, self.seed * _SPAN + index, size)
        top, left = draw.integers(0, size - self.size + 1, size=2)
        window = np.s_[top : top + self.size, left : left + self.size]
        image, target = scene.image[window], self.to_label[scene.labels[window]]
        if self.flip and draw.random() < 0.5:
            image, target = image[:, ::-1], target[:, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels, torch.from_numpy(target.astype(np.int64))


def training_batches(
    samples: Dataset[tuple[Tensor, Tensor]], settings: TrainConfig, start: int
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the batches of the steps from `start` on, made ahead by `settings.workers` processes.

    Close the iterator to end the processes: they ignore signals, and a kept traceback would keep them for ever.
    Raises `DisaError` for a sample that cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=(
            list(range(step * settings.batch, (step + 1) * settings.batch)) for step in range(start, settings.steps)
        ),
        num_workers=settings.workers,
        worker_init_fn=_leave_signals_to_parent,
        prefetch_factor=4 if settings.workers else None,
    )
    batches = iter(loader)
    try:
        yield from batches
    except DisaError as error:  # of a worker: the loader puts its traceback before what it says
        raise DisaError(str(error).strip().splitlines()[-1].removeprefix("disa.errors.DisaError: ")) from None
    finally:
        if settings.workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]


def choose_labels(target: Tensor, step: int, settings: TrainConfig, count: int = len(LABELS)) -> Tensor:
    """Return which of `count` labels take part in a step, ascending: those present, then random absent ones."""
    if settings.categories == 0 or settings.categories >= count:
        return torch.arange(count)
    present = target[target != IGNORED].unique().cpu()
    absent = torch.ones(count, dtype=torch.bool)
    absent[present] = False
    candidates = torch.arange(count)[absent]
    order = torch.randperm(len(candidates), generator=step_generator(step, settings))
    return torch.cat([present, candidates[order[: max(0, settings.categories - len(present))]]]).sort().values


def relabel(target: Tensor, chosen: Tensor) -> Tensor:
    """Return the target with indices into `chosen`; pixels of labels that were not chosen become 255."""
    table = torch.full((256,), IGNORED, dtype=torch.int64, device=target.device)
    table[chosen.to(target.device)] = torch.arange(len(chosen), device=target.device)
    return table[target]


def step_generator(step: int, settings: TrainConfig) -> torch.Generator:
    """Return the source of a step's random choices: the same in a resumed run."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0]))


def _leave_signals_to_parent(worker: int) -> None:
    # Ctrl-C reaches the whole process group: the training process saves, then ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
