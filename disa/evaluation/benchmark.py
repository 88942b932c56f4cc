"""One benchmark, image by image: (data set, predict) -> the counts of all its images, in as many sittings as it takes.

Memory holds the counts and a few images, whatever the size of the set. With several processes each counts its share.
"""

from collections.abc import Callable
from typing import NamedTuple

from disa.data.dataset import Dataset
from disa.errors import DisaError
from disa.evaluation.ahead import read_ahead
from disa.evaluation.confusion import Confusion
from disa.evaluation.predictions import Predictions
from disa.evaluation.resume import Counted, State
from disa.evaluation.sitting import Predict, Sitting
from disa.running.processes import ALONE, Processes

SAVE_SECONDS = 10.0  # between two states on disk: what a killed run loses


class Watch(NamedTuple):
    """What the caller is told, and asked, after every image."""

    begin: Callable[[int, int], None] = lambda done, images: (
        None
    )  # of all processes: counted already, in all
    progress: Callable[[int, Callable[[], float]], None] = lambda images, miou: (
        None
    )  # of this process, this sitting
    interrupted: Callable[[], bool] = lambda: False  # leave now?


def measure(
    dataset: Dataset,
    predict: Predict,
    state: State,
    *,
    processes: Processes = ALONE,
    workers: int = 2,
    less_memory: str = "use a smaller size",
    predictions: Predictions | None = None,
    watch: Watch | None = None,
) -> Counted | None:
    """Count the first `state.run.images` images of a data set and return all of them; None after an interruption.

    What earlier sittings have counted is taken up. `predictions` gets the label map of every image, also of those
    counted before; `workers` threads decode. Raises `DisaError` for an image that cannot be read, for one that does
    not fit into memory, with the remedy `less_memory`, and for a folder of another run.
    """
    watch = watch or Watch()
    before = state.take_up() if processes.rank == 0 else state.run.empty()
    done = processes.gathered(before.tally.done)[0].bool()
    names = dataset.ids[: state.run.images]
    left = [
        i
        for i, name in enumerate(names)
        if not done[i] or (predictions is not None and predictions.lack(name))
    ]
    sitting = Sitting(state, processes, less_memory)
    watch.begin(len(names) - len(left), len(names))
    stopped = False
    try:
        for number, sample in enumerate(
            read_ahead(dataset, left[processes.rank :: processes.count], workers), start=1
        ):
            found = sitting.take(dataset, sample, predict, count=not done[sample.position])
            if predictions is not None:
                predictions.save(names[sample.position], found)
            if stopped := watch.interrupted():
                break
            sitting.save(SAVE_SECONDS)
            watch.progress(number, lambda: _miou(before, sitting.counted))
    except DisaError:
        sitting.save()
        raise
    sitting.save()
    if any(processes.gathered(stopped)):  # all of them leave, or none
        return None
    return _together(before, sitting.counted, state, processes)


def _together(before: Counted, mine: Counted, state: State, processes: Processes) -> Counted:
    """Sum what all processes have counted, and let one of them write it down."""
    before.tally.merge(mine.tally)
    total = state.run.empty()
    total.tally.restore(processes.summed(before.tally.tensors()))
    total.sittings.extend(before.sittings)
    for sittings in processes.gathered(mine.sittings):
        total.sittings.extend(sitting for sitting in sittings if sitting["images"])
    if processes.rank == 0:
        state.settle(total)
    return total


def _miou(*counted: Counted) -> float:
    first = counted[0].tally.confusion
    confusion = Confusion(first.categories, first.ignored)
    for part in counted:
        confusion.merge(part.tally.confusion)
    return confusion.miou
