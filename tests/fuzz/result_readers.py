"""Results, measurements and runs: what disa wrote, and others may have changed."""

import json
from pathlib import Path

import miniatures
import torch
from option_readers import write_described
from reader import HEIGHT, LABELS, WIDTH, Reader, pixels, write_json

from disa.data.benchmarks import find_benchmark
from disa.data.dataset import open_dataset
from disa.data.prepared import open_prepared, prepare
from disa.evaluation.predictions import PredictionFolder
from disa.formats.write import FORMATS, parse_formats, write_formats
from disa.inference.result_names import result_names
from disa.interfaces.bench_command import comparison, read_measured
from disa.running.terminal import say
from disa.training.optimizer import optimizer, restore_run, run_tensors
from disa.training.run_folder import Checkpoint, RunFolder, write_checkpoint
from disa.training.run_log import open_log
from disa.training.settings import TrainConfig


def write_results(folder: Path) -> None:
    miniatures.photograph(folder / "a.jpg", HEIGHT, WIDTH, 0)
    for name, source in (("a", "a.jpg"), ("stdin", None)):
        labels = pixels(1) % 3
        labels[labels == 2] = 255
        miniatures.save_png(folder / "out" / f"{name}_labels.png", labels, palette=True)
        words = [
            {"word": word, "index": index, "colour": [9, 9, 9]} for index, word in enumerate(LABELS)
        ]
        data = {"image": source, "width": WIDTH, "height": HEIGHT, "words": words}
        write_json(folder / "out" / f"{name}.json", data)


def read_results(folder: Path, file: Path) -> None:
    out = folder / "out"
    result_names([folder / "a.jpg"], [out])
    formats = tuple(FORMATS)
    write_formats(out, LABELS, parse_formats(formats, 1.0))


def network() -> tuple[torch.nn.Module, torch.optim.AdamW, dict[str, torch.Tensor]]:
    model = torch.nn.Linear(3, 4)
    adam = optimizer(model, {"head": ["weight", "bias"]}, TrainConfig())
    return model, adam, {"weight": torch.zeros(4, 3)}


def write_run(folder: Path) -> None:
    model, adam, averages = network()
    model(torch.ones(5, 3)).sum().backward()
    adam.step()
    run = RunFolder(folder)
    state = {"step": 3, "scale": None, "training": {"seed": 1}, "data": {"a": "1:ff"}}
    write_checkpoint(run.checkpoints, Checkpoint(run_tensors(model, adam, averages), state))
    run.keep_best(2, 30.5, 5)
    write_json(run.starts, [{"command": ["disa"], "step": 0}])
    lines = [{"step": step, "loss": 1.5, "norm": None} for step in range(3)]
    lines.append({"step": 2, "evaluation": {"miou": 30.5, "images": 5}})
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_run(folder: Path, file: Path) -> None:
    run = RunFolder(folder)
    with run.held():
        checkpoint = run.checkpoint_to_continue({"training": {"seed": 1}}, resume=True)
        if checkpoint is not None:
            restore_run(checkpoint.tensors, *network())
        run.is_best(1.0, 5)
        run.begin({}, 3)
        with open_log(run.log, 5, 3) as log:
            log.step(3, {"loss": 1.0})


def write_predictions(folder: Path) -> None:
    write_described(folder)
    (folder / "maps").mkdir()
    PredictionFolder(folder / "maps", open_dataset("folder", folder)).open({"model": "mini"})


def read_predictions(folder: Path, file: Path) -> None:
    PredictionFolder(folder / "maps", open_dataset("folder", folder)).open({"model": "mini"})


def write_measured(folder: Path) -> None:
    rows = [{"labels": labels, "multiples": {"call": 1.5 + labels}} for labels in (2, 20)]
    write_json(folder / "bench.json", {"picture": [48, 64], "model": rows, "baseline": rows})


def read_measured_again(folder: Path, file: Path) -> None:
    rows = [{"labels": labels, "multiples": {"call": 1.0}} for labels in (0, 1, 2, 20)]
    say(comparison(read_measured(file), {"model": rows, "baseline": rows}))


def write_prepared(folder: Path) -> None:
    miniatures.pc459(folder, "val")
    prepare(find_benchmark("pc459"), folder, "val", 1, lambda done, total: None)


def read_prepared(folder: Path, file: Path) -> None:
    open_prepared(find_benchmark("pc459"), folder, "val").labels(0)


READERS = (
    Reader("results", write_results, read_results, ("out/*",), tries=10),
    Reader("run", write_run, read_run, ("*.json*", "checkpoints/*/*"), tries=40),
    Reader("predictions", write_predictions, read_predictions, ("maps/*.json",)),
    Reader("bench", write_measured, read_measured_again, tries=40),
    Reader("prepared", write_prepared, read_prepared, ("disa-prepared/*/*/*.json",)),
)
