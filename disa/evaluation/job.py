"""What one evaluation is, from its settings to its files: (data set, model, settings) -> Run; counts -> result.json.

`result.json` holds every number, and all that is needed to get it again; `report.md` sets it beside published results.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from disa.config import ModelConfig
from disa.data.benchmarks import BENCHMARKS
from disa.data.dataset import Dataset
from disa.errors import DisaError
from disa.evaluation.markdown import report
from disa.evaluation.numbers import numbers
from disa.evaluation.predictor import Settings
from disa.evaluation.published import published
from disa.evaluation.resume import Counted, Run
from disa.running.files import write_json, write_whole
from disa.running.provenance import provenance, weights_sha256
from disa.weights.clip_files import is_clip_folder
from disa.weights.model_folder import read_config

OTHER_FILES = ("config.json", "tokenizer.json")  # of a model folder, beside the weights


def run_of(dataset: Dataset, path: Path, settings: Settings) -> Run:
    """Return what defines the number: images, categories, prompts, weights and settings.

    Raises `DisaError` for a data set without images.
    """
    vocabulary, images = dataset.vocabulary, list(dataset.ids[: settings.limit])
    if not images:
        raise DisaError(f"{dataset.name}: holds no images; see disa data check")
    facts = {
        "dataset": dataset.name,
        "weights_sha256": weights_sha256(path),
        "other_model_files": _checksum(
            file.read_text() for name in OTHER_FILES if (file := path / name).is_file()
        ),
        **asdict(replace(settings, limit=None)),  # which images they are is said below
        "images": len(images),
        "ids": _checksum(images),
        "categories": _checksum(category.name for category in vocabulary.categories),
        "prompts": _checksum(
            (*vocabulary.prompts(settings.synonyms), *map(str, vocabulary.scored))
        ),
    }
    return Run(facts, len(images), len(vocabulary.categories), dataset.ignored)


def result_of(
    counted: Counted, dataset: Dataset, model: str, path: Path, settings: Settings
) -> dict[str, Any]:
    """Return what `result.json` holds: the numbers in percent, how they were measured, and the published ones."""
    vocabulary = dataset.vocabulary
    prompts = {
        "synonyms": settings.synonyms,
        "count": len(vocabulary.prompted),
        "identical": vocabulary.identical(
            settings.synonyms
        ),  # groups of indices that no model can tell apart
        "templates": _templates(path),
    }
    benchmark = None if settings.own else dataset.name
    images = len(dataset.ids) if benchmark is None else BENCHMARKS[benchmark].images[settings.split]
    return (
        {"dataset": dataset.name, "benchmark": benchmark, "model": model}
        | numbers(counted.tally, vocabulary.categories)
        | asdict(settings)
        | {"images_in_all": images, "prompts": prompts}
        | {"published": [method._asdict() for method in published(benchmark, settings.split)]}
        | {"sittings": counted.sittings}
        | provenance(model, path)
    )


def write_result(out: Path, result: dict[str, Any]) -> None:
    """Write `result.json` and `report.md`. Raises `DisaError` if the disk refuses."""
    write_json(out / "result.json", result, indent=2)
    write_whole(out / "report.md", lambda file: file.write(report(result).encode()))


def _templates(path: Path) -> tuple[str, ...]:
    """Return a model's own prompts, without loading it; a CLIP alone has those of the configuration's default."""
    alone = path.is_file() or is_clip_folder(path)
    return ModelConfig.backbone_templates if alone else read_config(path).backbone_templates


def _checksum(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
