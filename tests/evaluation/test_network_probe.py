import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from disa.evaluation.network_probe import (
    ForegroundOverlap,
    SdmEvidence,
    average_precision,
    foreground_mask,
    ranking_auc,
    soft_iou,
    token_shares,
)
from disa.model.disa import Prediction


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6))
def test_average_precision_agrees_with_scikit_learn(seed: int, levels: int) -> None:
    draw = np.random.default_rng(seed)
    score = np.round(draw.random((3, 12)) * levels) / levels  # with many ties
    share = np.round(draw.random((3, 12)), 2)
    share[:, 0] = 0.5
    ours = average_precision(torch.from_numpy(score).float(), torch.from_numpy(share).float())
    for row in range(3):
        # a token of share s counts s times as right and 1 - s times as wrong
        theirs = average_precision_score(
            [1] * 12 + [0] * 12,
            np.tile(score[row], 2),
            sample_weight=np.concatenate([share[row], 1 - share[row]]),
        )
        assert ours[row].item() == pytest.approx(theirs, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_auc_agrees_with_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    score, present = np.round(draw.random(40), 1), draw.random(40) < 0.3
    present[:2] = True, False
    ours = ranking_auc(torch.from_numpy(score).float(), torch.from_numpy(present))
    assert ours.item() == pytest.approx(roc_auc_score(present, score), abs=1e-6)


def test_auc_without_pairs_is_no_number() -> None:
    assert ranking_auc(torch.rand(3), torch.ones(3, dtype=torch.bool)).isnan()


def test_soft_iou_of_masks_is_the_iou() -> None:
    first, second = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 1, 1, 0.5]])
    assert soft_iou(first, second).tolist() == pytest.approx([1 / 3.5])
    assert soft_iou(second, second).tolist() == [1]


def test_token_shares() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, 1], [2, 2, 2, 2], [2, 2, 2, 0]]])
    shares = token_shares(labels, 3, (2, 2))
    assert shares[0].tolist() == [[[0.75, 0], [0, 0.25]], [[0, 1], [0, 0]], [[0.25, 0], [1, 0.75]]]


def test_a_perfect_module_scores_full_marks() -> None:
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[0, 4:8, 4:8] = 1
    labels[1, 8:, :] = 2
    shares = token_shares(labels, 3, (4, 4))
    matched = torch.where(shares.flatten(2).sum(2) > 0, 20.0, -20.0)
    measured = SdmEvidence(3)
    measured.update(Prediction(torch.zeros(2, 3, 16, 16), shares, matched, shares), labels)
    scores = measured.scores()
    assert scores.saliency_ap.tolist() == [1, 1, 1]
    assert scores.split_iou.tolist() == [100, 100, 100]
    assert scores.itm_auc[1:].tolist() == [1, 1]
    assert scores.itm_auc[0].isnan()  # present in every image


def test_foreground_of_things_is_their_own_logit() -> None:
    things = torch.full((1, 4, 4), -1.0)
    things[0, 1:3, 1:3] = 1
    nowhere = torch.zeros(1, 2, 4, 4)
    mask = foreground_mask(Prediction(nowhere, None, None, None, things), (4, 4))
    assert torch.equal(mask, things > 0)


def test_foreground_iou_is_that_of_a_loop_over_scenes() -> None:
    draw = torch.Generator().manual_seed(0)
    things = torch.tensor([False, True, True, False])
    unseen = torch.tensor([False, False, True, True])
    # Scenes of stuff alone, a seen thing, an unseen one, and both.
    shown = [(0, 3), (0, 1), (0, 2), (0, 1, 2), (3, 2)]
    labels = torch.stack(
        [torch.tensor(each)[torch.randint(0, len(each), (6, 7), generator=draw)] for each in shown]
    )
    masks = torch.rand(5, 6, 7, generator=draw) > 0.5
    measured = ForegroundOverlap(things, unseen)
    measured.update(masks[:2], labels[:2])
    measured.update(masks[2:], labels[2:])

    scenes = {"all": range(5), "seen_things": [1], "unseen_things": [2, 4], "both": [3]}
    for kind, chosen in scenes.items():
        pairs = [
            (bool(mask), int(label) in (1, 2))
            for scene in chosen
            for mask, label in zip(masks[scene].flatten(), labels[scene].flatten(), strict=True)
        ]
        for side, iou in ((True, measured.iou(True)), (False, measured.iou(False))):
            both = sum(mask == side and true == side for mask, true in pairs)
            either = sum(mask == side or true == side for mask, true in pairs)
            assert iou[kind] == pytest.approx(100 * both / either)
