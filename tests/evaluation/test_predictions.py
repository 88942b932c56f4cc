"""Label maps on disk are all that an evaluation keeps, and they never belong to another run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_dataset import Miniature
from PIL import Image
from refusals import refused

from disa.evaluation.predictions import PredictionFolder, predict
from disa.running.processes import Processes

FACTS = {"weights_sha256": "abc", "protocol": "whole"}


class Shared(Processes):
    """A process of several that only share the folder."""

    def gathered(self, value):
        return [value]


def opened(path: Path, dataset: Miniature, **facts: str) -> PredictionFolder:
    folder = PredictionFolder(path, dataset, len(dataset.ids))
    folder.open(FACTS | facts)
    return folder


def maps(folder: PredictionFolder) -> list[np.ndarray]:
    return [np.array(Image.open(folder.file(name))) for name in folder.ids]


@pytest.mark.parametrize(("categories", "ignored"), [(5, 255), (420, 65535)])
def test_maps_hold_the_predicted_categories(tmp_path: Path, categories: int, ignored: int):
    dataset = Miniature(categories=categories, ignored=ignored)
    folder = opened(tmp_path, dataset)
    assert predict(folder, dataset.predict)
    for index, found in enumerate(maps(folder)):
        assert np.array_equal(found, dataset.predict(dataset.image(index)).numpy())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 7), max_size=4))
def test_interruptions_change_nothing_and_predict_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
):
    dataset = Miniature()
    path = tmp_path_factory.mktemp("maps")
    for stop in stops:
        asked = iter(range(1, 100))
        predict(
            opened(path, dataset),
            dataset.predict,
            interrupted=lambda asked=asked, stop=stop: next(asked) >= stop,
        )
    folder = opened(path, dataset)
    assert predict(folder, dataset.predict)
    assert sorted(dataset.read) == list(range(7))
    assert predict(opened(path, dataset), dataset.predict)
    assert sorted(dataset.read) == list(range(7))


def test_processes_share_the_images(tmp_path: Path):
    dataset = Miniature()
    folder = opened(tmp_path, dataset)
    with ThreadPoolExecutor(2) as pool:
        ranks = [Shared(rank, 2, rank) for rank in range(2)]
        assert all(pool.map(lambda p: predict(folder, dataset.predict, processes=p), ranks))
    assert folder.missing() == []


@pytest.mark.parametrize(
    ("facts", "fact"),
    [({"protocol": "cat-seg"}, "protocol whole, not cat-seg"), ({"weights_sha256": "b"}, "abc")],
)
def test_refuses_the_folder_of_another_run(tmp_path: Path, facts: dict[str, str], fact: str):
    opened(tmp_path, Miniature())
    with refused(tmp_path, fact):
        opened(tmp_path, Miniature(), **facts)


def test_refuses_fewer_images_than_before(tmp_path: Path):
    opened(tmp_path, Miniature(images=7))
    with refused("images 7, not 6"):
        opened(tmp_path, Miniature(images=6))


def test_refuses_a_folder_that_holds_something_else(tmp_path: Path):
    (tmp_path / "mask.png").write_bytes(b"somebody's")
    with refused(tmp_path):
        opened(tmp_path, Miniature())
    assert (tmp_path / "mask.png").read_bytes() == b"somebody's"


def test_an_image_that_changed_is_predicted_again(tmp_path: Path):
    dataset = Miniature()
    predict(opened(tmp_path, dataset), dataset.predict)
    dataset.image_content = lambda index: "new" if index == 3 else f"image {index}"
    assert opened(tmp_path, dataset).missing() == [3]


def test_a_damaged_description_is_refused(tmp_path: Path):
    opened(tmp_path, Miniature())
    (tmp_path / "predictions.json").write_text("{")
    with refused("predictions.json"):
        opened(tmp_path, Miniature())


def test_an_image_too_large_for_the_memory_is_named_and_the_others_are_kept(tmp_path: Path):
    dataset = Miniature()

    def refuse(picture: np.ndarray) -> torch.Tensor:
        if picture[0, 0, 2] == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return dataset.predict(picture)

    folder = opened(tmp_path, dataset)
    with refused("picture-3", "--size"):
        predict(folder, refuse)
    assert folder.missing() == [3, 4, 5, 6]


def test_an_unreadable_image_keeps_what_is_done(tmp_path: Path):
    dataset = Miniature(damaged=4)
    folder = opened(tmp_path, dataset)
    with refused("picture-4"):
        predict(folder, dataset.predict)
    assert folder.missing() == [4, 5, 6]
