"""`disa evaluate` and `disa score`: numbers of a model, or of anybody's label maps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg

from disa.errors import DisaError
from disa.evaluation.settings import EvaluationSettings
from disa.inference.request import check_gate
from disa.running.files import prepare_file, prepare_folder, text_sha256, write_json, write_text
from disa.running.records import save_config
from disa.running.terminal import counted, say, warn

if TYPE_CHECKING:
    from disa.data.dataset import Dataset
    from disa.evaluation.evaluate import Evaluator

ALL = "all"
PICTUREBOOK = "picturebook"
FOLDER = "folder"
OUT = Path("runs/evaluate")
SOME_FAILED = 1
NOTHING_DONE = 2


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model: mIoU and its companions, beside published results.

    Every predicted label map is kept, so the same command continues after an interruption and
    predicts no image twice. Several processes share the work, one GPU each:
    `torchrun --nproc-per-node 4 -m disa evaluate ...`.

    Examples:

      disa evaluate a150 --data datasets --model cat-seg-b --out runs/a150

      disa evaluate all --data datasets --model models/large

      disa evaluate folder --data my-pictures --model models/mine --save-worst failures

      disa evaluate picturebook --model mini --json numbers.json --dense-clip
    """

    # What to measure on: `picturebook`, the drawn world with exact masks; a benchmark
    # (`disa data list`); `folder`, your own pictures and masks; `all`, the papers' six benchmarks.
    dataset: Annotated[Positional[str], arg(metavar="DATASET")]
    # A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub.
    model: Annotated[str, arg(aliases=["-m"])] = "mini"
    # Folder with the benchmarks' official trees side by side, or with your own data set.
    data: Path | None = None
    # What is measured, and how.
    settings: OmitArgPrefixes[EvaluationSettings] = field(default_factory=EvaluationSettings)
    # Folder for result.json, report.md and the label maps. Default: runs/evaluate/DATASET-MODEL.
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    # Write the numbers to this file, too.
    json: Path | None = None
    # Folder for the predicted label maps: index PNG, named by image id. Default: OUT/predictions.
    save_predictions: Path | None = None
    # Save the 20 images with the lowest mIoU to this folder, truth and prediction.
    save_worst: Path | None = None
    # Memory that a picture may take above the loaded model, about, such as 500MB; the numbers are
    # the same. Default: 8GB.
    max_memory: str | None = None
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    def run(self) -> int:
        """Measure. Raises `DisaError` for what cannot be read, written or measured."""
        from disa.data.dataset import keep_apart
        from disa.data.drawn import SCENES, DrawnDataset
        from disa.evaluation.evaluate import Evaluator, check_scene_size, protocol_of
        from disa.running.processes import join
        from disa.weights.fetching import model_folder

        # Everything that can be refused is refused before the model is looked for.
        protocol_of(self.dataset, self.settings)
        check_scene_size(self.dataset, self.settings.scene_size)
        check_gate(self.settings.gate)
        datasets, left_out = self._open()
        for dataset in datasets.values():
            keep_apart(dataset, self._out(), self._maps(), self.save_worst, self.json)
        if self.json is not None:
            prepare_file(self.json)
        path = model_folder(self.model)
        with join() as processes:
            evaluator = Evaluator(
                path, self.model, self.settings, self.device, processes, self.max_memory
            )
            if self.dataset == ALL:
                return self._run_all(evaluator, datasets, left_out)
            dataset = datasets[self.dataset]
            # Scenes are drawn at the model's own size, which is known only now.
            if isinstance(dataset, DrawnDataset):
                scenes = self.settings.limit or SCENES
                size = self.settings.scene_size or evaluator.config.backbone_image_size
                dataset = DrawnDataset(self.settings.split, scenes, size)
            self._run_one(evaluator, dataset)
        return 0

    def _open(self) -> tuple[dict[str, "Dataset"], dict[str, str]]:
        """Return the data sets by name, and why others are left out. Raises `DisaError`."""
        from disa.data.benchmarks import PAPER
        from disa.data.dataset import open_dataset

        split = self.settings.split
        if self.dataset != ALL:
            return {self.dataset: open_dataset(self.dataset, self.data, split)}, {}
        datasets = {}
        reasons = {}
        for name in PAPER:
            try:
                datasets[name] = open_dataset(name, self.data, split)
            except DisaError as error:
                reasons[name] = str(error)
        if not datasets:
            raise DisaError(
                f"{self.data}: holds none of {', '.join(PAPER)}; disa data list shows how they "
                f"lie ({reasons[PAPER[0]]})"
            )
        return datasets, reasons

    def _run_one(self, evaluator: "Evaluator", dataset: "Dataset") -> None:
        result = self._measure(evaluator, self.dataset, dataset)
        if evaluator.processes.rank == 0:
            if self.json is not None:
                write_json(self.json, result, indent=2)
            show(result)
            report = "" if self.dataset == PICTUREBOOK else "report.md, "
            say(f"{self._out()}: {report}result.json; label maps in {self._maps()}")

    def _run_all(
        self, evaluator: "Evaluator", datasets: dict[str, "Dataset"], left_out: dict[str, str]
    ) -> int:
        """Measure every benchmark and write the papers' table; a failure leaves the others be."""
        is_first = evaluator.processes.rank == 0
        if is_first:
            for name, reason in left_out.items():
                warn(f"LEFT OUT {name}: {reason}")
        results: dict[str, Any] = {}
        for name, dataset in datasets.items():
            try:
                results[name] = self._measure(evaluator, name, dataset)
            except DisaError as error:
                # The other processes wait for this one; only the launcher can end them.
                if evaluator.processes.count > 1:
                    raise
                left_out[name] = f"failed: {error}"
                warn(f"FAILED {name}: {error}")
        if is_first and results:
            self._write_paper_table(results, left_out)
        if len(results) < len(datasets):
            return SOME_FAILED if results else NOTHING_DONE
        return 0

    def _measure(self, evaluator: "Evaluator", name: str, dataset: "Dataset") -> dict[str, Any]:
        """Measure on one data set and write its files. Every process gets the result."""
        from disa.evaluation.evaluate import write_result
        from disa.evaluation.score import save_worst

        # Among several data sets, each has a folder of its own in every folder of results.
        part = name if self.dataset == ALL else ""
        out = self._out() / part
        maps = self._maps() / part
        prepare_folder(out)
        worst = None if self.save_worst is None else self.save_worst / part
        if worst is not None:
            prepare_folder(worst)

        result, scores = evaluator.evaluate(name, dataset, maps)
        if evaluator.processes.rank == 0:
            write_result(out, result)
            save_config(out / "config.yaml", self)
            if worst is not None:
                save_worst(worst, maps, dataset, scores)
        return result

    def _write_paper_table(self, results: dict[str, Any], left_out: dict[str, str]) -> None:
        from disa.evaluation.tables import paper_markdown, paper_table

        out = self._out()
        rows = paper_table(results, self.model)
        reasons = [f"{name}: {reason}" for name, reason in left_out.items()]
        text = paper_markdown(rows, reasons)
        write_text(out / "table.md", text)
        everything = {"model": self.model, "benchmarks": results, "left_out": left_out}
        for path in (out / "result.json", self.json):
            if path is not None:
                write_json(path, everything, indent=2)
        say(_table("mIoU %", rows[0], rows[1:]))
        for reason in reasons:
            say(f"LEFT OUT {reason}")
        say(f"{out}: table.md, result.json, and a folder each")

    def _out(self) -> Path:
        """Return the folder of results; by default one of this data set and model alone."""
        if self.out is not None:
            return self.out
        data = self.data if self.dataset == FOLDER else None
        model = Path(self.model)
        return OUT / f"{_tagged(self.dataset, data)}-{_tagged(model.name, model)}"

    def _maps(self) -> Path:
        return self.save_predictions or self._out() / "predictions"


def _tagged(name: str, path: Path | None) -> str:
    """Return `name`, or for an existing path its own name and a digest of where it lies."""
    # `siteA/val` and `siteB/val` must not share a folder.
    if path is None or not path.exists():
        return name
    place = path.resolve()
    return f"{place.name}-{text_sha256([str(place)])[:8]}"


@dataclass(frozen=True, kw_only=True)
class Score:
    """Count anybody's label maps against a data set's masks.

    PREDICTIONS holds an index PNG for each image, named by the image's id and of the image's size;
    a value is a category's position in the vocabulary (`disa vocabulary NAME` prints them).

    Examples:

      disa score maps a150 --data datasets

      disa score maps folder --data my-pictures --json numbers.json
    """

    # Folder with the label maps: ID.png, in 8 or 16 bits, grey or with a palette.
    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    # The data set: a name of `disa data list`, `picturebook`, or `folder`.
    dataset: Annotated[Positional[str], arg(metavar="DATASET")]
    # Folder with the benchmarks' official trees side by side, or with your own data set.
    data: Path | None = None
    # Which part of the data set.
    split: str = "val"
    # The first images only. Default: all.
    limit: int | None = None
    # Write the numbers to this file, too.
    json: Path | None = None

    def run(self) -> int:
        """Count. Raises `DisaError` for a map that is missing or does not fit."""
        from disa.data.dataset import keep_apart, open_dataset
        from disa.evaluation.evaluate import base_result
        from disa.evaluation.score import score

        if not self.predictions.is_dir():
            raise DisaError(f"{self.predictions}: no such folder; name one with the label maps")
        dataset = open_dataset(self.dataset, self.data, self.split)
        keep_apart(dataset, self.json)
        if self.json is not None:
            prepare_file(self.json)
        ids = dataset.ids[: self.limit]
        with counted(f"{dataset.name}: counting") as bar:
            scores = score(self.predictions, dataset, ids, bar)
        result = base_result(self.dataset, dataset, scores, self.split)
        result["model"] = str(self.predictions)
        if self.json is not None:
            write_json(self.json, result, indent=2)
        show(result)
        return 0


def show(result: dict[str, Any]) -> None:
    """Print a result as tables, and what a reader must know."""
    from disa.evaluation.drawn_world import group_table
    from disa.evaluation.tables import beside_published, measures, remarks

    if "groups" in result:
        clip = ", CLIP alone" if result["dense_clip"] else ""
        say(group_table(result, f"{result['dataset']}: {result['model']}{clip}"))
        return
    title = f"{result['dataset']}: {result['model']}, {result['images']} images"
    say(_table(title, ("measure", "%"), measures(result)))
    if result["published"]:
        header = ("method", "mIoU %", "")
        say(_table("beside published results", header, beside_published(result)))
    for line in remarks(result):
        say(line)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*header, title=title)
    table.columns[1].justify = "right"
    for row in rows:
        table.add_row(*row)
    return table
