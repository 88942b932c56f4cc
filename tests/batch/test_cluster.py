"""`disa segment --on ray` beside plain `disa segment`: the same files, also when workers die."""

import csv
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command_line import Result, invoke
from hypothesis import given
from hypothesis import strategies as st
from mortal import POISON, MortalWorker
from PIL import Image
from pyarrow import parquet
from refusals import refused

from disa.batch import pipeline
from disa.batch.cluster import Cluster
from disa.batch.pictures import Unit, find_pictures
from disa.batch.pipeline import FAILED, segment_on_ray
from disa.batch.worker import Task, Worker
from disa.data.images import Reading
from disa.inference.request import parse_query
from disa.inference.segmentation import Saving

LABELS = "house, sea|ocean, grass"
MEMORY = 80 * 2**20  # of Ray's store: the smallest that it takes


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine, with place for two workers; its start is most of these tests' time."""
    import ray

    # Its processes find the modules that this one does.
    variables = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DISA_CACHE": str(tmp_path_factory.getbasetemp() / "cache"),
    }
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        object_store_memory=MEMORY,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of different shapes, each of which goes through the model alone; one is damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    for number in range(10):
        place = folder if number < 8 else folder / "more"
        shape = (30, 31 + 7 * number, 3)
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(place / f"p{number % 8}.png")
    (folder / "damaged.png").write_bytes((folder / "p3.png").read_bytes()[:200])
    return folder


def segment(model: Path, out: Path, *words: object) -> Result:
    options = ["-l", LABELS, "--model", model, "-o", out, "--recursive", "--no-overlay"]
    return invoke("segment", *words, *options)


def failures(out: Path) -> dict[str, str]:
    with (out / FAILED).open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def assert_same(out: Path, expected: Path) -> None:
    """Compare results: the same files, label maps to the byte, JSON but for last digits."""
    names = {path.name for path in expected.glob("*.*")}
    assert names == {path.name for path in out.glob("*.*")} - {FAILED}
    for name in names - {"segment.yaml"}:
        if name.endswith(".png"):
            assert (out / name).read_bytes() == (expected / name).read_bytes(), name
        else:
            found, other = (json.loads((each / name).read_text()) for each in (out, expected))
            words, others = found.pop("words"), other.pop("words")
            assert Path(found.pop("image")).name == Path(other.pop("image")).name
            assert found == other
            assert [word["area"] for word in words] == [word["area"] for word in others]
            for word, wanted in zip(words, others, strict=True):
                assert word["mean_score"] == pytest.approx(wanted["mean_score"], rel=1e-5)


def worker_pids() -> list[int]:
    """Return the processes of this machine that Ray shows as its data sets' workers."""
    pids = []
    for place in Path("/proc").iterdir():
        try:
            if b"ray::MapWorker" in (place / "cmdline").read_bytes():
                pids.append(int(place.name))
        except (OSError, ValueError):
            continue
    return pids


@pytest.mark.slow
def test_workers_die_and_nothing_is_lost_or_done_twice(
    ray: Any, folder: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "Worker", MortalWorker)
    out = tmp_path / "out"
    written: dict[Path, int] = {}

    def kill_one(done: int, total: int, remark: str) -> None:
        if not written:
            written.update({path: path.stat().st_mtime_ns for path in out.glob("*.json")})
            os.kill(worker_pids()[0], signal.SIGKILL)

    tally = segment_on_ray(
        str(folder),
        LABELS,
        Saving(out, overlay=False),
        model=str(model_folder),
        cluster=Cluster(actors=2, batch=3),
        recursive=True,
        report=kill_one,
    )
    poison = str(folder / POISON)
    damaged = str(folder / "damaged.png")
    assert (tally.pictures, tally.asked, tally.done) == (11, 11, 9)
    assert tally.failed.keys() == {damaged, poison}
    assert written
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time, "what was there is written again"
    assert failures(out) == tally.failed
    assert not list(out.glob(".*"))

    # The same command goes on; what killed a worker is tried again, and lives.
    monkeypatch.undo()
    done = segment(model_folder, out, folder, "--on", "ray", "--actors", 1)
    assert done.exit_code == 1, done.output
    assert "1 of 2 pictures segmented" in done.stdout
    assert "9 were there" in done.stdout
    assert failures(out).keys() == {damaged}
    assert segment(model_folder, tmp_path / "plain", folder, "--device", "cpu").exit_code == 1
    assert_same(out, tmp_path / "plain")


@pytest.mark.slow
def test_addresses_and_tables_give_what_files_do(
    ray: Any, folder: Path, tmp_path: Path, model_folder: Path
):
    files = sorted(folder.glob("p*.png"))
    held = {"path": [f"held/{file.name}" for file in files[3:]] + ["held/none.png"]}
    held["bytes"] = [file.read_bytes() for file in files[3:]] + [b""]
    parquet.write_table(pa.table(held), tmp_path / "held.parquet", row_group_size=2)
    paths = [str(files[0]), f"file://{files[1]}", "file:///none/p9.png"]
    parquet.write_table(pa.table({"path": paths}), tmp_path / "paths.parquet")
    images = [f"file://{folder}/more", tmp_path / "paths.parquet", f"file://{tmp_path}/h*.parquet"]

    out = tmp_path / "out"
    options = ["--format", "coco,parquet", "--on", "ray", "--actors", 2, "--batch", 2]
    done = segment(model_folder, out, *images, *options)
    assert done.exit_code == 1, done.output
    assert "9 of 11 pictures segmented" in done.stdout
    assert failures(out).keys() == {"file:///none/p9.png", "held/none.png"}
    # Pictures of one name are numbered as everywhere, in the order of the arguments.
    own = [folder / "more", *files[:2], *files[3:]]
    segment(model_folder, tmp_path / "plain", *own, "--device", "cpu")
    assert_same(out, tmp_path / "plain")
    sources = {path.stem: json.loads(path.read_text())["image"] for path in out.glob("p*.json")}
    assert sources["p0"] == f"file://{folder}/more/p0.png"
    assert sources["p0-2"] == paths[0]
    assert sources["p1-2"] == paths[1]
    assert sources["p3"] == "held/p3.png"

    rows = parquet.read_table(out / "parquet").to_pylist()
    assert {row["name"] for row in rows} == sources.keys()
    assert len(json.loads((out / "coco/annotations.json").read_text())["images"]) == 9


@given(
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 8),
    share=st.sampled_from([None, 0.0, 0.1, 0.25, 1.0, 2.0]),
    threads=st.integers(1, 8),
    count=st.none() | st.integers(1, 100),
)
def test_actors_fit_into_the_cluster(
    cpus: int, gpus: int, share: float | None, threads: int, count: int | None
):
    cluster = Cluster(actors=count, actor_gpus=share, actor_cpus=threads)
    cluster.check()
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    part = (1.0 if gpus else 0.0) if share is None else share
    if threads > cpus or part > gpus:
        with refused(f"{cpus} CPUs", f"{gpus} GPUs"):
            cluster.actors_on(resources)
        return
    actors = cluster.actors_on(resources)
    assert 1 <= actors.fewest <= actors.most == (count or actors.fewest)
    assert actors.fewest * threads <= cpus
    assert actors.fewest * part <= gpus + 1e-6


def test_pictures_that_are_none_are_refused(tmp_path: Path):
    def table(name: str, **columns: list) -> str:
        parquet.write_table(pa.table(columns), tmp_path / name)
        return str(tmp_path / name)

    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    for name, *facts in (
        ("nosuch://bucket/a.png", "nosuch"),
        (f"file://{tmp_path}/*.png", "no picture"),
        (f"{tmp_path}/*.none.parquet", "matches no file"),
        (str(tmp_path / "damaged.parquet"), "damaged.parquet"),
        (str(tmp_path / "none.parquet"), "none.parquet"),
        (table("columns.parquet", file=["a.png"]), "path", "file"),
        (table("empty.parquet", path=["a.png", None]), "empty.parquet"),
        (table("twice.parquet", path=["a.png", "a.png"], bytes=[b"1", b"2"]), "a.png"),
    ):
        with refused(*facts):
            find_pictures([name])


def test_a_worker_tells_what_no_other_picture_can_mend(
    folder: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Worker, "_begin", lambda *_: 1)  # without Ray nobody counts
    unit = pa.Table.from_pylist([Unit([str(folder / "p0.png"), str(folder / "p1.png")])._asdict()])
    queries = {"": parse_query(LABELS)}

    def answers(model: object, place: Path) -> dict[str, list]:
        saving = Saving(tmp_path, overlay=False)
        task = Task(str(model), "cpu", {}, queries, saving, Reading(), {}, str(place))
        return Worker(task, None)(unit)

    there = Path.cwd()
    assert answers(model_folder, there)["is_end"] == [False, False]
    for path in tmp_path.glob("p1*"):
        path.unlink()
    (tmp_path / "p1_labels.png" / "full").mkdir(parents=True)
    found = answers(model_folder, there)
    assert found["path"] == [str(folder / "p0.png"), ""]
    assert found["is_end"] == [False, True]
    assert "p1_labels.png" in found["error"][1]
    for model, place in ((tmp_path / "none", there), (model_folder, tmp_path / "none")):
        found = answers(model, place)
        assert found["is_end"] == [True]
        assert str(tmp_path / "none") in found["error"][0]


def test_mistakes_are_one_line(
    folder: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    segment(model_folder, out, folder, "--actors", 2).fails("--actors", "--on ray")
    for words, fact in (
        ([folder, "--workers", 3], "--workers"),
        ([folder, "--device", "cpu"], "--device"),
        (["-"], "name files"),
        (["film.mp4"], "videos"),
        ([folder, "--batch", 0], "--batch 0"),
        ([folder, "--actor-gpus", 1.5], "--actor-gpus 1.5"),
    ):
        segment(model_folder, out, *words, "--on", "ray").fails(fact)
    segment(model_folder, folder, folder, "--on", "ray").fails(folder, "holds the pictures")
    monkeypatch.setitem(sys.modules, "ray", None)
    segment(model_folder, out, folder, "--on", "ray").fails("disa-seg[ray]")
    assert not out.exists()
