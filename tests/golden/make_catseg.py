"""Thin a golden set of the baseline's published code, so that it fits into the repository.

`python tests/golden/make_catseg.py FOLDER NAME` writes tests/golden/catseg/NAME: every fourth row
and column of the set in FOLDER, or every fourth token, and the inputs and gradients as they are.
The numbers are those of the published code (cvlab-kaist/CAT-Seg, commit 6d3a188), computed with
random weights on a random picture, not this project's.
"""

import json
import shutil
import sys
from pathlib import Path

from comparison import split_name
from safetensors.torch import load_file, save_file
from torch import Tensor

TARGET = Path(__file__).with_name("catseg")
THINNER = 4
# what is small, or what only makes sense as a whole
WHOLE = ("in.", "train.", ".text.", "text_guidance", "argmax", "margin", "keep", "scores_max")


def thin(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Return a tensor with fewer rows and columns, or fewer tokens, and the name that says so."""
    if any(part in name for part in WHOLE) or value.dim() < 2:
        return name, value
    stem, step = split_name(name)
    taken = value[..., ::THINNER, :] if ".vis." in name else value[..., ::THINNER, ::THINNER]
    return f"{stem}_s{THINNER * step}", taken.contiguous()


def main(source: Path, target: Path) -> None:
    """Write the thinned set."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = load_file(source / "io.safetensors")
    save_file(dict(thin(*item) for item in tensors.items()), target / "io.safetensors")
    shutil.copyfile(source / "weights.safetensors", target / "weights.safetensors")
    meta = json.loads((source / "meta.json").read_text())
    # of every parameter; the gradients of some are in io.safetensors
    meta.pop("train.grad_norm", None)
    (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), TARGET / sys.argv[2])
