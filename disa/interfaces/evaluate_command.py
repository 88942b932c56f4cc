"""`disa evaluate`: a data set's name, options and a model -> tables on the terminal, JSON, Markdown, pictures."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from disa.errors import DisaError
from disa.evaluation.picturebook import SCENES, Failure, evaluate
from disa.evaluation.pictures import save_both
from disa.evaluation.predictor import DTYPES
from disa.evaluation.report import table, write_report
from disa.inference.segmenter import load
from disa.model.dense import DenseClip
from disa.picturebook import WORDS
from disa.running.files import prepare_file, prepare_folder
from disa.weights.names import model_folder

PICTUREBOOK, ALL = "picturebook", "all"


@dataclass(frozen=True)
class Options:
    """What the command line was given; None and False: not given."""

    model: str
    data: Path | None = None
    split: str | None = None
    out: Path | None = None
    json: Path | None = None
    limit: int | None = None
    device: str = "auto"
    dtype: str = "fp32"
    protocol: str | None = None
    size: int | None = None
    synonyms: bool = False
    workers: int | None = None
    save_predictions: Path | None = None
    save_worst: Path | None = None
    dense_clip: bool = False

    def refuse(self, dataset: str, *names: str) -> None:
        """Raise `DisaError` if one of these options was given: it means nothing for this data set."""
        for name in names:
            if getattr(self, name) not in (None, False):
                raise DisaError(
                    f"--{name.replace('_', '-')} does not apply to {dataset}; leave it out"
                )


def run(dataset: str, options: Options) -> None:
    """Measure a model. Raises `DisaError`; what can be refused is refused before the model is loaded."""
    if options.dtype not in DTYPES:
        raise DisaError(f'unknown --dtype "{options.dtype}"; use {", ".join(DTYPES)}')
    if dataset == PICTUREBOOK:
        options.refuse(
            dataset,
            "data",
            "split",
            "out",
            "protocol",
            "size",
            "synonyms",
            "workers",
            "save_predictions",
        )
        return picturebook(options)
    from disa.interfaces.benchmarks import run_all, run_one

    return run_all(options) if dataset == ALL else run_one(dataset, options)


def picturebook(options: Options) -> None:
    """Measure on the first `limit` test scenes of the drawn world; `dense_clip`: the model's CLIP without the head.

    `save_worst` receives the 20 worst scenes, truth and prediction. Raises `DisaError`.
    """
    scenes, folder = SCENES if options.limit is None else options.limit, model_folder(options.model)
    if options.save_worst is not None:
        prepare_folder(options.save_worst)
    if options.json is not None:
        prepare_file(options.json)
    segmenter = load(options.model, options.device, DTYPES[options.dtype])
    measured = (
        DenseClip(segmenter.model.backbone, segmenter.model.config).eval()
        if options.dense_clip
        else segmenter.model
    )
    size = segmenter.model.config.backbone_image_size
    worst: list[Failure] | None = None if options.save_worst is None else []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scenes", total=scenes)
        numbers = evaluate(
            measured, segmenter.text(WORDS), scenes=scenes, size=size, worst=worst,
            progress=lambda done: progress.update(task, completed=done),
        )  # fmt: skip
    name = f"{options.model}, CLIP alone" if options.dense_clip else options.model
    if options.json is not None:
        found = {"dataset": PICTUREBOOK, "dense_clip": options.dense_clip} | numbers
        write_report(options.json, found, options.model, folder)
    if options.save_worst is not None:
        for rank, failure in enumerate(worst or [], start=1):
            stem = options.save_worst / f"{rank:02d}_scene{failure.number:05d}"
            save_both(stem, failure.scene.image, failure.scene.labels, failure.labels, WORDS)
    Console().print(table(numbers, f"{PICTUREBOOK}: {name}"))
