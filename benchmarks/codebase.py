"""Measure the source code itself: its size, how far a change reaches, and how it is written.

`python benchmarks/codebase.py [CHECKOUT ...]` prints a Markdown table with one column per checkout
(default: this one). With a worktree of an older commit beside it, the table shows before and after.
What is counted:

- files, lines: every `.py` file below `disa/`; "at 100 columns" is a copy after
  `ruff format --line-length 100`, so that differently formatted commits compare. All other rows
  count lines of this copy, except for the share of lines that are too long, comments and
  docstrings included.
- files on a trip: the files below `disa/` of which at least one function body ran, from
  `python -m disa ...` to its end, on any thread of that process. Module and class bodies do not
  count, nor does what runs while a module is imported; a file of plain records is therefore left
  out. The lines are those of the whole files. Trips run on pictures of a few pixels.
- lines / files of a parameter: lines that contain the name as a whole word, in code, comment or
  string, and the files that have such lines.
- own-line comments: lines that hold nothing but a comment, as a share of all lines.
- circles: groups of modules in one room that import each other, directly or by way of others in
  the room. A room is a package directly below `disa/`; imports inside functions count.
"""

import argparse
import ast
import inspect
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

COLUMNS = 100
# the twelve whose spread over the files was complained about, in 2026-11
PARAMETERS = (
    "backbone_image_size",
    "disentangle",
    "overlap",
    "max_pixels",
    "recompute",
    "saliency_split",
    "backbone_templates",
    "micro_batch",
    "backbone_finetune",
    "max_categories",
    "refine_padding",
    "protocol",
)
SHOWN_PARAMETERS = ("backbone_image_size", "overlap", "protocol", "saliency_split")
TRIPS = {
    "image: `disa segment`": "segment picture.png --labels cat --out segmented --saliency",
    "step: `disa train`": "train mini --clip clip --out trained --steps 1 --batch 1 --seed 0 "
    "--set workers=0 --set evaluate_images=0 --set precision=fp32",
    "benchmark: `disa evaluate`": "evaluate folder --data photographs --out evaluated --limit 2",
    "benchmark: `disa evaluate picturebook`": "evaluate picturebook --limit 2",
}
LISTED = "list of files, "  # rows that are no part of the table
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")

Sources = dict[str, str]  # the text of each file by its path below the checkout


def main() -> None:
    """Print the table, or follow one command if this is the process of a trip."""
    parser = argparse.ArgumentParser(description="Measure the source code of checkouts.")
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--list", action="store_true", help="list the files of each trip, too")
    parser.add_argument("--trace", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trace:
        report, *command = arguments.trace
        return trace(Path(report), command)

    columns = [measure(checkout.resolve()) for checkout in arguments.checkouts]
    titles = [f"{checkout.resolve().name} ({commit(checkout)})" for checkout in arguments.checkouts]
    print_row(["", *titles])
    print_row(["---"] * (len(titles) + 1))
    for name in columns[0]:
        if not name.startswith(LISTED):
            print_row([name, *(column[name] for column in columns)])
    if arguments.list:
        for title, column in zip(titles, columns, strict=True):
            for trip in TRIPS:
                print(f"\n{title}, {trip}:\n{column[LISTED + trip]}")


def print_row(cells: Iterable[str]) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(cells) + " |")


def commit(checkout: Path) -> str:
    """Return the short hash of the checkout's commit, with a + where files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=7", "--dirty=+"]
    done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    return done.stdout.strip() or "no commit"


def measure(checkout: Path) -> dict[str, str]:
    """Return the rows of one checkout's column. Raises `CalledProcessError` where a trip fails."""
    as_written = read_sources(checkout)
    formatted = format_sources(checkout)
    lines = count_lines(formatted)
    rows = {
        "files": f"{len(formatted)}",
        "lines": f"{count_lines(as_written):,}",
        f"lines at {COLUMNS} columns": f"{lines:,}",
    }

    for trip, command in TRIPS.items():
        touched = follow(checkout, command.split())
        rows[LISTED + trip] = "\n".join(touched)
        trip_lines = count_lines({path: formatted[path] for path in touched})
        rows[f"files / lines on a trip, {trip}"] = f"{len(touched)} / {trip_lines:,}"

    spread = {name: mentions(name, formatted) for name in PARAMETERS}
    for name in SHOWN_PARAMETERS:
        rows[f"lines / files of `{name}`"] = "{} / {}".format(*spread[name])
    middle = [median(counts) for counts in zip(*spread.values(), strict=True)]
    rows["median of twelve parameters, lines / files"] = f"{middle[0]:g} / {middle[1]:g}"

    rows["own-line comments"] = f"{count_comments(formatted) / lines:.1%}"
    rows[f"lines longer than {COLUMNS} columns"] = f"{share_too_long(as_written):.1%}"
    circles = find_circles(checkout)
    rows["circles in rooms"] = str(len(circles))
    rows["modules in circles"] = "; ".join(", ".join(circle) for circle in circles) or "-"
    longest = sorted(functions(formatted), reverse=True)[:5]
    rows["longest functions, lines"] = ", ".join(f"{name} {length}" for length, name in longest)
    return rows


# ---- size and style ----


def read_sources(checkout: Path) -> Sources:
    """Return the text of every Python file of the package."""
    paths = sorted((checkout / "disa").rglob("*.py"))
    return {str(path.relative_to(checkout)): path.read_text() for path in paths}


def format_sources(checkout: Path) -> Sources:
    """Return the same for a copy formatted at `COLUMNS`, whatever the checkout's own settings."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(checkout / "disa", Path(folder, "disa"))
        ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--quiet"]
        subprocess.run([*ruff, "--line-length", str(COLUMNS), folder], check=True)
        return read_sources(Path(folder))


def count_lines(sources: Sources) -> int:
    """Return the number of lines, blank ones included."""
    return sum(len(text.splitlines()) for text in sources.values())


def mentions(name: str, sources: Sources) -> tuple[int, int]:
    """Return how many lines hold the name as a whole word, and how many files have such lines."""
    word = re.compile(rf"\b{name}\b")
    lines_of_files = [
        sum(bool(word.search(line)) for line in text.splitlines()) for text in sources.values()
    ]
    return sum(lines_of_files), sum(count > 0 for count in lines_of_files)


def count_comments(sources: Sources) -> int:
    """Return the number of lines that hold nothing but a comment."""
    return sum(
        token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
        for text in sources.values()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


def share_too_long(sources: Sources) -> float:
    """Return the share of lines beyond `COLUMNS`."""
    lengths = [len(line) for text in sources.values() for line in text.splitlines()]
    return sum(length > COLUMNS for length in lengths) / len(lengths)


def functions(sources: Sources) -> Iterator[tuple[int, str]]:
    """Yield the length in lines and the name (`file:function`) of every function."""
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                name = f"{path.removeprefix('disa/')}:{node.name}"
                yield node.end_lineno - node.lineno + 1, name


# ---- circles ----


def find_circles(checkout: Path) -> list[list[str]]:
    """Return the groups of modules in one room that import each other, directly or not."""
    # a process of its own, since the checkout's package may not be the one that is installed
    code = (
        "import grimp, json; graph = grimp.build_graph('disa', cache_dir=None); "
        "print(json.dumps({m: sorted(graph.find_modules_directly_imported_by(m)) "
        "for m in sorted(graph.modules)}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(checkout),
        cwd=checkout,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    imports: dict[str, list[str]] = json.loads(answer.stdout)
    circles = []
    for _, members in groupby(imports, key=lambda module: module.split(".")[:2]):
        room = list(members)
        inside = {module: [other for other in imports[module] if other in room] for module in room}
        circles += mutual(inside)
    return [[module.removeprefix("disa.") for module in circle] for circle in circles]


def mutual(imports: dict[str, list[str]]) -> list[list[str]]:
    """Return the groups of at least two modules in which each reaches all others."""
    reached = {module: reach(module, imports) for module in imports}
    groups = {
        tuple(other for other in imports if other in reached[module] and module in reached[other])
        for module in imports
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]


def reach(module: str, imports: dict[str, list[str]]) -> set[str]:
    """Return the module and all that it imports, directly or by way of others."""
    reached = {module}
    waiting = [module]
    while waiting:
        new = set(imports[waiting.pop()]) - reached
        reached |= new
        waiting += new
    return reached


# ---- trips ----


def environment(checkout: Path) -> dict[str, str]:
    """Return the environment in which `import disa` finds the checkout."""
    return os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}


def follow(checkout: Path, command: list[str]) -> list[str]:
    """Run `disa COMMAND` of the checkout among small inputs; return the files that it touched."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        report = folder / "touched.json"
        traced = [sys.executable, str(Path(__file__).resolve()), "--trace", str(report), *command]
        done = subprocess.run(
            traced, cwd=folder, env=environment(checkout), capture_output=True, text=True
        )
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            done.check_returncode()
        return [str(Path(path).relative_to(checkout)) for path in json.loads(report.read_text())]


def write_inputs(folder: Path) -> None:
    """Write what the commands of `TRIPS` read: a picture, two photographs with masks, a CLIP."""
    import numpy as np
    from PIL import Image
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils.logging import disable_progress_bar

    generator = np.random.default_rng(0)
    for place in ("images", "masks"):
        (folder / "photographs" / place).mkdir(parents=True)
    for name in ("one", "two"):
        image = Image.fromarray(generator.integers(0, 256, (64, 96, 3), np.uint8))
        image.save(folder / "photographs" / "images" / f"{name}.png")
        mask = Image.fromarray(generator.integers(0, 2, (64, 96), np.uint8))
        mask.save(folder / "photographs" / "masks" / f"{name}.png")
    (folder / "photographs" / "classes.txt").write_text("cat\nsea\n")
    image.save(folder / "picture.png")

    # an untrained CLIP of the bundled model's sizes, with its tokenizer
    disable_progress_bar()
    bundled = Path(__file__).parents[1] / "disa" / "weights" / "mini"
    config: dict[str, Any] = json.loads((bundled / "config.json").read_text())
    CLIPModel(CLIPConfig(**config["model"]["backbone_clip"])).save_pretrained(folder / "clip")
    for path in bundled.glob("tokenizer*.json"):
        shutil.copy(path, folder / "clip")


def trace(report: Path, command: list[str]) -> None:
    """Run `python -m disa COMMAND` here, and write the files whose functions ran to `report`."""
    import disa

    package = str(Path(disa.__file__).parent)
    recorder = Recorder(package)
    sys.argv = ["disa", *command]
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        runpy.run_module("disa", run_name="__main__", alter_sys=False)
    finally:
        sys.setprofile(None)
        report.write_text(json.dumps(sorted(recorder.files)))


class Recorder:
    """A profile function that notes the files of a package whose functions are called."""

    def __init__(self, package: str) -> None:
        self.package = package + os.sep
        self.files: set[str] = set()
        self.importing = threading.local()  # how many module bodies this thread is in

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Note one event. The interpreter calls this for every call and every return."""
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(self.package):
            return
        depth: int = getattr(self.importing, "depth", 0)
        # `python -m disa` is no import, although it runs a module body
        if code.co_name == "<module>" and not code.co_filename.endswith("__main__.py"):
            self.importing.depth = depth + (1 if event == "call" else -1)
            return
        is_function = bool(code.co_flags & inspect.CO_OPTIMIZED)  # a class body lacks this flag
        if depth == 0 and is_function and code.co_name not in COMPREHENSIONS:
            self.files.add(code.co_filename)


if __name__ == "__main__":
    main()
