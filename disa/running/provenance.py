"""Where a number comes from: weights, command, versions, commit, date, machine."""

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


def provenance(model: str, path: Path) -> dict[str, Any]:
    """Return what makes numbers repeatable; the commit is None outside a checkout."""
    return {"model": model, "weights_sha256": weights_sha256(path)} | code_and_machine()


def code_and_machine() -> dict[str, Any]:
    """Return which command of which code ran where and when."""
    return {
        "command": ["disa", *sys.argv[1:]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "pillow")}
        | {"python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def weights_sha256(model: Path) -> str:
    """Return the checksum of a model's weights, as `sha256sum` prints it for a single file.

    Weights in several files are known by the checksum of their checksums, a line each, by file
    name.
    """
    whole = [model, model / "model.safetensors", model / "pytorch_model.bin"]
    if file := next((path for path in whole if path.is_file()), None):
        return file_sha256(file)
    parts = sorted((*model.glob("*.safetensors"), *model.glob("*.bin")))
    return hashlib.sha256("".join(f"{file_sha256(part)}\n" for part in parts).encode()).hexdigest()


@cache
def commit() -> str | None:
    """Return the checkout's commit, with a + if files have changed since.

    None for an installed package.
    """
    here = Path(__file__).parent
    try:
        asked = [
            ["rev-parse", "HEAD"],
            ["status", "--porcelain", "--untracked-files=no", "--", str(here.parent)],
        ]
        head, changes = (
            subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changes else "")
