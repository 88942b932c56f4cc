"""What a picture takes in exports of a model, as ratios to the network in the same run.

Seconds of the processor are counted: other work on the machine does not change them much.

disa export mini exported && disa export mini exported-8-bit --int8
python benchmarks/export_time.py mini exported exported-8-bit
"""

import sys
import time
from statistics import median

import torch

import disa
from disa.data.drawn import DrawnDataset
from disa.picturebook import NOUNS

ROUNDS = 25
LABELS = (3, len(NOUNS))


def main(models: list[str]) -> None:
    """Print a line for each number of labels: milliseconds of the first, ratios of the others."""
    segmenters = [disa.load(model, "cpu") for model in models]
    picture = DrawnDataset().image(0)
    print(f"picture {picture.shape[1]} x {picture.shape[0]}, {torch.get_num_threads()} thread(s)")
    for count in LABELS:
        labels = list(NOUNS[:count])
        seconds: list[list[float]] = [[] for _ in models]
        # In turns, so that other work on the machine slows all of them alike.
        for _ in range(1 + ROUNDS):
            for times, segmenter in zip(seconds, segmenters, strict=True):
                begun = time.process_time()
                segmenter(picture, labels)
                times.append(time.process_time() - begun)
        first, *others = (median(times[1:]) for times in seconds)
        ratios = ", ".join(
            f"{model} {other / first:.2f}" for model, other in zip(models[1:], others, strict=True)
        )
        print(f"{count} labels: {models[0]} {1000 * first:.0f} ms; times of it: {ratios}")


if __name__ == "__main__":
    main(sys.argv[1:])
