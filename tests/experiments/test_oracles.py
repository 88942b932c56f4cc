"""The oracles of outlines: what is put in the place of the model's own parts is what they say."""

import pytest
import torch
from oracles import answers, logits

import disa
from disa.model.disa import Disa
from disa.picturebook import NOUNS, TEST_SEED, render


@pytest.mark.slow
def test_oracles_of_one_scene() -> None:
    scene = render(TEST_SEED, 2, 96)
    pixels = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None].float()
    truth = torch.from_numpy(scene.labels).long()
    segmenter = disa.load("mini", "cpu")
    network = segmenter.model
    assert isinstance(network, Disa)
    text = segmenter.text(NOUNS)
    with torch.inference_mode():
        found = dict(answers(network, pixels, text, truth))
        coarse, fine = logits(network, network.look(pixels), text)

    right = {name: float((labels == truth).float().mean()) for name, labels in found.items()}
    assert right["truth on 12 x 12, bilinear"] < right["truth on 48 x 48, bilinear"] < 1
    assert right["the model"] <= right["only present labels"]
    assert torch.equal(found["the model"], network(pixels, text).logits[0].argmax(0))
    assert coarse.shape == (1, len(NOUNS), 48, 48) and fine.shape == (1, len(NOUNS), 96, 96)
    # A true outline stays: no region of the truth holds two names.
    named = found["true outlines, the model's names"]
    assert all(len(named[truth == label].unique()) == 1 for label in truth.unique())
