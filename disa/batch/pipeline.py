"""`disa segment --on ray`: pictures by the million, on the actors of a cluster (decision D157).

The driver names the results, as `disa segment` does, and hands out what has none; workers, which
are Ray's actors, read, segment and write. A worker that dies is started again, and gets its
pictures again but for those that have results by then. So nothing is lost, and nothing done twice.
"""

import csv
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disa.batch.cluster import Actors, Cluster
from disa.batch.connection import connected, ray_module
from disa.batch.worker import Answer, Task, Trials, Worker
from disa.data.images import Reading
from disa.errors import DisaError
from disa.inference.request import Query, parse_query
from disa.inference.result_names import (
    as_json_has_it,
    has_results,
    keep_apart,
    own_name,
    result_names,
)
from disa.inference.segmentation import Saving
from disa.inference.segmenter import load
from disa.running.files import at_home, prepare_folder, write_text
from disa.running.terminal import Report

if TYPE_CHECKING:  # it imports fsspec and pyarrow, which come with an extra
    from disa.batch.pictures import Unit

FAILED = "failed.csv"  # the pictures without results, and why
MOST_BLOCKS = 10_000  # of units that the driver keeps an eye on


@dataclass
class Tally:
    """What a run on a cluster did."""

    pictures: int = 0  # that were named
    asked: int = 0  # of these, the ones without results
    failed: dict[str, str] = field(default_factory=dict)  # picture -> why it has none
    notes: list[str] = field(default_factory=list)
    unread: str = ""  # what else was left out, with the remedy
    actors: int = 0
    seconds: float = 0.0  # on the actors, which load the model first

    @property
    def done(self) -> int:
        """Pictures that were segmented."""
        return self.asked - len(self.failed)


def segment_on_ray(  # noqa: PLR0913 (what, how, where)
    images: str | Sequence[str],
    labels: str | Sequence[str] | Query | Mapping[str, Query],
    out: str | os.PathLike[str] | Saving,
    *,
    model: str = "mini",
    cluster: Cluster = Cluster(),  # noqa: B008 (frozen)
    recursive: bool = False,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    reserved: Iterable[str] = (),
    report: Report | None = None,
    **loading: Any,
) -> Tally:
    """Segment pictures on the actors of a Ray cluster; write the files of `disa segment`.

        tally = segment_on_ray("s3://bucket/trip", "sea, sky", "/shared/out", model="cat-seg-b")

    images: files, folders and globs; addresses of any file system that fsspec knows; and tables
    (NAME.parquet), whose column `path` names pictures, and whose column `bytes` holds their files.
    labels: as of a segmenter's call; a parsed `Query`; or these by the folders of their results.
    out: a folder that all machines see under this name, or a `Saving`, which says what is written.
    model: as of `disa.load`; `loading` are its `max_memory` and, by its name ("bf16"), its `dtype`.
    recursive, reading: which pictures of folders, and how they are read.
    reserved: names that no result gets.
    report: is told how many pictures are done, of how many, and at which rate.

    A picture with results is left out, whatever made them: the same call goes on after any end.
    One that cannot be segmented stops nothing: OUT/failed.csv has its path and the reason. Without
    a Ray that runs in this process, the cluster is connected to, or started, and left at the end.
    Raises `DisaError` for what suits no picture, a cluster that cannot be reached or has no place
    for an actor, a disk that refuses, and if Ray, an extra, is not installed.
    """
    queries = labels if isinstance(labels, Mapping) else {"": _query(labels)}
    saving = out if isinstance(out, Saving) else Saving(at_home(out))
    cluster.check()
    ray = ray_module()

    from disa.batch.pictures import find_pictures

    pictures = find_pictures([images] if isinstance(images, str) else images, recursive)
    folders = [saving.out / folder for folder in queries]
    names = _names(pictures.paths, saving.out, folders, reserved)
    asked = {path for path, name in names.items() if not has_results(folders, name)}
    tally = Tally(len(names), len(asked), notes=pictures.notes, unread=pictures.unread)
    for path in names:
        if path in asked and as_json_has_it(path) != path:
            tally.failed[path] = "its name is no UTF-8 text, as tables need it; rename it"
            asked.remove(path)

    with _failures(saving.out / FAILED, tally):
        if not asked:
            return tally
        _check_model(model, queries.values())
        # Most names follow from the path alone.
        renamed = {path: name for path, name in names.items() if name != own_name(Path(path))}
        with connected(ray, cluster.ray_address):
            actors = cluster.actors_on(ray.cluster_resources())
            tally.actors = actors.most
            device = "cuda" if actors.gpus else "cpu"
            place = str(Path.cwd())
            task = Task(model, device, loading, queries, saving, reading, renamed, place)
            # Of few pictures, every worker gets some.
            batch = min(cluster.batch, -(-len(asked) // actors.most))
            units = list(pictures.units(asked, batch))
            _collect(_answers(ray, units, task, actors), asked, tally, report)
    return tally


def _names(
    paths: Sequence[str], out: Path, folders: Sequence[Path], reserved: Iterable[str]
) -> dict[str, str]:
    """Prepare the folders; return the name of each picture's results."""
    files = [Path(path) for path in paths]
    keep_apart(files, out)
    for folder in (out, *folders):
        prepare_folder(folder)
    return dict(zip(paths, result_names(files, folders, reserved), strict=True))


def _check_model(model: str, queries: Iterable[Query]) -> None:
    """Raise `DisaError` for what the model refuses, which is no picture's fault.

    Published weights are fetched here, once.
    """
    segmenter = load(model, "cpu")
    for query in queries:
        segmenter.embed(query)


def _query(labels: str | Sequence[str] | Query) -> Query:
    return labels if isinstance(labels, Query) else parse_query(labels)


def _answers(ray: Any, units: Sequence["Unit"], task: Task, actors: Actors) -> Iterator[Answer]:
    """Yield what workers say of the pictures, in the order of their ends."""
    trials = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Trials).remote()
    rows = [unit._asdict() for unit in units]
    answered = ray.data.from_items(
        rows, override_num_blocks=min(len(rows), MOST_BLOCKS)
    ).map_batches(
        Worker,
        fn_constructor_args=(task, trials),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=actors.fewest, max_size=actors.most),
        num_cpus=actors.cpus,
        num_gpus=actors.gpus,
    )
    # It would say at length what it does.
    answered.context.enable_progress_bars = False
    answered.context.print_on_execution_start = False
    for row in answered.iter_rows():
        yield Answer(**row)


def _collect(
    answers: Iterator[Answer], asked: set[str], tally: Tally, report: Report | None
) -> None:
    """Note what became of the pictures. Raises `DisaError` where none can have results."""
    begin = time.monotonic()
    left = set(asked)
    for answer in answers:
        if answer.is_end:
            raise DisaError(answer.error)
        left.remove(answer.path)
        tally.notes += answer.notes.splitlines()
        if answer.error:
            tally.failed[answer.path] = answer.error
        tally.seconds = time.monotonic() - begin
        if report is not None:
            done = len(asked) - len(left)
            report(done, len(asked), f"{done / tally.seconds:.2f} a second")
    tally.failed |= dict.fromkeys(left, "no worker has answered; run the command again")


@contextmanager
def _failures(path: Path, tally: Tally) -> Iterator[None]:
    """Write the table of failures at the end, however it comes."""
    try:
        yield
    finally:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file", "reason"])
        for picture, reason in tally.failed.items():
            rows.writerow([as_json_has_it(picture), reason])
        path.unlink(missing_ok=True)
        if tally.failed:
            write_text(path, text.getvalue())
