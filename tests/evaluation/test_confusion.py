import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score

from disa.evaluation.counts import Confusion

CATEGORIES, IGNORED = 5, 255
maps = st.integers(0, 2**31 - 1)


def random_maps(seed: int, count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    target = draw.integers(0, CATEGORIES - 1, count)  # the last category is in no target
    target[draw.random(count) < 0.1] = IGNORED
    right = draw.random(count) < 0.5
    prediction = np.where(
        right, np.minimum(target, CATEGORIES - 1), draw.integers(0, CATEGORIES, count)
    )
    return torch.from_numpy(prediction), torch.from_numpy(target)


def counted(prediction: torch.Tensor, target: torch.Tensor, ignored: int = IGNORED) -> Confusion:
    confusion = Confusion(CATEGORIES, ignored)
    confusion.update(prediction, target)
    return confusion


@settings(max_examples=25, deadline=None)
@given(maps)
def test_agrees_with_scikit_learn(seed: int) -> None:
    prediction, target = random_maps(seed)
    confusion = counted(prediction, target)
    valid = target != IGNORED
    true, taken = target[valid].numpy(), prediction[valid].numpy()
    present = sorted(set(true.tolist()))
    ious = jaccard_score(true, taken, labels=present, average=None)
    assert np.array_equal(confusion.counts, confusion_matrix(true, taken, labels=range(CATEGORIES)))
    assert np.allclose(confusion.iou[present], ious)
    assert confusion.miou == pytest.approx(ious.mean())
    assert confusion.pixel_accuracy == pytest.approx(accuracy_score(true, taken))
    with pytest.MonkeyPatch.context() as patch:
        # scikit-learn warns of the predicted category without a target.
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        assert confusion.mean_accuracy == pytest.approx(balanced_accuracy_score(true, taken))
    assert confusion.fwiou == pytest.approx(
        jaccard_score(true, taken, labels=present, average="weighted")
    )


@settings(max_examples=15, deadline=None)
@given(maps, st.integers(1, 299))
def test_splitting_changes_nothing(seed: int, cut: int) -> None:
    prediction, target = random_maps(seed)
    whole = counted(prediction, target)
    streamed = counted(prediction[cut:], target[cut:])
    streamed.update(prediction[:cut], target[:cut])
    assert torch.equal(whole.counts, streamed.counts)


@settings(max_examples=10, deadline=None)
@given(maps)
def test_sixteen_bits_count_as_eight(seed: int) -> None:
    prediction, target = random_maps(seed)
    wide = target.int().masked_fill(target == IGNORED, 65535)
    assert torch.equal(counted(prediction, wide, 65535).counts, counted(prediction, target).counts)


def test_255_is_a_category_where_65535_is_ignored() -> None:
    confusion = Confusion(256, 65535)
    confusion.update(torch.tensor([255, 0]), torch.tensor([255, 65535], dtype=torch.int32))
    assert confusion.counts.nonzero().tolist() == [[255, 255]]
    assert confusion.miou == 1


def test_mean_over_all_counts_absent_categories_as_nothing() -> None:
    confusion = Confusion(4)
    confusion.update(torch.tensor([0, 0, 1, 3]), torch.tensor([0, 0, 1, 1]))
    assert confusion.miou == pytest.approx((1 + 1 / 2) / 2)
    assert confusion.miou_all == pytest.approx((1 + 1 / 2) / 4)


@settings(max_examples=15, deadline=None)
@given(maps, st.permutations(range(CATEGORIES)))
def test_renaming_categories_permutes_the_result(seed: int, order: list[int]) -> None:
    prediction, target = random_maps(seed)
    renamed = torch.tensor([*order, *[IGNORED] * (256 - CATEGORIES)])
    first, second = counted(prediction, target), counted(renamed[prediction], renamed[target])
    assert torch.equal(first.counts, second.counts[order][:, order])
    assert second.miou == pytest.approx(first.miou)
    assert second.fwiou == pytest.approx(first.fwiou)


def test_hand_computed_case() -> None:
    target = torch.tensor([[0, 0, 0, 1], [1, 1, 255, 255]])
    prediction = torch.tensor([[0, 0, 1, 1], [1, 2, 0, 2]])
    confusion = Confusion(4)
    confusion.update(prediction, target)
    # 0: 2 hits of 3 true, 2 found -> 2/3; 1: 2 hits of 3 true, 3 found -> 2/4; 2: found once, never
    # true
    assert confusion.iou[:2].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert confusion.iou[2:].isnan().all()
    assert confusion.miou == pytest.approx(7 / 12)
    assert confusion.pixel_accuracy == pytest.approx(4 / 6)
    assert confusion.mean_accuracy == pytest.approx(2 / 3)
    assert confusion.fwiou == pytest.approx(7 / 12)


def test_counts_do_not_overflow() -> None:
    confusion = Confusion(2)
    confusion.counts = torch.tensor([[2**40, 0], [0, 2**40]])
    confusion.update(torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long))
    assert confusion.counts.tolist() == [[2**40, 0], [3, 2**40]]


@pytest.mark.parametrize(
    ("prediction", "target"), [([0, 7], [0, 1]), ([0, -1], [0, 1]), ([0, 1], [0, 5])]
)
def test_refuses_unknown_categories(prediction: list[int], target: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside 0 \.\. 4"):
        counted(torch.tensor(prediction), torch.tensor(target))


def test_everything_ignored_is_no_number() -> None:
    confusion = counted(torch.zeros(4, dtype=torch.long), torch.full((4,), IGNORED))
    assert np.isnan([confusion.miou, confusion.pixel_accuracy, confusion.mean_accuracy]).all()
