"""One model on one data set, from its settings to its numbers."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from disa.config import ModelConfig
from disa.data.benchmarks import BENCHMARKS
from disa.data.dataset import FOLDER, Dataset
from disa.data.drawn import PICTUREBOOK
from disa.errors import DisaError
from disa.evaluation.drawn_world import group_numbers
from disa.evaluation.network_probe import probe
from disa.evaluation.predictions import (
    LESS_MEMORY,
    PredictionFolder,
    Predictor,
    predict,
    prediction_facts,
)
from disa.evaluation.published import published
from disa.evaluation.score import Scores, numbers, score
from disa.evaluation.settings import EvaluationSettings
from disa.evaluation.tables import report
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter, load
from disa.model.dense import DenseClip
from disa.picturebook import UNSEEN
from disa.running.files import text_sha256, write_json, write_whole
from disa.running.processes import Processes
from disa.running.provenance import code_and_machine, provenance, weights_sha256
from disa.running.terminal import counted
from disa.weights.clip_files import dense_config, read_clip_config
from disa.weights.model_folder import read_config
from disa.weights.names import is_clip

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PUBLISHED_PROTOCOL = "cat-seg"  # the protocol of published results (decision D72)


class Evaluated(NamedTuple):
    """What an evaluation left behind."""

    result: dict[str, Any]  # what result.json holds
    scores: Scores
    folder: PredictionFolder


class Evaluator:
    """One model with one choice of settings; it is loaded once, if at all."""

    def __init__(
        self, path: Path, name: str, settings: EvaluationSettings, device: str, processes: Processes
    ) -> None:
        """Measure the model at `path`, which people call `name`. Nothing is loaded yet."""
        self.path = path
        self.name = name
        self.settings = settings
        self.device = processes.device(device)
        self.processes = processes
        self.load: Callable[[], Segmenter] = cache(self._load)

    def evaluate(self, name: str, dataset: Dataset, maps: Path) -> Evaluated:
        """Predict what is missing in the folder `maps`, and count it all.

        `name` is the data set's as `open_dataset` takes it. Every process must call it; all get the
        numbers. Raises `DisaError` for a data set without images, a folder of another run, and an
        image that cannot be read or does not fit into memory.
        """
        settings = self.settings
        images = min(settings.limit or len(dataset.ids), len(dataset.ids))
        if images == 0:
            raise DisaError(f"{dataset.name}: holds no images; see disa data check")
        protocol = protocol_of(name, settings)
        folder = PredictionFolder(maps, dataset, images)
        if self.processes.rank == 0:
            folder.open(prediction_facts(dataset, settings, protocol, model_facts(self.path)))
        self.processes.gathered(None)  # the others wait until the folder is there

        predictor = Predictor(self.load, dataset.vocabulary, protocol, settings.synonyms)
        visible = self.processes.rank == 0
        with counted(f"{dataset.name}: predicting", visible) as bar:
            predict(
                folder, predictor, processes=self.processes, report=bar, less_memory=LESS_MEMORY
            )
        with counted(f"{dataset.name}: counting", visible) as bar:
            scores = score(maps, dataset, folder.ids, bar)
        return Evaluated(self._result(name, dataset, scores, protocol), scores, folder)

    def _load(self) -> Segmenter:
        dtype = DTYPES[self.settings.dtype]
        segmenter = load(self.path, self.device, dtype)
        if not self.settings.dense_clip:
            return segmenter
        clip = DenseClip(segmenter.model.backbone, segmenter.model.config)
        return Segmenter(clip, segmenter.text.tokenizer, segmenter.device, dtype)

    def _result(
        self, name: str, dataset: Dataset, scores: Scores, protocol: Protocol
    ) -> dict[str, Any]:
        settings = self.settings
        vocabulary = dataset.vocabulary
        result = base_result(name, dataset, scores, settings.split)
        result |= {
            "model": self.name,
            "split": settings.split,
            "limit": settings.limit,
            "protocol": protocol.name,
            "size": protocol.size,
            "dtype": settings.dtype,
            "synonyms": settings.synonyms,
            "dense_clip": settings.dense_clip,
            "prompts": {
                "synonyms": settings.synonyms,
                "count": len(vocabulary.prompted),
                # groups of prompts that no model can tell apart
                "identical": vocabulary.identical(settings.synonyms),
                "templates": model_config(self.path).backbone_templates,
            },
        }
        if name == PICTUREBOOK:
            probed = probe(self.load(), dataset, len(scores.images), UNSEEN)
            result |= {"size": dataset.image(0).shape[0]} | group_numbers(scores, probed)
        return result | provenance(self.name, self.path)


def base_result(name: str, dataset: Dataset, scores: Scores, split: str) -> dict[str, Any]:
    """Return what `result.json` holds of any predictions, whatever model they come from."""
    benchmark = name if name in BENCHMARKS else None
    total = len(dataset.ids) if benchmark is None else BENCHMARKS[benchmark].images[split]
    methods = [] if benchmark is None else published(benchmark, split)
    return (
        {"dataset": dataset.name, "benchmark": benchmark}
        | numbers(scores, dataset.vocabulary.categories)
        | {"images_in_all": total, "masks_sha256": scores.masks_sha256}
        | {"published": [method._asdict() for method in methods]}
        | code_and_machine()
    )


def write_result(out: Path, result: dict[str, Any]) -> None:
    """Write `result.json` and `report.md`. Raises `DisaError` if the disk refuses."""
    write_json(out / "result.json", result, indent=2)
    if result["dataset"] != PICTUREBOOK:
        write_whole(out / "report.md", lambda file: file.write(report(result).encode()))


def protocol_of(name: str, settings: EvaluationSettings) -> Protocol:
    """Return how pictures are shown: published benchmarks by their own protocol (decision D72).

    Raises `DisaError` for a protocol and a size that make no sense together.
    """
    own = name in (FOLDER, PICTUREBOOK)
    default = "whole" if own else PUBLISHED_PROTOCOL
    return Protocol(settings.protocol or default, settings.size)


def model_facts(path: Path) -> dict[str, str]:
    """Return checksums of a model's weights, and of the other files that its answers depend on."""
    others = [path / name for name in ("config.json", "tokenizer.json")]
    texts = [file.read_text(encoding="utf-8") for file in others if file.is_file()]
    return {"weights_sha256": weights_sha256(path), "other_model_files": text_sha256(texts)}


def model_config(path: Path) -> ModelConfig:
    """Return a model's configuration, without loading it; a CLIP alone has that of `DenseClip`."""
    if is_clip(path):
        return dense_config(read_clip_config(path))
    return read_config(path)
