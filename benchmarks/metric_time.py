"""What counting costs beside the model: one image of 512 x 683 pixels and 847 categories.

`python benchmarks/metric_time.py` prints seconds per image for the confusion matrix and for Boundary IoU.
"""

import json
import time
from statistics import median

import torch

from disa.evaluation.boundary import Boundary
from disa.evaluation.confusion import Confusion

CATEGORIES, SIZE, IGNORED, REPEATS = 847, (512, 683), 65535, 7


def main() -> None:
    """Print one JSON line."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, CATEGORIES, (1, 1, 16, 21), generator=generator).float()
    target = torch.nn.functional.interpolate(coarse, SIZE)[0, 0].int()
    prediction = target.roll(9, 1)
    confusion, boundary = Confusion(CATEGORIES, IGNORED), Boundary(CATEGORIES, IGNORED)
    seconds: dict[str, list[float]] = {"confusion": [], "boundary": []}
    for _ in range(REPEATS):
        for name, count in (
            ("confusion", lambda: confusion.update(prediction, target)),
            ("boundary", lambda: boundary.update(prediction[None], target[None])),
        ):
            begun = time.perf_counter()
            count()
            seconds[name].append(time.perf_counter() - begun)
    print(
        json.dumps({name: round(median(values), 4) for name, values in seconds.items()} | {"torch": torch.__version__})
    )


if __name__ == "__main__":
    main()
