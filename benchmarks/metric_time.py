"""What counting costs beside the model: one image of 512 x 683 pixels and 847 categories.

`python benchmarks/metric_time.py` prints seconds per image for the confusion matrix and for
    Boundary IoU.
"""

import json
import time
from statistics import median

import torch

from disa.evaluation.counts import Boundary, Confusion

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
        begun = time.perf_counter()
        confusion.update(prediction, target)
        counted = time.perf_counter()
        boundary.update(prediction[None], target[None])
        seconds["confusion"].append(counted - begun)
        seconds["boundary"].append(time.perf_counter() - counted)
    medians = {name: round(median(values), 4) for name, values in seconds.items()}
    print(json.dumps(medians | {"torch": str(torch.__version__)}))


if __name__ == "__main__":
    main()
