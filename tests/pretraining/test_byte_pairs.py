"""The small tokenizer: any text survives it, and transformers reads its files."""

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from tokenizers.pre_tokenizers import ByteLevel

from disa.picturebook import render_card
from disa.pretraining.byte_pairs import caption_ids, learn_merges, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([render_card(1, index, 8).caption for index in range(400)], 800)


def test_frequent_words_are_one_token(tokenizer):
    assert tokenizer.encode("a picture of a fish").tokens[1:-1] == [
        "a</w>",
        "picture</w>",
        "of</w>",
        "a</w>",
        "fish</w>",
    ]
    assert tokenizer.encode("Fish").ids == tokenizer.encode("fish").ids
    assert tokenizer.encode("x").ids[0] == 0 and tokenizer.encode("x").ids[-1] == 1


@given(
    text=st.text(
        st.characters(categories=("L", "N", "P", "S"), include_characters=" "), max_size=12
    )
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_of_any_text(tokenizer, text):
    letters = unicodedata.normalize("NFC", text).lower().replace(" ", "")
    spelled = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(letters)
    tokens = tokenizer.encode(text).tokens[1:-1]
    assert "".join(token.removesuffix("</w>") for token in tokens) == "".join(
        piece for piece, _ in spelled
    )


def test_merges_of_a_worked_example():
    merges = learn_merges({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4)
    # est</w> 9 times, then "lo" 7 times; of equally frequent pairs the one that sorts first
    assert merges == [("e", "s"), ("es", "t</w>"), ("l", "o"), ("e", "w")]


@pytest.mark.slow
def test_training_is_the_same_in_every_process(tokenizer):
    code = (
        "from disa.pretraining.byte_pairs import train_tokenizer;"
        "from disa.picturebook import render_card;"
        "captions = [render_card(1, index, 8).caption for index in range(400)];"
        "print(train_tokenizer(captions, 800).to_str())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(told) == json.loads(tokenizer.to_str())


def test_captions_are_padded_and_long_ones_refused(tokenizer):
    ids = caption_ids(tokenizer, ["fish", "a fish"], 6)
    assert ids.shape == (2, 6) and ids[0, 3:].tolist() == [0, 0, 0]
    with refused("context=6"):
        caption_ids(tokenizer, ["a fish " * 5], 6)


def test_transformers_reads_the_folder(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(tokenizer, tmp_path, 40)
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read("a fish")["input_ids"] == tokenizer.encode("a fish").ids
    assert read.model_max_length == 40
