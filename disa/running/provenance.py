"""Where a number comes from: weights, command, versions, commit, date and machine."""

import hashlib
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from disa.running.files import file_sha256

LIBRARIES = ("torch", "transformers", "numpy", "pillow")


def code_and_machine() -> dict[str, Any]:
    """Return which command of which code ran where and when."""
    versions = {name: version(name) for name in LIBRARIES}
    program = Path(sys.argv[0])
    is_script = program.suffix == ".py" and program.stem != "__main__"
    command = ["python", str(program)] if is_script else ["disa"]
    return {
        "command": [*command, *sys.argv[1:]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions | {"python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def weights_sha256(model: Path) -> str:
    """Return the checksum of a model's weights, as `sha256sum` prints it for a single file.

    For weights in several files it is the checksum of their checksums, a line each, by file name.
    """
    # `model` is itself a file where it is OpenAI's .pt.
    for path in (model, model / "model.safetensors", model / "pytorch_model.bin"):
        if path.is_file():
            return file_sha256(path)
    # Large models come in parts, and sorting makes the checksum the same on every machine.
    endings = ("safetensors", "bin", "onnx", "onnx.data", "pt2")
    parts = sorted(part for ending in endings for part in model.glob(f"*.{ending}"))
    return hashlib.sha256("".join(f"{file_sha256(part)}\n" for part in parts).encode()).hexdigest()


# Asked for once: a commit that is made later is not the code that this process has read.
@cache
def commit() -> str | None:
    """Return the checkout's commit, with a + if files have changed since.

    None for a package that is installed without its repository.
    """
    package = Path(__file__).parents[1]
    try:
        head = _git(package, "rev-parse", "HEAD")
        changes = _git(package, "status", "--porcelain", "--untracked-files=no", "--", str(package))
    except (OSError, subprocess.CalledProcessError):
        # No git here, or no repository around the package.
        return None
    return f"{head}+" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
