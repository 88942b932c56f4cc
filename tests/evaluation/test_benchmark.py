import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_dataset import Miniature, state
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

from disa.errors import DisaError
from disa.evaluation import benchmark
from disa.evaluation.benchmark import Watch, measure
from disa.evaluation.predictions import Predictions
from disa.evaluation.tally import Tally
from disa.running.processes import Processes


def whole(dataset: Miniature) -> Tally:
    tally = Tally(len(dataset.ids), len(dataset.vocabulary.categories), dataset.ignored)
    for index in range(len(dataset.ids)):
        labels = torch.from_numpy(dataset.labels(index).astype(np.int32))
        tally.add(index, dataset.predict(dataset.image(index)), labels)
    return tally


def assert_equal(first: Tally, second: Tally) -> None:
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


@dataclass(frozen=True)
class Thread(Processes):
    """A process of two that are threads: what they exchange goes through a list."""

    barrier: Barrier
    values: list[Any]

    def gathered(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait(60)
        found = list(self.values)
        self.barrier.wait(60)
        return found


@pytest.mark.parametrize("asked", [0, 1])
def test_if_one_process_is_asked_to_stop_all_of_them_leave(tmp_path: Path, asked: int) -> None:
    dataset, barrier, values = Miniature(), Barrier(2), [None, None]

    def one(rank: int) -> object:
        watch = Watch(interrupted=lambda: rank == asked)
        return measure(
            dataset, dataset.predict, state(tmp_path, dataset), processes=Thread(rank, 2, rank, barrier, values),
            watch=watch,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [None, None]
    counted = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))


@pytest.mark.parametrize(("categories", "ignored"), [(5, 255), (420, 65535)])
def test_counts_what_scikit_learn_counts_over_the_whole_set(
    tmp_path: Path, categories: int, ignored: int
) -> None:
    dataset = Miniature(categories=categories, ignored=ignored)
    counted = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert counted is not None
    pairs = [(dataset.labels(i), dataset.predict(dataset.image(i)).numpy()) for i in range(7)]
    true = np.concatenate([labels[labels != ignored] for labels, _ in pairs])
    taken = np.concatenate([found[labels != ignored] for labels, found in pairs])
    confusion = counted.tally.confusion
    assert np.array_equal(confusion.counts, confusion_matrix(true, taken, labels=range(categories)))
    present = np.unique(true)
    assert confusion.miou == pytest.approx(
        jaccard_score(true, taken, labels=present, average="macro")
    )
    assert confusion.miou_all == pytest.approx(confusion.miou * len(present) / categories)
    assert counted.sittings[0]["images"] == 7


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 7), max_size=4))
def test_any_interruptions_give_the_same_and_count_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    dataset, folder = Miniature(), tmp_path_factory.mktemp("run")
    for stop in stops:
        asked = iter(range(1, 100))
        watch = Watch(interrupted=lambda asked=asked, stop=stop: next(asked) >= stop)
        measure(dataset, dataset.predict, state(folder, dataset), watch=watch)
    counted = measure(dataset, dataset.predict, state(folder, dataset))
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))
    assert sum(sitting["images"] for sitting in counted.sittings) == 7
    assert [path.name for path in folder.iterdir()] == ["state.safetensors"]


def test_a_finished_run_reads_no_picture_again(tmp_path: Path) -> None:
    dataset = Miniature()
    first = measure(dataset, dataset.predict, state(tmp_path, dataset))
    dataset.read.clear()
    second = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert dataset.read == []
    assert first is not None
    assert second is not None
    assert_equal(first.tally, second.tally)
    assert first.sittings == second.sittings


KILLED = """
import os, signal, sys
from pathlib import Path
from disa.evaluation import benchmark
from memory_dataset import Miniature, state
benchmark.SAVE_SECONDS = 0.0
dataset = Miniature()
def predict(picture):
    if picture[0, 0, 2] == 4:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    return dataset.predict(picture)
benchmark.measure(dataset, predict, state(Path(sys.argv[1]), dataset))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_goes_on(tmp_path: Path, name: str) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here)])
    words = [sys.executable, "-c", KILLED, str(tmp_path), name]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, timeout=120)
    assert done.returncode == -getattr(signal, name)
    dataset = Miniature()
    counted = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert sorted(set(dataset.read)) == [4, 5, 6]
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))


def test_dying_between_settling_and_deleting_counts_nothing_twice(tmp_path: Path) -> None:
    dataset = Miniature()
    measure(
        dataset, dataset.predict, state(tmp_path, dataset), watch=Watch(interrupted=lambda: True)
    )
    part = tmp_path / "state-000.safetensors"
    before = part.read_bytes()
    state(tmp_path, dataset).take_up()
    assert not part.exists()
    part.write_bytes(before)  # as if the sitting had died just before it deleted the part
    (tmp_path / ".state.safetensors.1.part").write_bytes(b"half")
    counted = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_an_image_too_large_for_the_memory_keeps_what_is_counted(
    error: Exception, tmp_path: Path
) -> None:
    dataset, taken = Miniature(), []

    def predict(picture: np.ndarray) -> torch.Tensor:
        if len(taken) == 3:
            raise error
        taken.append(picture)
        return dataset.predict(picture)

    with pytest.raises(DisaError, match=r"picture-3: .* pixels do not fit into memory; buy some"):
        measure(dataset, predict, state(tmp_path, dataset), less_memory="buy some")
    counted = measure(dataset, dataset.predict, state(tmp_path, dataset))
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))
    assert [sitting["images"] for sitting in counted.sittings] == [3, 4]


def test_an_unreadable_image_keeps_what_is_counted(tmp_path: Path) -> None:
    broken, mended = Miniature(damaged=3), Miniature()
    with pytest.raises(DisaError, match="picture-3: damaged"):
        measure(broken, broken.predict, state(tmp_path, broken), workers=3)
    counted = measure(mended, mended.predict, state(tmp_path, mended))
    assert sorted(mended.read) == [3, 4, 5, 6]
    assert counted is not None
    assert_equal(counted.tally, whole(mended))


@pytest.mark.parametrize(
    ("fact", "value"), [("protocol", "whole"), ("weights_sha256", "ab"), ("dataset", "other")]
)
def test_refuses_the_folder_of_another_run(tmp_path: Path, fact: str, value: str) -> None:
    dataset = Miniature()
    measure(dataset, dataset.predict, state(tmp_path, dataset))
    with pytest.raises(
        DisaError, match=rf"holds another run \({fact.replace('_', ' ')} .*, not {value}\)"
    ):
        measure(dataset, dataset.predict, state(tmp_path, dataset, {fact: value}))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      "])
def test_refuses_a_damaged_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(DisaError, match=r"damaged .* delete it to count again"):
        measure(Miniature(), Miniature().predict, state(tmp_path, Miniature()))


def test_labels_out_of_range_name_the_image(tmp_path: Path) -> None:
    dataset = Miniature()
    at = state(tmp_path, dataset)
    at.run = at.run._replace(ignored=254)  # now 255 is a label like any other
    with pytest.raises(
        DisaError, match=r"miniature, picture-\d: target holds a category outside 0 \.\. 4"
    ):
        measure(dataset, dataset.predict, at)


def test_reads_a_few_pictures_ahead_and_no_more(tmp_path: Path) -> None:
    dataset, most = Miniature(images=12), 0

    def predict(picture: np.ndarray) -> torch.Tensor:
        nonlocal most
        most = max(most, len(dataset.read) - int(picture[0, 0, 2]))
        return dataset.predict(picture)

    measure(dataset, predict, state(tmp_path, dataset), workers=2)
    assert most <= 3


@pytest.mark.parametrize(("categories", "ignored", "mode"), [(5, 255, "P"), (420, 65535, "I;16")])
def test_predictions_are_index_images_named_by_id(
    tmp_path: Path, categories: int, ignored: int, mode: str
) -> None:
    dataset = Miniature(categories=categories, ignored=ignored)
    at = state(tmp_path / "run", dataset)
    measure(dataset, dataset.predict, at)  # counted before anyone asked for pictures
    names = [category.name for category in dataset.vocabulary.categories]
    counted = measure(
        dataset, dataset.predict, at, predictions=Predictions(tmp_path / "maps", at.run, names)
    )  # fmt: skip
    assert counted is not None
    assert_equal(counted.tally, whole(dataset))
    for index, name in enumerate(dataset.ids):
        with Image.open(tmp_path / "maps" / f"{name}.png") as picture:
            assert picture.mode == mode
            assert np.array_equal(picture, dataset.predict(dataset.image(index)))


def test_predictions_of_two_runs_do_not_mix(tmp_path: Path) -> None:
    dataset = Miniature()
    Predictions(tmp_path / "maps", state(tmp_path, dataset).run, ["a"])
    Predictions(tmp_path / "maps", state(tmp_path, dataset).run, ["a"])
    with pytest.raises(DisaError, match="predictions of another run"):
        Predictions(tmp_path / "maps", state(tmp_path, dataset, {"protocol": "whole"}).run, ["a"])
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "picture-0.png").write_bytes(b"the only copy")
    with pytest.raises(DisaError, match="is not empty"):
        Predictions(tmp_path / "truth", state(tmp_path, dataset).run, ["a"])


def test_saves_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SAVE_SECONDS", 0.0)
    dataset, seen = Miniature(), []

    def progress(number, miou):
        seen.append((number, state(tmp_path, dataset).read(part).tally.done.sum()))

    part = tmp_path / "state-000.safetensors"
    measure(dataset, dataset.predict, state(tmp_path, dataset), watch=Watch(progress=progress))
    assert seen == [(number, number) for number in range(1, 8)]
