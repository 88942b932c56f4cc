"""What a process that goes on and on holds: memory and open files, its workers' included.

Growth is that of the straight line through the last quarter, when caches are full, over a day at
the measured pace. Linux tells these numbers in /proc; nothing else does.

python benchmarks/long_run.py calls --count 10000      the same picture, asked for new labels
python benchmarks/long_run.py pictures --count 10000   what `disa segment FOLDER` does
"""

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

import disa
from disa.data.images import Reading
from disa.inference.folder import segment_files
from disa.inference.request import Job, parse_query
from disa.inference.segmentation import Saving
from disa.picturebook import NOUNS, TEST_SEED, render

DAY = 24 * 3600
SAMPLES = 100
DRAWN = 100  # different pictures; the others are links to these
SIDE = 96


class Sample(NamedTuple):
    """What is held after so many calls or pictures."""

    done: int
    seconds: float
    memory: float  # bytes
    files: int  # descriptors


def main() -> None:
    """Print a JSON line for each hundredth of the run, and the growth at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("calls", "pictures"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = disa.load(asked.model, "cpu")

    with TemporaryDirectory() as folder:
        if asked.kind == "calls":
            work = calls(segmenter, asked.count)
        else:
            work = pictures(segmenter, asked.count, Path(folder), asked.workers)
        samples = list(sampled(work, max(1, asked.count // SAMPLES)))

    last = samples[-1]
    pace = last.done / last.seconds
    later = samples[3 * len(samples) // 4 :]
    slope, _ = np.polyfit([each.done for each in later], [each.memory for each in later], 1)
    row = {
        "kind": asked.kind,
        "done": last.done,
        "per_second": round(pace, 2),
        "memory_mb": [round(each.memory / 1e6) for each in samples[:: SAMPLES // 10]],
        "most_files": max(each.files for each in later),
        "growth_mb_a_day": round(slope * pace * DAY / 1e6, 1),
    }
    print(json.dumps(row))


def calls(segmenter: disa.Segmenter, count: int) -> Iterator[None]:
    """Ask for six labels that nobody asked for before, again and again."""
    picture = render(TEST_SEED, 0, SIDE).image
    for index in range(count):
        segmenter(picture, [f"{noun} number {index}" for noun in NOUNS[:6]])
        yield


def pictures(segmenter: disa.Segmenter, count: int, folder: Path, workers: int) -> Iterator[None]:
    """Segment a folder of so many pictures, with all results written."""
    jobs = []
    for index in range(count):
        file = folder / f"{index}.png"
        if index < DRAWN:
            Image.fromarray(render(TEST_SEED, index, SIDE).image).save(file)
        else:
            os.link(folder / f"{index % DRAWN}.png", file)
        jobs.append(Job(file, file.stem))
    queries = {"": parse_query(list(NOUNS))}
    for _ in segment_files(segmenter, jobs, queries, Saving(folder / "out"), workers, Reading()):
        yield


def sampled(work: Iterable[None], every: int) -> Iterator[Sample]:
    """Do the work; print and yield what is held, every so often."""
    begun = time.monotonic()
    for done, _ in enumerate(work, 1):
        if done % every == 0:
            processes = [os.getpid(), *children(os.getpid())]
            memory = sum(map(resident, processes))
            files = sum(map(open_files, processes))
            sample = Sample(done, time.monotonic() - begun, memory, files)
            print(json.dumps(sample._asdict()), flush=True)
            yield sample


def children(process: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def resident(process: int) -> float:
    """Return the bytes of memory that a process holds."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(process: int) -> int:
    """Return how many descriptors a process holds."""
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


if __name__ == "__main__":
    main()
