"""What a training step takes, beside another checkout of this code, part by part if asked.

Each checkout computes in a process of its own, one step at a time in turns, so that other work on
the machine slows both alike. Weights, pictures and labels are random, and the same in both. A step
is forward, loss and backward through both towers; the optimiser is left out.

git worktree add before COMMIT
python benchmarks/training_step.py mini --batch 8 --labels 12 --dtype bf16 --against before
python benchmarks/training_step.py vit-b-16 --batch 1 --labels 171 --profile
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from disa.model.disa import Disa
from disa.model.losses import segmentation_loss
from disa.recipes import RECIPES

TOKENS = 10  # of a prompt
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Print the least seconds of the processor, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=list(RECIPES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--labels", type=int, default=12)
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout of this code")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.worker:
        answer(asked)
    elif asked.profile:
        profile(asked)
    else:
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """Let a process for each checkout do a step in turn."""
    here = Path(__file__).resolve().parent.parent
    folders = {"now": here}
    if asked.against is not None:
        folders["before"] = asked.against.resolve()
    workers = {}
    for name, folder in folders.items():
        command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        workers[name] = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    losses: dict[str, float] = {}
    # The first round warms up.
    for _ in range(1 + asked.rounds):
        for name, worker in workers.items():
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("step\n")
            worker.stdin.flush()
            step, losses[name] = json.loads(worker.stdout.readline())
            seconds[name].append(step)
    for worker in workers.values():
        worker.communicate()  # the end of its input is the end of its work
    least = {name: min(times[1:]) for name, times in seconds.items()}
    numbers: dict[str, Any] = {"seconds": least, "loss": losses}
    if "before" in least:
        numbers["steps_by_before"] = round(least["before"] / least["now"], 3)
    settings = {name: getattr(asked, name) for name in ("recipe", "batch", "labels", "dtype")}
    print(json.dumps(settings | numbers))


def answer(asked: argparse.Namespace) -> None:
    """Do a step for every line that is read, and write its seconds and its loss."""
    step = a_step(asked)
    for _ in sys.stdin:
        begun = time.process_time()
        loss = step()
        print(json.dumps([time.process_time() - begun, loss]), flush=True)


def profile(asked: argparse.Namespace) -> None:
    """Print where the time of a step goes."""
    step = a_step(asked)
    step()
    with torch.profiler.profile(record_shapes=True) as profiler:
        step()
    shown = profiler.key_averages(group_by_input_shape=True)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    print(shown.table(sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=40))


def a_step(asked: argparse.Namespace) -> Callable[[], float]:
    """Return a function that does a step and returns its loss."""
    torch.manual_seed(0)
    config = RECIPES[asked.recipe]()
    model = Disa(config).train()
    side = config.backbone_image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(asked.batch, 3, side, side, generator=generator) * 255
    target = torch.randint(asked.labels, (asked.batch, side, side), generator=generator)
    words = config.backbone_clip["text_config"]["vocab_size"]
    ids = torch.randint(2, words - 2, (asked.labels, TOKENS), generator=generator)
    ids[:, -1] = config.backbone_clip["text_config"]["eos_token_id"]
    is_thing = torch.arange(asked.labels) % 2 == 0 if config.things else None
    dtype = DTYPES[asked.dtype]

    def step() -> float:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            prediction = model(pixels, model.encode_text(ids)[:, None])
        losses = segmentation_loss(prediction.float(), target, config, is_thing=is_thing)
        losses["total"].backward()
        return losses["total"].item()

    return step


if __name__ == "__main__":
    main()
