"""`disa study ablation`: a CLIP and a budget -> runs of every variant and seed, OUT/study.md, OUT/figures."""

import time
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.interfaces.train_command import split_changes
from disa.recipes import RECIPES
from disa.running.files import write_whole
from disa.running.interruption import INTERRUPTED
from disa.running.provenance import commit
from disa.study.figures import save_figures
from disa.study.runner import RESULT, Budget, Job, Study
from disa.study.table import collect, differences, hours, markdown, verdicts
from disa.study.variants import REFERENCE, VARIANTS, Variant
from disa.training.engine import refuse
from disa.training.initial_weights import try_out
from disa.training.run_log import clock
from disa.training.settings import by_name, changed, recipe_settings
from disa.weights.names import model_folder

FAILED = 1


def run(
    clip: str,
    out: Path,
    *,
    steps: int,
    batch: int,
    scenes: int,
    seeds: str,
    at_once: int,
    only: Sequence[str],
    settings: Sequence[str],
    plan: bool,
) -> None:
    """Do what is left of the study, `at_once` runs at a time. Exits with 1 if a run failed, 130 if interrupted.

    Raises `DisaError` for what can be refused before the first run: settings, seeds, an unusable CLIP, another study.
    """
    chosen, numbers = _chosen(only), _seeds(seeds)
    budget = Budget(steps, batch, scenes, (*Budget.settings, *settings))
    _check_settings(settings, chosen)
    for variant in chosen:
        _check(variant, budget, numbers)
    study = Study(out, model_folder(clip), budget)
    jobs, console = (
        study.jobs(chosen, numbers),
        Console(stderr=True, highlight=False, soft_wrap=True),
    )
    if plan:
        return _show(jobs)
    report = _Report(study, jobs, at_once, console)
    try:
        failed = study.run(jobs, at_once, report.done)
    except KeyboardInterrupt:
        console.print("interrupted: running ones have saved; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None
    report.write()
    for path in save_figures(out / "runs", out / "figures", numbers[0]):
        console.print(f"wrote {path}", markup=False)
    for job, log in failed:
        console.print(f"failed: {job.name}; see {log}", markup=False)
    typer.echo(
        f"{len(jobs) - len(failed)} of {len(jobs)} runs; the tables are in {out / 'study.md'}"
    )
    if failed:
        raise typer.Exit(FAILED)


class _Report:
    """Tells of every finished run and keeps the tables up to date."""

    def __init__(self, study: Study, jobs: Sequence[Job], at_once: int, console: Console) -> None:
        self.study, self.jobs, self.at_once, self.console = study, jobs, at_once, console
        self.left = sum(not (job.folder / RESULT).exists() for job in jobs)
        self.finished, self.begun = 0, time.monotonic()

    def done(self, job: Job, minutes: float) -> None:
        """Print one line for the run and write the tables."""
        self.write()
        self.finished += 1
        results = collect(self.jobs)
        change = differences(job.variant.name, results)
        beside = f" ({change[-1]:+.1f})" if change and job.variant is not REFERENCE else ""
        rest = (time.monotonic() - self.begun) / self.finished * (self.left - self.finished)
        said = f"{job.name}: mIoU {results[job.variant.name][job.seed]['miou']:.1f}{beside} in {minutes:.1f} min"
        self.console.print(
            f"{said}; {self.finished} of {self.left} runs, {clock(rest)} left", markup=False
        )

    def write(self) -> None:
        """Write OUT/study.md."""
        results, budget = collect(self.jobs), self.study.budget
        took = f"{hours(self.jobs):.1f} hours on one core, commit {commit()}"
        lines = [
            f"Every run: {budget.steps} steps of {budget.batch} scenes, {', '.join(budget.settings)};"
        ]
        lines += [f"measured on {budget.scenes} test scenes. {took}."]
        lines += [
            "",
            markdown(results),
            "| network | difference of mIoU | spread | verdict |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {mean:+.2f} | {spread:.2f} | {word} |"
            for name, mean, spread, word in verdicts(results)
        ]
        write_whole(
            self.study.out / "study.md", lambda file: file.write(("\n".join(lines) + "\n").encode())
        )


def _chosen(only: Sequence[str]) -> list[Variant]:
    """Return the variants asked for, the reference first. Raises `DisaError` for a text that is in no name."""
    for text in only:
        if not any(text in variant.name for variant in VARIANTS):
            raise DisaError(
                f'--only "{text}": no variant is called so; disa study ablation --plan shows them'
            )
    return [
        v for v in VARIANTS if v is REFERENCE or not only or any(text in v.name for text in only)
    ]


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise DisaError(f'--seeds "{text}": write whole numbers with commas between, such as 0,1,2')
    return sorted({int(part) for part in parts})


def _check_settings(settings: Sequence[str], chosen: Sequence[Variant]) -> None:
    """Raise `DisaError` for a setting that is not every run's own: the budget's, or what a variant is about."""
    options = {
        "seed": "--seeds",
        "steps": "--steps",
        "batch": "--batch",
        "evaluate_images": "--scenes",
    }
    for name in by_name(settings):
        if name in options:
            raise DisaError(f"--set {name}: use {options[name]}")
        if about := [variant.name for variant in chosen if name in variant.changes]:
            raise DisaError(f'--set {name}: "{about[0]}" sets it itself; leave it out')


def _check(variant: Variant, budget: Budget, seeds: Sequence[int]) -> None:
    """Raise `DisaError` for settings with which a run would not start."""
    changes = [f"{name}={value}" for name, value in variant.changes.items()]
    model, training = split_changes([*budget.settings, *changes])
    config: ModelConfig = changed(RECIPES[variant.recipe](), model)
    own = {"steps": str(budget.steps), "batch": str(budget.batch), "evaluate_images": "0"}
    for seed in seeds:
        refuse(
            changed(recipe_settings(variant.recipe), training | own | {"seed": str(seed)}), "cpu", 1
        )
    try_out(config)


def _show(jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = (
            "done"
            if (job.folder / RESULT).exists()
            else "begun"
            if (job.folder / "log.jsonl").exists()
            else ""
        )
        typer.echo(f"{state:6}{job.name}")
    done = sum((job.folder / RESULT).exists() for job in jobs)
    typer.echo(f"{len(jobs)} runs, {done} done")
