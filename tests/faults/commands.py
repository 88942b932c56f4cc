"""The long commands in small, and what of their results must be the same whatever happened."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from disa.picturebook import render
from disa.training.run_folder import checkpoints
from disa.training.run_log import read_log

# What tells when and where something ran.
DESCRIPTIONS = ("run.json", "config.yaml", "segment.yaml", "report.md", ".lock", "best.json")
READ = ("checkpoints", "VOCdevkit")  # folders that are no results
VOLATILE = ("command", "date", "commit")
CHECKPOINT_EVERY = 2
SMALL_RUN = {
    "steps": 6,
    "warmup": 2,
    "checkpoint-every": CHECKPOINT_EVERY,
    "log-every": 1,
    "device": "cpu",
}


@dataclass(frozen=True)
class Command:
    """A long command: its arguments for a folder of results, and how far results have come."""

    name: str
    prepare: Callable[[Path], None]  # makes what the command reads within the folder
    arguments: Callable[[Path], list[object]]
    is_training: bool = False

    def results(self, out: Path) -> dict[str, bytes]:
        """Return the content of every file that must be the same in the end, by its place."""
        found = {}
        for path in sorted(out.rglob("*")):
            place = path.relative_to(out)
            is_draft = any(part.startswith(".disa-") for part in place.parts)
            if not path.is_file() or is_draft or path.name in DESCRIPTIONS:
                continue
            if place.parts[0] in READ:
                continue
            content = path.read_bytes()
            if path.name == "result.json":
                data = json.loads(content)
                content = json.dumps({k: v for k, v in data.items() if k not in VOLATILE}).encode()
            found[str(place)] = content
        return found

    def lost_steps(self, out: Path) -> int:
        """Return how many steps a run that was stopped has logged since its last checkpoint."""
        logged = [record["step"] + 1 for record in read_log(out / "log.jsonl") if "loss" in record]
        saved = [int(path.name.removeprefix("step-")) for path in checkpoints(out / "checkpoints")]
        return max(0, max(logged, default=0) - max(saved, default=0))


def options(values: dict[str, object]) -> list[object]:
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def long_commands(clip: Path, model: Path, data: Path, voc: Path, pictures: Path) -> list[Command]:
    """Return the long commands, for a CLIP, a model, and data sets that were made before."""
    from test_clip_training import TINY

    training = SMALL_RUN | {
        "clip": clip,
        "batch": 2,
        "evaluate-every": 4,
        "evaluate-images": 2,
        "workers": 0,
        "categories": 12,
        "precision": "fp32",
    }
    tiny = [f"--set={name}={value}" for name, value in asdict(TINY).items()]
    measured = {"data": data, "model": model, "device": "cpu"}
    segmenting = {"labels": "House, sea|ocean, grass", "model": model, "workers": 0}
    return [
        Command(
            "train",
            lambda out: None,
            lambda out: ["train", "mini", "--out", out, *options(training)],
            is_training=True,
        ),
        Command(
            "pretrain-clip",
            lambda out: None,
            lambda out: ["pretrain-clip", "--out", out, "--device", "cpu", *tiny],
            is_training=True,
        ),
        Command(
            "evaluate",
            lambda out: None,
            lambda out: ["evaluate", "folder", "--out", out, *options(measured)],
        ),
        Command(
            "prepare",
            lambda out: _copy(voc, out),
            lambda out: ["data", "prepare", "pc459", out, "--workers", 1],
        ),
        Command(
            "segment",
            lambda out: None,
            lambda out: [
                *("segment", pictures, "--out", out, "--skip-existing", "--device", "cpu"),
                *options(segmenting),
            ],
        ),
    ]


def _copy(source: Path, out: Path) -> None:
    shutil.copytree(source, out, dirs_exist_ok=True)


def draw_pictures(folder: Path, count: int = 6) -> Path:
    """Draw scenes as pictures, no two of one shape to the model.

    Those of one shape go through it together. After an interruption fewer do, and then the last
    digit of a score may be another.
    """
    folder.mkdir()
    for index in range(count):
        scene = np.asarray(render(2, index, 48).image)
        Image.fromarray(scene[: 48 - 5 * index]).save(folder / f"{index}.png")
    return folder


def build_voc(root: Path, copies: int = 6) -> Path:
    """Build a `pc459` in which one image has several names."""
    import miniatures

    names = [*miniatures.build("pc459", root)]
    voc = root / "VOCdevkit" / "VOC2010"
    for number in range(copies):
        name = f"2010_00{number:04d}"
        for folder, suffix in (("JPEGImages", ".jpg"), ("trainval", ".mat")):
            shutil.copy(voc / folder / f"{names[0]}{suffix}", voc / folder / f"{name}{suffix}")
        names.append(name)
    (voc / "pascalcontext_val.txt").write_text("\n".join(names))
    return root
