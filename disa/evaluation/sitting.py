"""What one process counts between its start and its end: (sample, predict) -> counts, and where the time goes."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from disa.data.dataset import Dataset
from disa.data.images import Pixels
from disa.errors import DisaError, memory_errors_as
from disa.evaluation.ahead import Sample
from disa.evaluation.resume import State
from disa.running.processes import Processes
from disa.running.provenance import commit

Predict = Callable[[Pixels], Int[Tensor, "H W"]]  # every pixel's category, on the model's device


class Sitting:
    """The counts of this process since its start, and facts about them that end up in `result.json`."""

    def __init__(self, state: State, processes: Processes, less_memory: str) -> None:
        self.state, self.rank, self.less_memory = state, processes.rank, less_memory
        self.begun = self.saved = time.monotonic()
        self.about: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "process": f"{processes.rank + 1} of {processes.count}",
            "device": None,
            "images": 0,
            "seconds": 0.0,
            "seconds_model": 0.0,
            "seconds_metric": 0.0,
        }
        self.counted = state.run.empty()
        self.counted.sittings.append(self.about)

    def take(
        self, dataset: Dataset, sample: Sample, predict: Predict, count: bool
    ) -> Int[Tensor, "H W"]:
        """Predict one image and, if it is to `count`, count it; return the prediction.

        Raises `DisaError`, naming the image, for labels out of range and where the memory does not suffice.
        """
        name, begun = f"{dataset.name}, {dataset.ids[sample.position]}", time.monotonic()
        size = " x ".join(map(str, sample.picture.shape[:2]))
        with memory_errors_as(f"{name}: {size} pixels do not fit into memory; {self.less_memory}"):
            found = predict(sample.picture)
        if found.is_cuda:
            torch.cuda.synchronize(
                found.device
            )  # or the model's time would be taken for the metric's
        predicted = time.monotonic()
        if count:
            target = torch.from_numpy(sample.labels.astype("int32")).to(found.device)
            try:
                self.counted.tally.add(sample.position, found, target)
            except ValueError as error:
                raise DisaError(
                    f"{name}: {error}; check the data set's labels (disa data check)"
                ) from None
            self.about["images"] += 1
            self.about["device"] = str(found.device)
        self.about["seconds"] = round(time.monotonic() - self.begun, 3)
        self.about["seconds_model"] += predicted - begun
        self.about["seconds_metric"] += time.monotonic() - predicted
        return found

    def save(self, seconds: float = 0.0) -> None:
        """Write the state, unless that was done in the last `seconds`."""
        if self.about["images"] and time.monotonic() - self.saved >= seconds:
            self.state.write_part(self.rank, self.counted)
            self.saved = time.monotonic()
