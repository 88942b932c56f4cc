from typing import Any

import pytest

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.recipes import RECIPES, mini
from disa.training.settings import TrainConfig, changed, recipe_settings


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
        {"scale_shrink": -0.1},
        {"scale_shrink": 1.0},
        {"scale_shrink": float("nan")},
        {"batch": 10**9},
        {"image_size": 10**5},
    ],
)
def test_refuses_impossible_numbers_naming_them(wrong: dict[str, Any]) -> None:
    with pytest.raises(DisaError, match=f"{next(iter(wrong))}="):
        TrainConfig(**wrong)


def test_survives_json() -> None:
    settings = TrainConfig(templates=("a {}", "the {}"), ema=0.9)
    assert TrainConfig.from_dict(settings.to_dict() | {"templates": ["a {}", "the {}"]}) == settings
    with pytest.raises(DisaError, match="unknown fields speed"):
        TrainConfig.from_dict({"speed": 1})


def test_a_resumed_run_may_log_more_often_but_not_learn_faster() -> None:
    assert TrainConfig().conflicts(TrainConfig(log_every=1, workers=0, checkpoint_every=7)) == []
    assert TrainConfig().conflicts(TrainConfig(lr=1.0, steps=7)) == ["steps", "lr"]


def test_changes_given_as_text() -> None:
    given = {"steps": "7", "lr": "1e-2", "precision": "bf16", "templates": "a {}, the {}"}
    assert changed(TrainConfig(), given) == TrainConfig(
        steps=7, lr=1e-2, precision="bf16", templates=("a {}", "the {}")
    )
    model = changed(
        mini(), {"saliency_split": "soft", "decode_channels": "16,8", "refine_pixel": "false"}
    )
    assert model == mini(saliency_split="soft", decode_channels=(16, 8), refine_pixel=False)


@pytest.mark.parametrize(
    ("config", "name", "text", "said"),
    [
        (TrainConfig(), "steps", "many", "a whole number"),
        (TrainConfig(), "steps", "0", "at least 1"),
        (TrainConfig(evaluate_images=0), "evaluate_every", "5", "evaluate_images=0: leave out one"),
        (TrainConfig(), "lr", "fast", "a number"),
        (TrainConfig(), "templates", "a picture", "must have {} once"),
        (TrainConfig(), "flip", "perhaps", "true or false"),
        (TrainConfig(), "speed", "1", "no such setting"),
        (mini(), "saliency_split", "sharp", "top_k"),
        (mini(), "decode_channels", "8", "2 values"),
        (mini(), "backbone_clip", "x", "no such setting"),
    ],
)
def test_wrong_text_is_refused(
    config: TrainConfig | ModelConfig, name: str, text: str, said: str
) -> None:
    with pytest.raises(DisaError, match=said):
        changed(config, {name: text})


def test_every_recipe_has_settings() -> None:
    assert {recipe_settings(name).steps for name in RECIPES} == {
        recipe_settings("mini").steps,
        80_000,
    }
