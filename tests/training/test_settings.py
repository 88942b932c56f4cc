"""Settings of a run: what is refused, and how options, `--set` and recipes give them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from disa.interfaces.cli import parse
from disa.interfaces.train_command import Train, with_settings
from disa.recipes import RECIPES, mini
from disa.training.settings import TrainConfig, recipe_settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"ema": 1.0},
        {"workers": -1},
        {"scale_jitter": -0.1},
        {"scale_jitter": float("inf")},
        {"scale_jitter": 10.0},
        {"batch": 10**9},
    ],
)
def test_refuses_impossible_numbers_naming_them(wrong: dict[str, Any]) -> None:
    with refused(f"{next(iter(wrong))}="):
        TrainConfig(**wrong)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with refused("evaluate_every=5", "evaluate_images=0"):
        TrainConfig(evaluate_every=5, evaluate_images=0)


def train_record(*arguments: str) -> Train:
    return parse("train", ["mini", "--out", "x", *arguments])


def test_every_setting_is_an_option_and_takes_set() -> None:
    expected = replace(
        recipe_settings("mini"),
        steps=7,
        colour_jitter=True,
        flip=False,
    )
    options = ["--steps", "7", "--colour-jitter", "--no-flip"]
    assert train_record(*options).training == expected
    sets = ["steps=7", "colour_jitter=true", "flip=false"]
    texts = [word for text in sets for word in ("--set", text)]
    assert train_record(*texts).training == expected


def test_defaults_are_those_of_the_recipe_wherever_it_is_named(tmp_path: Path) -> None:
    for words in (["mini", "--no-resume", "-o", "x"], ["-o", "x", "--no-flip", "--seed=1", "mini"]):
        assert parse("train", words).training.lr == recipe_settings("mini").lr
    assert parse("train", ["vit-b-16", "-o", "x"]).training == TrainConfig()
    config = tmp_path / "run.yaml"
    config.write_text("recipe: mini\nout: x\ncolour_jitter: true\nlr: 0.5\n")
    training = parse("train", ["--config", str(config), "--set", "lr=0.25"]).training
    assert training == replace(recipe_settings("mini"), colour_jitter=True, lr=0.25)


def test_other_settings_are_those_of_the_network() -> None:
    texts = ("saliency_split=soft", "decode_channels=16,8", "refine_pixel=false")
    record = train_record(*(word for text in texts for word in ("--set", text)))
    assert record.set == texts
    expected = mini(saliency_split="soft", decode_channels=(16, 8), refine_pixel=False)
    assert with_settings(mini(), texts) == expected


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("saliency_split=sharp", "top_k"),
        ("decode_channels=8", "INT INT"),
        ("cost_channels=many", "INT"),
        ("refine_pixel=perhaps", "True or False"),
        ("backbone_clip=x", "backbone_clip=x"),
        ("speed=1", "lr, "),
    ],
)
def test_wrong_settings_of_the_network_are_refused(text: str, fact: str) -> None:
    with refused(fact, text):
        with_settings(mini(), (text,))


def test_every_recipe_has_settings() -> None:
    assert {recipe_settings(name).steps for name in RECIPES} == {2800, 80_000}
