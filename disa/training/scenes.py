"""Picturebook scenes as training samples, each a function of (seed, sample index) and of nothing else.

Signature: (seed, indices) -> pixels `b 3 H W` uint8, target `b H W` (index into `LABELS`, or `IGNORED`).
"""

import signal
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from disa.errors import DisaError
from disa.model.losses import IGNORED
from disa.picturebook import LARGEST, SEEN, SMALLEST, TRAIN_SEED, WORDS, render
from disa.training.augment import pad
from disa.training.settings import TrainConfig

LABELS = tuple(
    word for word in WORDS if word in SEEN
)  # the words with masks for training, in the order of WORDS
WORKER_DIED = (
    "a process that makes samples died, perhaps for lack of (shared) memory; the same command goes on, with --set "
    "workers=0 without such processes"
)
_SPAN = 2**32  # samples apart lie the streams of two seeds: no run is ever that long


class TrainingScenes(Dataset[tuple[Tensor, Tensor]]):
    """Scenes without end; item `index` is (pixels uint8 `3 H W`, target int64 `H W`).

    Categories that have no masks in training (`WORDS` outside `SEEN`) are `IGNORED` in the target: the protocol of
    open-vocabulary segmentation.
    """

    def __init__(self, settings: TrainConfig, size: int) -> None:
        """Yield crops of `size` pixels a side. Raises `DisaError` for scenes that cannot be drawn."""
        smallest, largest = (
            size * scale for scale in (1 - settings.scale_shrink, 1 + settings.scale_jitter)
        )
        if not SMALLEST <= round(smallest) <= largest <= LARGEST:
            raise DisaError(
                f"scenes of {smallest:.0f} to {largest:.0f} pixels a side (image_size, scale_shrink, scale_jitter): "
                f"{SMALLEST} to {LARGEST} can be drawn"
            )
        self.settings, self.size = settings, size
        self.to_label = np.full(len(WORDS), IGNORED)
        for label, word in enumerate(LABELS):
            self.to_label[WORDS.index(word)] = label

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Render one sample."""
        seed, settings = self.settings.seed, self.settings
        draw = np.random.default_rng((seed, index))
        size = round(self.size * (1 + draw.uniform(-settings.scale_shrink, settings.scale_jitter)))
        scene = render(TRAIN_SEED, seed * _SPAN + index, size)
        top, left = draw.integers(0, max(0, size - self.size) + 1, size=2)
        window = np.s_[top : top + self.size, left : left + self.size]
        image, target = scene.image[window], self.to_label[scene.labels[window]]
        if settings.flip and draw.random() < 0.5:
            image, target = image[:, ::-1], target[:, ::-1]
        image, target = pad(image, target, self.size)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return pixels, torch.from_numpy(np.ascontiguousarray(target))


def training_batches(
    samples: Dataset[tuple[Tensor, Tensor]],
    settings: TrainConfig,
    start: int,
    rank: int = 0,
    processes: int = 1,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield this process's share of the batches from step `start` on, made ahead by `settings.workers` processes.

    Process `rank` of `processes` has the same place in every batch, so that together they have the batch of one alone.
    Close the iterator to end the processes: they ignore signals, and a kept traceback would keep them for ever.
    Raises `DisaError` for a sample that cannot be read.
    """
    share = settings.batch // processes
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=(
            list(
                range(
                    step * settings.batch + rank * share, step * settings.batch + (rank + 1) * share
                )
            )
            for step in range(start, settings.steps)
        ),
        num_workers=settings.workers,
        worker_init_fn=_leave_signals_to_parent,
        prefetch_factor=4 if settings.workers else None,
    )
    batches = iter(loader)
    try:
        yield from batches
    except DisaError as error:  # of a worker: the loader puts its traceback before what it says
        raise DisaError(
            str(error).strip().splitlines()[-1].removeprefix("disa.errors.DisaError: ")
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        if not (settings.workers and worker_died(error)):
            raise
        raise DisaError(WORKER_DIED) from None
    finally:
        if settings.workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]


def worker_died(error: BaseException) -> bool:
    """Whether a process that makes samples was killed: torch says so wherever the run is, or its pipe breaks first."""
    broken = isinstance(
        error, (EOFError, ConnectionError, FileNotFoundError)
    )  # in the middle of a sample
    said = str(error)
    return (
        said.startswith("DataLoader worker")
        if isinstance(error, RuntimeError)
        else broken and "Caught" not in said
    )


def choose_labels(present: Tensor, step: int, settings: TrainConfig) -> Tensor:
    """Return which labels take part in a step, ascending: those `present` (bool `t`), then random absent ones."""
    if settings.categories == 0 or settings.categories >= len(present):
        return torch.arange(len(present))
    here, absent = (mask.nonzero().flatten() for mask in (present.cpu(), ~present.cpu()))
    order = torch.randperm(len(absent), generator=step_generator(step, settings))
    return torch.cat([here, absent[order[: max(0, settings.categories - len(here))]]]).sort().values


def relabel(target: Tensor, chosen: Tensor) -> Tensor:
    """Return the target with indices into `chosen`, ascending; pixels of labels not chosen become `IGNORED`."""
    chosen = chosen.to(target.device)
    places = torch.searchsorted(chosen, target).clamp(max=len(chosen) - 1)
    return torch.where(chosen[places] == target, places, IGNORED)


def step_generator(step: int, settings: TrainConfig) -> torch.Generator:
    """Return the source of a step's random choices: the same in a resumed run."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence((settings.seed, step)).generate_state(1)[0])
    )


def _leave_signals_to_parent(worker: int) -> None:
    # Ctrl-C reaches the whole process group: the training process saves, then ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
