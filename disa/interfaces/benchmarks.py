"""`disa evaluate NAME` for every data set on disk, and `disa evaluate all` for the papers' table."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from disa.data.benchmarks import BENCHMARKS
from disa.data.dataset import FOLDER, Dataset, open_dataset
from disa.errors import DisaError
from disa.evaluation.benchmark import Watch, measure
from disa.evaluation.job import result_of, run_of, write_result
from disa.evaluation.markdown import beside, notes, paper_markdown, paper_table, rows
from disa.evaluation.pictures import save_worst
from disa.evaluation.predictions import Predictions
from disa.evaluation.predictor import DTYPES, Predictor, Settings
from disa.evaluation.published import PAPER
from disa.evaluation.resume import State
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter, load
from disa.interfaces.counting import Counting
from disa.interfaces.evaluate_command import ALL, PICTUREBOOK, Options
from disa.model.dense import DenseClip
from disa.running.devices import choose_device
from disa.running.files import prepare_file, prepare_folder, write_json, write_whole
from disa.running.interruption import INTERRUPTED, Interruption
from disa.running.processes import Processes, join
from disa.weights.names import model_folder

OUT = Path("runs/evaluate")
PUBLISHED = "cat-seg"  # the protocol of published results (D72)
WORKERS = (
    2  # threads that decode; one more than enough for a model that takes longer than a picture
)
SOME_FAILED = 1


def run_one(name: str, options: Options) -> None:
    """Measure one data set. Raises `DisaError`; exits with 130 after an interruption."""
    data, path = _data(name, options), model_folder(options.model)
    settings = _settings(options, own=name == FOLDER)
    dataset = open_dataset(name, data, settings.split)
    with join() as processes:
        job = Job(options, settings, path, processes)
        out = options.out or OUT / f"{dataset.name}-{Path(options.model).name}"
        result = job.do(dataset, out, options.save_predictions, options.save_worst)
        if processes.rank == 0:
            if options.json is not None:
                write_json(options.json, result, indent=2)
            console = Console(highlight=False, soft_wrap=True)
            console.print(_measures(result), *([_beside(result)] if result["published"] else []))
            for line in (*notes(result), f"{out}: report.md, result.json"):
                console.print(line.replace("**", ""), markup=False)


def run_all(options: Options) -> None:
    """Measure the six benchmarks of the papers' table, leaving out what is not on disk, and write the table.

    Exits with 1 if one of them failed, with 130 after an interruption. Raises `DisaError` if none is on disk.
    """
    options.refuse(ALL, "split")
    data, path = _data(ALL, options), model_folder(options.model)
    settings = _settings(options, own=False)
    datasets, left_out = _on_disk(data)
    out = options.out or OUT / f"{ALL}-{Path(options.model).name}"
    results, failed = {}, False
    with join() as processes:
        job = Job(options, settings, path, processes)
        for name, reason in left_out.items():
            job.say(f"LEFT OUT {name}: {reason}")
        for name, dataset in datasets.items():
            below = [
                None if place is None else place / name
                for place in (options.save_predictions, options.save_worst)
            ]
            try:
                results[name] = job.do(dataset, out / name, *below)
            except DisaError as error:
                if processes.count > 1:
                    raise  # the others wait for this process; the launcher ends them
                left_out[name], failed = f"failed: {error}", True
                job.say(f"FAILED {name}: {error}")
        if processes.rank == 0 and results:
            _write_table(options, out, results, left_out)
    if failed:
        raise typer.Exit(SOME_FAILED if results else 2)


class Job:
    """One model measured with one choice of options, on one data set or several; it is loaded once, if at all."""

    def __init__(
        self, options: Options, settings: Settings, path: Path, processes: Processes
    ) -> None:
        self.options, self.settings, self.path, self.processes = options, settings, path, processes
        choose_device(processes.device(options.device))
        if options.json is not None:
            prepare_file(options.json)
        self.load: Callable[[], Segmenter] = cache(self._load)
        self.console = Console(
            stderr=True, highlight=False, soft_wrap=True, quiet=processes.rank > 0
        )

    def do(
        self, dataset: Dataset, out: Path, predictions: Path | None, worst: Path | None
    ) -> dict[str, Any]:
        """Measure one data set into `out`, going on where it was left; return its result. Raises `DisaError`."""
        run = run_of(dataset, self.path, self.settings)
        for place in (out, *([] if worst is None else [worst])):
            prepare_folder(place)
        names = [category.name for category in dataset.vocabulary.categories]
        predict = Predictor(self.load, dataset.vocabulary, self.settings)
        with Interruption() as interruption, Counting(dataset.name, self.processes) as counting:
            counted = measure(
                dataset,
                predict,
                State(out, run),
                processes=self.processes,
                workers=self.options.workers or WORKERS,
                less_memory="use --dtype bf16 or a smaller --size",
                predictions=None if predictions is None else Predictions(predictions, run, names),
                watch=Watch(counting.begin, counting.progress, lambda: interruption.asked),
            )
        if counted is None:
            self.say(f"interrupted: what is counted is kept in {out}; the same command goes on")
            raise typer.Exit(INTERRUPTED)
        result = result_of(counted, dataset, self.options.model, self.path, self.settings)
        if self.processes.rank == 0:
            write_result(out, result)
            if worst is not None:
                save_worst(worst, dataset, predict, counted.tally)
        return result

    def _load(self) -> Segmenter:
        device, dtype = self.processes.device(self.options.device), DTYPES[self.settings.dtype]
        segmenter = load(self.path, device, dtype)
        if not self.settings.dense_clip:
            return segmenter
        dense = DenseClip(segmenter.model.backbone, segmenter.model.config)
        return Segmenter(dense, segmenter.text.tokenizer, segmenter.device, dtype)

    def say(self, line: str) -> None:
        """Print a line for people, by one process only."""
        self.console.print(line, markup=False)


def _data(name: str, options: Options) -> Path:
    """Return the folder that `--data` names. Raises `DisaError`, first for an unknown data set."""
    if name not in (*BENCHMARKS, FOLDER, ALL):
        raise DisaError(
            f'unknown data set "{name}"; use {PICTUREBOOK}, {", ".join(BENCHMARKS)}, {FOLDER} or {ALL}'
        )
    if options.data is None:
        raise DisaError(
            f"{name} needs --data DIR, the folder that holds it; disa data list shows what it looks like"
        )
    if not options.data.is_dir():
        raise DisaError(
            f"{options.data}: no such folder; --data names the folder that holds the data sets"
        )
    return options.data


def _settings(options: Options, own: bool) -> Settings:
    """Return the settings that the options ask for. Raises `DisaError` for a protocol that makes no sense with them."""
    protocol = options.protocol or ("whole" if own else PUBLISHED)
    Protocol(protocol, options.size)
    return Settings(
        own=own,
        split=options.split or "val",
        limit=options.limit,
        protocol=protocol,
        size=options.size,
        dtype=options.dtype,
        synonyms=options.synonyms,
        dense_clip=options.dense_clip,
    )


def _on_disk(data: Path) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Return the benchmarks that can be opened, and why the others cannot. Raises `DisaError` if none can."""
    datasets, reasons = {}, {}
    for name in PAPER:
        try:
            datasets[name] = open_dataset(name, data)
        except DisaError as error:
            reasons[name] = str(error)
    if not datasets:
        raise DisaError(
            f"{data}: holds none of {', '.join(PAPER)}; disa data list shows how they lie ({reasons[PAPER[0]]})"
        )
    return datasets, reasons


def _write_table(
    options: Options, out: Path, results: dict[str, Any], left_out: dict[str, str]
) -> None:
    lines = paper_table(results, options.model)
    reasons = [f"{name}: {reason}" for name, reason in left_out.items()]
    text = paper_markdown(lines, reasons)
    write_whole(out / "table.md", lambda file: file.write(text.encode()))
    everything = {"model": options.model, "benchmarks": results, "left_out": left_out}
    for path in (out / "result.json", options.json):
        if path is not None:
            write_json(path, everything, indent=2)
    table = Table(*lines[0], title="mIoU %")
    for cells in lines[1:]:
        table.add_row(*cells)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in (
        *(f"LEFT OUT {reason}" for reason in reasons),
        f"{out}: table.md, result.json, and a folder each",
    ):
        console.print(line, markup=False)


def _measures(result: dict[str, Any]) -> Table:
    table = Table(
        "measure", "%", title=f"{result['dataset']}: {result['model']}, {result['images']} images"
    )
    table.columns[1].justify = "right"
    for name, value in rows(result):
        table.add_row(name, value)
    return table


def _beside(result: dict[str, Any]) -> Table:
    table = Table("method", "mIoU %", "", title="beside published results")
    table.columns[1].justify = "right"
    for line in beside(result):
        table.add_row(*line)
    return table
