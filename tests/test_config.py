import json
import subprocess
import sys
from typing import Any

import pytest

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.recipes import RECIPES, mini


@pytest.mark.parametrize("recipe", RECIPES)
def test_plain_data_and_back_is_the_identity(recipe: str):
    config = RECIPES[recipe]()
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost_channels": 0}, "cost_channels=0: must be at least 1"),
        ({"saliency_mass": float("nan")}, "saliency_mass=nan: must be a number"),
        ({"saliency_top_share": 7.0}, "saliency_top_share=7.0: must be above 0 and below 1"),
        ({"saliency_heads": 3}, "saliency_heads=3: must divide CLIP's width, 128"),
        ({"disentangle_heads": 5}, "must divide cost_channels=32"),
        ({"refine_heads": 5}, "must divide cost_channels=32"),
        ({"cost_kernel": 4}, "cost_kernel=4: must be odd"),
        ({"decode_channels": (50, 20)}, "decode_channels=(50, 20): must be groups of 16"),
        ({"decode_guidance_channels": (32, 8)}, "must begin below cost_channels=32"),
        ({"backbone_templates": ()}, "must hold one prompt at least"),
        ({"backbone_templates": ("a picture",)}, "must have {} once in each prompt"),
        ({"loss_itm_weight": -1.0}, "loss_itm_weight=-1.0: must not be negative"),
    ],
)
def test_what_fits_no_network_is_refused_by_name(changes: dict[str, Any], said: str):
    with pytest.raises(DisaError) as raised:
        mini(**changes)
    assert said in str(raised.value)


EVERY_FIELD = """
import torch
from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.disa import Disa
from disa.recipes import mini

wrong = (None, -1, 0, 3.5, 10**12, "x", "", [], {}, [1], [1, 2, 3], [0, -1], True, float("nan"), ["a"], [None])
refused = {}
for name in mini().to_dict():
    for value in wrong:
        try:
            config = ModelConfig.from_dict(mini().to_dict() | {name: value})
            if value == 10**12:  # whether it fits into memory is no question of the configuration
                continue
            with torch.device("meta"):
                model = Disa(config).eval()
                text = torch.empty(2, len(config.backbone_templates), model.backbone.embedding_width)
                model(torch.empty(1, 3, 32, 32), text)
        except DisaError as error:
            refused.setdefault(name, []).append(str(error))
print(refused["cost_channels"][0], refused["saliency_split"][0], refused["decode_channels"][0], sep="\\n")
print(refused["disentangle"][0], refused["backbone_clip"][0], refused["backbone_templates"][0], sep="\\n")
print(len(refused))
"""


def test_a_damaged_field_is_refused_or_gives_a_network_that_runs():
    """In a process of its own: the checker of types in this one would raise before the configuration does."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", EVERY_FIELD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "cost_channels=None: must be a whole number",
        "saliency_split=None: must be one of top_k, relative, mass, soft",
        "decode_channels=None: must be a list of 2 whole numbers",
        "disentangle=None: must be true or false",
        "backbone_clip=None: must be a mapping",
        "backbone_templates=None: must be a list of any number of texts",
        str(len(mini().to_dict())),
    ]


def test_parts_that_are_off_set_no_rule():
    assert mini(disentangle=False, saliency_heads=3, disentangle_heads=5).saliency_heads == 3
    assert mini(refine_pixel=False, refine_category=False, refine_heads=5).refine_heads == 5
