"""What a training step at true size really takes: the estimate beside the peak that the operating system saw.

`python benchmarks/training_memory.py` measures a few settings of ViT-B/16 with COCO-Stuff's number of labels, each in a
process of its own on the CPU with random weights. It prints bytes in GB: estimated, measured above the process at rest.
"""

import json
import multiprocessing
import resource
import sys
from dataclasses import replace
from typing import Any

import torch

from disa.recipes import vit_b16
from disa.training.engine import open_engine
from disa.training.estimate import GB, memory
from disa.training.initial_weights import RANDOM
from disa.training.learner import Learner
from disa.training.samples import PICTUREBOOK
from disa.training.settings import TrainConfig

LABELS = 171
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [  # of the model, of the training
    ({"backbone_finetune": "frozen"}, {}),
    ({"backbone_finetune": "frozen"}, {"recompute": True}),
    ({}, {}),
    ({}, {"recompute": True}),
]


def measure(case: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, object]:
    """Compute the gradients of one image with the labels of COCO-Stuff, and an optimizer step."""
    model, changes = case
    config = vit_b16(**model)
    settings = replace(TrainConfig(batch=1, steps=1, warmup=0), **changes)
    at_rest = _peak()
    labels = tuple(f"thing number {index}" for index in range(LABELS))
    with open_engine(settings, "cpu") as engine:
        learner = Learner(
            config, settings, RANDOM, None, engine, PICTUREBOOK._replace(labels=labels)
        )
        size = config.backbone_image_size
        pixels = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
        tokens = learner.prompts.shape[-1]
        learner.step(0, pixels, torch.randint(0, LABELS, (1, size, size)))
    needed = memory(config, settings, LABELS, tokens)
    return (
        model
        | changes
        | {"estimated": round(needed.total / GB, 2), "measured": round((_peak() - at_rest) / GB, 2)}
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def main() -> None:
    """Print one JSON line for each case."""
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(json.dumps(pool.apply(measure, (case,))), flush=True)


if __name__ == "__main__":
    main()
