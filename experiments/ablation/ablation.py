"""Repeat the paper's ablation, and the questions of its reviews, on picturebook.

    disa pretrain-clip --out runs/clip
    python experiments/ablation/ablation.py --clip runs/clip/clip --out runs/ablation

trains every variant of `variants.py` with every seed, measures it on test scenes, and writes
tables to OUT/study.md after each run and OUT/saliency.png at the end. Interrupt it and start it
again: a finished run is not repeated, and a started one continues at its last checkpoint.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from figures import save_saliency
from table import Results, markdown
from tokenizers import Tokenizer
from variants import REFERENCE, VARIANTS, Variant

from disa.config import ModelConfig
from disa.model.disa import Disa
from disa.recipes import RECIPES
from disa.weights.load import disa_on_clip
from disa.weights.model_folder import save

# in 32 bit, and without processes of their own that draw scenes: several runs share the cores
SETTINGS = {"precision": "fp32", "workers": 0, "warmup": 30, "evaluate_images": 0}
SHOWN = (
    "saliency: plain attention",
    "saliency: gradient of the matching loss",
    "product head and split above 20 %",
)
BUILDING = Lock()  # torch has one random generator for all threads


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: Variant
    seed: int
    options: argparse.Namespace  # those of the command

    @property
    def folder(self) -> Path:
        """Where the run has its checkpoints, log, model and result."""
        return self.options.out / "runs" / self.variant.folder / f"seed-{self.seed}"

    @property
    def result(self) -> Path:
        """What `disa evaluate` wrote; a run is finished once it is there."""
        return self.folder / "result.json"


def main() -> int:
    """Do what is left of the ablation; return 1 if a run failed."""
    options = parse_options()
    check_options(options)
    chosen = [variant for variant in VARIANTS if is_chosen(variant, options.only)]
    # a whole table with one seed comes before the second seed
    runs = [Run(variant, seed, options) for seed in options.seeds for variant in chosen]

    report = options.out / "study.md"
    with ThreadPoolExecutor(options.jobs) as pool:
        for run, log in zip(runs, pool.map(finish, runs), strict=True):
            if log is not None:
                print(f"failed: {run.variant.name}, seed {run.seed}; see {log}")
                continue
            results = collect(runs)
            report.write_text(markdown(results), encoding="utf-8")
            miou = results[run.variant.name][run.seed]["miou"]
            print(f"{run.variant.name}, seed {run.seed}: mIoU {miou:.1f}", flush=True)

    models = {run.variant.name: run.folder / "model" for run in runs if run.result.exists()}
    shown = {name: models[name] for name in (REFERENCE.name, *SHOWN) if name in models}
    save_saliency(shown, options.out / "saliency.png")
    print(f"the tables are in {report}")
    return int(not all(run.result.exists() for run in runs))


def parse_options() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description="Repeat the paper's ablation on picturebook.")
    add = parser.add_argument
    add("--clip", type=Path, required=True, help="the CLIP of every run, of disa pretrain-clip")
    add("--out", type=Path, required=True, help="folder for runs and tables")
    add("--steps", type=int, default=240, help="steps of each run")
    add("--batch", type=int, default=4, help="scenes per step")
    add("--scenes", type=int, default=100, help="test scenes of each measurement")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one seed has no spread")
    add("--only", nargs="*", default=[], help="variants whose name contains one of these")
    add("--set", nargs="*", default=[], metavar="NAME=VALUE", help="a setting of every run")
    add("--device", default="cpu", help="cpu, or cuda for all runs")
    add("--jobs", type=int, default=1, help="runs at a time, each on one core")
    return parser.parse_args()


def check_options(options: argparse.Namespace) -> None:
    """Note what all runs have in common in OUT; refuse another budget than the one found there."""
    options.out.mkdir(parents=True, exist_ok=True)
    note = options.out / "study.json"
    names = ("clip", "steps", "batch", "scenes", "set")
    common = {name: str(getattr(options, name)) for name in names}
    if note.exists() and json.loads(note.read_text()) != common:
        sys.exit(f"error: {note}: the runs there have other options; choose another --out")
    note.write_text(json.dumps(common))


def is_chosen(variant: Variant, only: list[str]) -> bool:
    """Whether a variant takes part; the reference always does, since the others need it."""
    return variant is REFERENCE or not only or any(text in variant.name for text in only)


def finish(run: Run) -> Path | None:
    """Train and measure a run if it has no result yet; return the log if that fails."""
    if run.result.exists():
        return None
    log = run.folder / "log.txt"
    run.folder.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | parse_settings(run.options.set) | run.variant.changes
    with BUILDING:
        start = save_start(run, settings)
    device = f"--device={run.options.device}"
    try:
        given = [f"--set={name}={as_text(value)}" for name, value in settings.items()]
        budget = [f"--steps={run.options.steps}", f"--batch={run.options.batch}"]
        out = [f"--init={start}", f"--out={run.folder}", f"--seed={run.seed}", device]
        disa(log, "train", run.variant.recipe, *out, *budget, *given)
        measure = [f"--limit={run.options.scenes}", f"--json={run.result}", device]
        disa(log, "evaluate", "picturebook", f"--model={run.folder / 'model'}", *measure)
    except subprocess.CalledProcessError:
        return log
    # five times the size of the model
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    shutil.rmtree(start)
    return None


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Return `name=value` texts as values: numbers, True, False, tuples such as 0,1, or text."""
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            settings[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings[name] = value
    return settings


def as_text(value: Any) -> str:
    """Return a value as `disa train --set` reads it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def save_start(run: Run, settings: dict[str, Any]) -> Path:
    """Write the model that the run begins with.

    Starts are paired: with one seed, every tensor that a variant shares with the reference begins
    with the reference's values, so that an unlucky start is not mistaken for an effect. Parts that
    the reference lacks, or has in another shape, get their own random start.
    """
    names = {field.name for field in fields(ModelConfig)}
    changes = {name: value for name, value in settings.items() if name in names}
    common = {name: value for name, value in changes.items() if name not in run.variant.changes}
    reference = build(REFERENCE, common | REFERENCE.changes, run)
    model = build(run.variant, changes, run)

    own = model.state_dict()
    for name, value in reference.state_dict().items():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)
    start = run.folder / "start"
    tokenizer = Tokenizer.from_file(str(run.options.clip / "tokenizer.json"))
    save(model, start, tokenizer=tokenizer)
    return start


def build(variant: Variant, changes: dict[str, Any], run: Run) -> Disa:
    """Return a fresh network on the study's CLIP; its parts are random, by the run's seed."""
    torch.manual_seed(run.seed)
    return disa_on_clip(RECIPES[variant.recipe](**changes), run.options.clip)


def disa(log: Path, *arguments: str) -> None:
    """Run a command of `disa`, its output in the log. Raises `CalledProcessError` if it fails."""
    with log.open("a") as file:
        print("disa", *arguments, file=file, flush=True)
        # several runs with several threads each would fight for the same cores
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "disa", *arguments]
        subprocess.run(command, stdout=file, stderr=file, env=environment, check=True)


def collect(runs: list[Run]) -> Results:
    """Return the results that there are."""
    results: Results = {}
    for run in runs:
        if run.result.exists():
            result = json.loads(run.result.read_text())
            results.setdefault(run.variant.name, {})[run.seed] = result
    return results


if __name__ == "__main__":
    sys.exit(main())
