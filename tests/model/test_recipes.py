"""The published sizes, counted on the meta device."""

import pytest
import torch

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.count import operations, parameters, trainable
from disa.model.disa import Disa
from disa.recipes import RECIPES, mini, vit_b16


def on_meta(config: ModelConfig) -> Disa:
    with torch.device("meta"):
        return Disa(config)


def count(recipe: str) -> dict[str, int]:
    return parameters(on_meta(RECIPES[recipe]()))


def test_baselines_have_exactly_the_published_parameters():
    base, large = count("vit-b-16-baseline"), count("vit-l-14-baseline")
    assert base["total"] == 154_289_378 and large["total"] == 433_726_946
    assert base["CLIP visual"] == 86_192_640 and large["CLIP visual"] == 304_293_888
    assert base["CLIP text"] == 63_428_096 and large["CLIP text"] == 123_650_304
    assert base["cost"] + base["refine"] + base["decode"] == 4_668_641
    assert large["cost"] + large["refine"] + large["decode"] == 5_782_753


def test_the_large_disa_has_the_published_parameters_within_half_a_percent():
    assert count("vit-l-14")["total"] == pytest.approx(456.2e6, rel=0.005)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_parts_add_up(recipe):
    parts = count(recipe)
    total = parts.pop("total")
    scalars = 2 if recipe.startswith("siglip") else 1  # the logit's scale, and SigLIP's bias
    assert sum(parts.values()) + scalars == total
    assert (parts["SDM"] == 0) == recipe.endswith("baseline")


def test_overrides_reach_every_recipe():
    for recipe, build in RECIPES.items():
        assert build(cost_channels=24).cost_channels == 24
        assert build().disentangle is not recipe.endswith("baseline")
    with pytest.raises(TypeError, match="cost_chanels"):
        mini(cost_chanels=3)


def test_operations_of_the_text_tower_are_those_measured_on_the_published_code():
    counts = operations(on_meta(vit_b16()), labels=171)
    assert counts["CLIP text"] == pytest.approx(1019.1e9, rel=1e-3)
    # the last block's queries, keys, attention and class token are not computed here
    assert 0.97 * 111.8e9 < counts["CLIP visual"] < 111.8e9
    assert sum(counts.values()) == 2 * counts["total"]


def test_operations_grow_with_labels_and_size_and_stop_at_the_most_labels():
    few, many = operations(on_meta(mini()), 10), operations(on_meta(mini()), 20)
    assert many["decode"] < 2 * few["decode"] and many["refine"] > 1.8 * few["refine"]
    assert many["CLIP visual"] == few["CLIP visual"]
    assert operations(on_meta(mini()), 10, 48)["decode"] * 4 == pytest.approx(
        few["decode"], rel=0.05
    )
    assert operations(on_meta(mini()), 10, (96, 48))["decode"] * 2 == pytest.approx(
        few["decode"], rel=0.05
    )
    capped = mini(max_categories=10)
    assert operations(on_meta(capped), 20)["refine"] <= few["refine"] * 1.01


def test_operations_of_a_small_product_by_hand():
    config = mini(disentangle=False, refine_pixel=False, refine_category=False, refine_levels=0)
    counts = operations(on_meta(config), labels=3)
    tokens, d, c = 12 * 12, 128, 32
    assert counts["SDM"] == counts["refine"] == 0
    assert counts["cost"] == 2 * tokens * 3 * d + 2 * tokens * 3 * 7 * 7 * c


def test_trainable_parameters_by_mode_are_the_published_list_but_for_idle_queries():
    base, large = (
        trainable(RECIPES["vit-b-16-baseline"]()),
        trainable(RECIPES["vit-l-14-baseline"]()),
    )
    # the published counts hold the last image block's queries, which nothing reads (decision D19)
    assert base["qv"]["total"] == 25_115_873 - 768 * 768
    assert large["qv"]["total"] == 70_270_177 - 1024 * 1024
    assert large["frozen"] == {"head": 5_782_753, "clip": 0, "total": 5_782_753}
    assert (
        large["full"]["total"]
        > large["qv"]["total"]
        > large["qk"]["total"]
        > large["frozen"]["total"]
    )
    assert large["qk"]["head"] == large["full"]["head"] == 5_782_753


def test_unknown_field_in_a_stored_configuration():
    with pytest.raises(DisaError, match="colour"):
        type(mini()).from_dict(mini().to_dict() | {"colour": 1})
    assert type(mini()).from_dict(mini().to_dict()) == mini()


def test_a_retired_field_is_read_if_it_says_what_is_computed():
    stored = mini().to_dict()
    assert ModelConfig.from_dict(stored | {"loss_dice_weight": 0.0}) == mini()
    with pytest.raises(DisaError, match="loss_dice_weight"):
        ModelConfig.from_dict(stored | {"loss_dice_weight": 1.0})
