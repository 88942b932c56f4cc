"""Write tests/golden/catseg: every fourth row and column of a golden set of the baseline's published code.

`python tests/golden/make_catseg.py FOLDER` thins out the set in FOLDER. The numbers are those of the published code
(cvlab-kaist/CAT-Seg, commit 6d3a188), computed with random weights on a random picture, not this project's.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

TARGET = Path(__file__).with_name("catseg")
THINNER = 4
WHOLE = ("in.", ".text.", "text_guidance", "argmax", "margin", "keep", "scores_max")


def thinned(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Return the tensor with fewer rows and columns (of token tensors: fewer tokens), and the name that says so."""
    if any(part in name for part in WHOLE) or value.dim() < 2:
        return name, value
    stem, step = re.fullmatch(r"(.*?)(?:_s(\d+))?", name).groups()
    taken = value[..., ::THINNER, :] if ".vis." in name else value[..., ::THINNER, ::THINNER]
    return f"{stem}_s{THINNER * int(step or 1)}", taken.contiguous()


if __name__ == "__main__":
    source = Path(sys.argv[1])
    tensors = {
        name: value
        for name, value in load_file(source / "io.safetensors").items()
        if "train.grad" not in name
    }
    keep = {name: value for name, value in tensors.items() if name.startswith("train.")}
    rest = dict(thinned(name, value) for name, value in tensors.items() if name not in keep)
    TARGET.mkdir(exist_ok=True)
    save_file(keep | rest, TARGET / "io.safetensors")
    shutil.copyfile(source / "weights.safetensors", TARGET / "weights.safetensors")
    meta = {
        name: value
        for name, value in json.loads((source / "meta.json").read_text()).items()
        if "grad" not in name
    }
    (TARGET / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
