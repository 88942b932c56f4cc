"""Where the time of a picture goes, in multiples of what CLIP's image encoder takes for it.

Ratios of one run can be compared between machines and days; seconds cannot (decision D108).
"""

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from disa.data.images import Pixels
from disa.inference.passes import BATCH
from disa.inference.protocol import Protocol
from disa.inference.request import Query, parse_query
from disa.inference.segmenter import Segmenter
from disa.inference.windows import views
from disa.model.dense import DenseClip
from disa.model.refine import Level
from disa.picturebook import TEST_SEED, render
from disa.weights.exported import network_of

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


class Timing(NamedTuple):
    """One call's medians; `parts` are seconds inside the call, by name."""

    labels: int
    clip: float  # seconds of CLIP's image encoder alone, for the same views
    call: float  # seconds of the call, its text embedded before
    parts: dict[str, float]
    text: float  # seconds to embed the labels
    saving: float  # seconds to draw and to write the result
    peak: int | None  # bytes above the loaded model; None where the system does not tell


def bench_picture(height: int, width: int) -> Pixels:
    """Return a drawn scene of that size."""
    return render(TEST_SEED, 0, max(height, width)).image[:height, :width]


def measure(
    segmenter: Segmenter,
    picture: Pixels,
    labels: int,
    protocol: Protocol,
    repeats: int,
    gate: int | None = None,
) -> Timing:
    """Time a picture with so many labels; the first round is not counted."""
    words = tuple(f"thing number {index}" for index in range(labels))
    query = parse_query(words, protocol=protocol, gate=gate)
    layout = segmenter.layout(protocol, picture)
    shown = [
        part.to(segmenter.device, segmenter.dtype)
        for part in views(protocol, picture, layout, BATCH)
    ]

    rounds = [_round(segmenter, picture, shown, query) for _ in range(1 + repeats)]
    calls, parts, peaks = zip(*rounds, strict=True)
    middle = {name: median(each[name] for each in calls[1:]) for name in calls[0]}
    inside_call = {name: median(each[name] for each in parts[1:]) for name in parts[0]}
    return Timing(
        labels=labels,
        clip=middle["clip"],
        call=middle["call"],
        parts=inside_call,
        text=middle["text"],
        saving=middle["saving"],
        peak=None if None in peaks else max(peak for peak in peaks if peak is not None),
    )


def _round(
    segmenter: Segmenter, picture: Pixels, shown: Sequence[Tensor], query: Query
) -> tuple[dict[str, float], dict[str, float], int | None]:
    """Return the seconds of everything once, those of the parts of the call, and its memory."""
    results: list[Any] = []
    segmenter.text.clear()
    seconds = {"text": _seconds(lambda: segmenter.embed(query), segmenter.device)}
    seconds["clip"] = _seconds(lambda: _encode(segmenter, shown), segmenter.device)
    with timed_parts(segmenter) as inside, peak_memory(segmenter.device) as bytes_taken:
        seconds["call"] = _seconds(
            lambda: results.append(segmenter(picture, query)), segmenter.device
        )
        taken = bytes_taken()
    with TemporaryDirectory() as folder:
        seconds["saving"] = _seconds(
            lambda: results[0].save(folder, "picture"), torch.device("cpu")
        )
    return seconds, inside, taken


@contextmanager
def timed_parts(segmenter: Segmenter) -> Iterator[dict[str, float]]:
    """Add up the seconds that each part takes while the block runs."""
    spent: dict[str, float] = {}
    replaced = []
    for name, owner, methods in _parts(segmenter):
        spent.setdefault(name, 0.0)
        for method in methods:
            replaced.append((owner, method))
            setattr(owner, method, _timed(getattr(owner, method), name, spent, segmenter.device))
    try:
        yield spent
    finally:
        for owner, method in replaced:
            delattr(owner, method)


def _parts(segmenter: Segmenter) -> Iterator[tuple[str, nn.Module, tuple[str, ...]]]:
    """Yield a part's name, the object that computes it, and the methods that do."""
    model = network_of(segmenter.model)
    yield "CLIP", model.backbone, ("forward",)
    if isinstance(model, DenseClip):
        return
    yield "cost", model.cost, ("forward",)
    if model.things is not None:
        yield "things", model.things, ("forward",)
    if model.saliency is not None and model.disentangle is not None:
        yield "saliency", model.saliency, ("guide", "forward")
        yield "split", model.disentangle, ("guide", "forward")
    yield "pixel-wise", model.refine, ("guide",)
    for level in cast(Sequence[Level], model.refine.levels):
        for name, part in (
            ("pixel-wise", level.pixel),
            ("category-wise", level.category),
            ("reweighting", level.reweight),
            ("reweighting", level.semantic),
        ):
            if part is not None:
                yield name, part, ("forward",)
    yield "decoder", model.decode, ("guide", "forward")


def _timed(
    method: Callable[..., Any], name: str, spent: dict[str, float], device: torch.device
) -> Callable[..., Any]:
    @wraps(method)
    def timed(*arguments: Any, **options: Any) -> Any:
        results: list[Any] = []
        call = lambda: results.append(method(*arguments, **options))  # noqa: E731
        spent[name] += _seconds(call, device)
        return results[0]

    return timed


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long it takes until the device has done the work."""
    _finish(device)
    begun = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - begun


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _encode(segmenter: Segmenter, shown: Sequence[torch.Tensor]) -> None:
    with torch.inference_mode():
        for part in shown:
            network_of(segmenter.model).backbone(part)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the most bytes taken above those at the beginning.

    None where the system does not tell: without CUDA this needs Linux.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    try:
        _hand_back()
        RESET.write_text("5")  # the peak is then what is taken now
        resident = _status("VmRSS")
    except OSError:
        yield lambda: None
        return
    yield lambda: _status("VmHWM") - resident


def _hand_back() -> None:
    """Return what the allocator keeps of earlier calls, or a repeated call would seem to take none.

    Only glibc keeps that much, and only it has this function.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
