import json

import pytest
import torch

from disa.data.benchmarks import BENCHMARKS, PAPER
from disa.data.vocabulary import Category
from disa.evaluation.score import Scores, numbers
from disa.evaluation.tables import BESIDE, SCALES, methods, published

CATEGORIES = [
    Category("boat", kind="thing"),
    Category("sea", kind="stuff"),
    Category("sky", kind="stuff"),
    Category("x"),
]


def test_hand_computed_case() -> None:
    scores = Scores(4, 255)
    #        boat, sea and sky; the boat's second pixel is taken for sea, one of sky for x
    target = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2, 2, 255]])
    scores.add("one", torch.tensor([[0, 1, 1, 1, 1, 1, 2, 2, 3, 0]]), target)
    found = numbers(scores, CATEGORIES)
    assert found["images"] == 1
    assert (found["categories"], found["categories_present"]) == (4, 3)
    ious = [1 / 2, 4 / 5, 2 / 3]
    assert [entry["iou"] for entry in found["per_category"][:3]] == pytest.approx(
        [100 * iou for iou in ious]
    )
    assert found["miou"] == pytest.approx(100 * sum(ious) / 3)
    assert found["miou_all"] == pytest.approx(100 * sum(ious) / 4)
    assert found["pixel_accuracy"] == pytest.approx(100 * 7 / 9)
    assert found["mean_accuracy"] == pytest.approx(100 * (1 / 2 + 1 + 2 / 3) / 3)
    assert found["fwiou"] == pytest.approx(100 * (2 * ious[0] + 4 * ious[1] + 3 * ious[2]) / 9)
    assert found["things"]["miou"] == pytest.approx(100 * ious[0])
    assert found["stuff"]["miou"] == pytest.approx(100 * (ious[1] + ious[2]) / 2)
    assert found["stuff"]["mean_accuracy"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # reach 1: boat [1], sea [2, 5], sky [6] lie at a border; predicted 0 | 1 and 1 | 2 and 2 | 3
    assert found["things"]["boundary_iou"] == pytest.approx(0)
    assert found["per_category"][2]["boundary_iou"] == pytest.approx(100 * 1 / 2)
    assert found["per_category"][3] == {
        "index": 3,
        "name": "x",
        "kind": None,
        "pixels": 0,
        "iou": None,
        "accuracy": None,
        "boundary_iou": None,
    }


def test_nothing_counted_is_no_number_and_still_json() -> None:
    found = numbers(Scores(4, 255), CATEGORIES)
    assert found["miou"] is found["pixel_accuracy"] is found["stuff"]["boundary_iou"] is None
    json.dumps(found, allow_nan=False)


def test_published_results_are_those_of_the_papers() -> None:
    assert set(PAPER) <= set(BENCHMARKS)
    assert set(BESIDE) <= set(methods())
    for name, expected in (
        ("DiSa", [16.3, 24.9, 38.9, 64.7, 98.7, 84.7]),
        ("CAT-Seg", [16.0, 23.8, 37.9, 63.3, 97.0, 82.5]),
    ):
        assert [methods()[name]["miou"][benchmark] for benchmark in PAPER] == expected
    assert methods()["CAT-Seg"]["pc459_over"] == "present"
    assert methods()["SAN"]["pc459_over"] == "all"
    for method in methods().values():
        assert method["pc459_over"] in SCALES
        assert set(method["miou"]) <= set(PAPER)
        assert all(0 < value < 100 for value in method["miou"].values())
    values = [method["miou"]["a150"] for method in published("a150")]
    assert values == sorted(values, reverse=True)
    assert published("coco-stuff") == published("a150", "train") == []
