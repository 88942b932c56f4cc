"""One model on one data set, from its settings to its numbers."""

from functools import cached_property
from pathlib import Path
from typing import Any

from disa.config import ModelConfig
from disa.data.benchmarks import BENCHMARKS
from disa.data.dataset import FOLDER, Dataset
from disa.data.drawn import PICTUREBOOK, DrawnDataset
from disa.errors import DisaError
from disa.evaluation.drawn_world import group_numbers
from disa.evaluation.network_probe import probe
from disa.evaluation.predictions import PredictionFolder, Predictor, predict
from disa.evaluation.score import Scores, numbers, score
from disa.evaluation.settings import EvaluationSettings
from disa.evaluation.tables import published, report
from disa.inference.memory import parse_memory
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter, load
from disa.model.dense import DenseClip
from disa.picturebook import LARGEST, SMALLEST
from disa.running.devices import DTYPES
from disa.running.files import text_sha256, write_json, write_text
from disa.running.processes import Processes
from disa.running.provenance import code_and_machine, weights_sha256
from disa.running.terminal import counted
from disa.weights.clip_files import dense_config, read_clip_config
from disa.weights.exported import network_of
from disa.weights.model_folder import read_config
from disa.weights.names import is_clip

PUBLISHED_PROTOCOL = "cat-seg"  # of published results (decision D72)


class Evaluator:
    """One model with one choice of settings; it is loaded once, if at all."""

    def __init__(
        self,
        path: Path,
        name: str,
        settings: EvaluationSettings,
        device: str,
        processes: Processes,
        max_memory: int | str | None = None,
    ) -> None:
        """Measure the model at `path`, which people call `name`. Nothing is loaded yet.

        Raises `DisaError` for a `max_memory` that is no amount of memory.
        """
        self.max_memory = parse_memory(max_memory)
        self.path = path
        self.name = name
        self.settings = settings
        self.device = processes.device(device)
        self.processes = processes
        self.config = model_config(path)
        self.weights_sha256 = weights_sha256(path)

    @cached_property
    def segmenter(self) -> Segmenter:
        """The model, or its CLIP alone; loaded when it is first asked for."""
        dtype = DTYPES[self.settings.dtype]
        segmenter = load(self.path, self.device, dtype, self.max_memory)
        if not self.settings.dense_clip:
            return segmenter
        clip = DenseClip(network_of(segmenter.model).backbone, segmenter.model.config)
        tokenizer = segmenter.text.tokenizer
        return Segmenter(clip, tokenizer, segmenter.device, dtype, self.max_memory)

    def evaluate(self, name: str, dataset: Dataset, maps: Path) -> tuple[dict[str, Any], Scores]:
        """Predict what is missing in the folder `maps`; return `result.json` and the counts.

        `name` is the data set's as `open_dataset` takes it. Every process must call it; all get the
        numbers. Raises `DisaError` for a data set without images, a folder of another run, and an
        image that cannot be read or does not fit into memory.
        """
        protocol = protocol_of(name, self.settings)
        folder = PredictionFolder(maps, dataset, self.settings.limit)
        if not folder.ids:
            raise DisaError(f"{dataset.name}: no image to measure on; see disa data check")
        is_first = self.processes.rank == 0

        # One process makes the folder, and the others wait until it is there.
        if is_first:
            folder.open(self._facts(dataset, protocol))
        self.processes.gathered(None)

        predictor = Predictor(
            lambda: self.segmenter,
            dataset.vocabulary,
            protocol,
            self.settings.synonyms,
            self.settings.gate,
        )
        with counted(f"{dataset.name}: predicting", is_first) as bar:
            predict(folder, predictor, processes=self.processes, report=bar)
        # Every process counts all maps, so all know the numbers and nothing has to be exchanged.
        with counted(f"{dataset.name}: counting", is_first) as bar:
            scores = score(maps, dataset, folder.ids, bar)
        return self._result(name, dataset, scores, protocol), scores

    def _facts(self, dataset: Dataset, protocol: Protocol) -> dict[str, Any]:
        """Return what makes a label map what it is, beside the image."""
        vocabulary = dataset.vocabulary
        # The same prompts may count as other categories.
        prompts = (*vocabulary.prompts(self.settings.synonyms), *map(str, vocabulary.scored))
        # Templates and tokens change a map as much as weights do.
        files = [self.path / name for name in ("config.json", "tokenizer.json")]
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        facts = {
            "dataset": dataset.name,
            "weights_sha256": self.weights_sha256,
            "other_model_files": text_sha256(texts),
            "prompts": text_sha256(prompts),
            "labels": [category.name for category in vocabulary.categories],
        }
        facts |= vars(self.settings) | {"protocol": protocol.name}
        # The folder counts its images, and a limit above their number changes nothing.
        del facts["limit"]
        return facts

    def _result(
        self, name: str, dataset: Dataset, scores: Scores, protocol: Protocol
    ) -> dict[str, Any]:
        vocabulary = dataset.vocabulary
        synonyms = self.settings.synonyms
        result = base_result(name, dataset, scores, self.settings.split)
        result |= vars(self.settings) | {
            "protocol": protocol.name,
            "model": self.name,
            "weights_sha256": self.weights_sha256,
            "prompts": {
                "synonyms": synonyms,
                "count": len(vocabulary.prompted),
                # Groups of prompts that no model can tell apart.
                "identical": vocabulary.identical(synonyms),
                "templates": self.config.backbone_templates,
            },
        }
        # Only drawn scenes have exact masks for what the parts of the network see.
        if isinstance(dataset, DrawnDataset):
            probed = probe(self.segmenter, dataset, len(scores.images))
            result |= {"scene_size": dataset.size} | group_numbers(scores, probed)
        return result


def check_scene_size(dataset: str, size: int | None) -> None:
    """Raise `DisaError` for scenes that cannot be drawn, or where nothing is drawn."""
    if size is None:
        return
    if dataset != PICTUREBOOK:
        raise DisaError(f"scene_size {size}: only the scenes of {PICTUREBOOK} are drawn; leave out")
    if not SMALLEST <= size <= LARGEST:
        raise DisaError(f"scene_size {size}: choose {SMALLEST} to {LARGEST} pixels")


def base_result(name: str, dataset: Dataset, scores: Scores, split: str) -> dict[str, Any]:
    """Return what `result.json` holds of any predictions, whatever model they come from."""
    benchmark = name if name in BENCHMARKS else None
    # A benchmark is incomplete if images are missing on disk; your own data set is what is there.
    total = len(dataset.ids) if benchmark is None else BENCHMARKS[benchmark].images[split]
    return (
        {"dataset": dataset.name, "benchmark": benchmark}
        | numbers(scores, dataset.vocabulary.categories)
        | {"images_in_all": total, "masks_sha256": scores.masks_sha256}
        | {"published": [] if benchmark is None else published(benchmark, split)}
        | code_and_machine()
    )


def write_result(out: Path, result: dict[str, Any]) -> None:
    """Write `result.json` and, except for picturebook, `report.md`.

    Raises `DisaError` if the disk refuses.
    """
    write_json(out / "result.json", result, indent=2)
    if result["dataset"] != PICTUREBOOK:
        write_text(out / "report.md", report(result))


def protocol_of(name: str, settings: EvaluationSettings) -> Protocol:
    """Return how pictures are shown: published benchmarks by their own protocol (decision D72).

    Raises `DisaError` for a protocol and a size that make no sense together.
    """
    default = "whole" if name in (FOLDER, PICTUREBOOK) else PUBLISHED_PROTOCOL
    return Protocol(settings.protocol or default, settings.size)


def model_config(path: Path) -> ModelConfig:
    """Return a model's configuration, without loading it; a CLIP alone has that of `DenseClip`."""
    if is_clip(path):
        return dense_config(read_clip_config(path))
    return read_config(path)
