"""The check of this code against golden tensors: what agrees passes, what deviates is named."""

import json
import os
import shutil
from pathlib import Path

import catseg_formats
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from disa.errors import DisaError
from disa.evaluation.golden import Comparison, GoldenSet
from disa.interfaces.typer_cli import app

OWN = Path(__file__).parents[1] / "golden" / "catseg"
SHARED = (
    Path(os.environ.get("DISA_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
    / "golden"
)


def verify(folder: Path) -> Result:
    return CliRunner().invoke(app, ["verify", "golden", str(folder)])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OWN, tmp_path / "set"))


def change(folder: Path, file: str, **tensors: Tensor) -> None:
    save_file(load_file(folder / file) | tensors, folder / file)


def failing(folder: Path) -> list[str]:
    return [one.stage for one in GoldenSet(folder).compare() if not one.passed]


@pytest.mark.parametrize("folder", [OWN, SHARED / "a", SHARED / "c"], ids=["own", "a", "c"])
def test_every_stage_agrees_with_the_published_code(folder: Path):
    if not folder.is_dir():
        pytest.skip("golden tensors not at hand (DISA_SHARED)")
    compared = {one.stage: one for one in GoldenSet(folder).compare()}
    stages = (
        *("fwd.vis.dense_features", "fwd.vis.block3", "fwd.agg.correlation", "fwd.agg.corr_embed"),
        *("fwd.agg.layer0.swin1", "fwd.agg.layer0.swin2", "fwd.agg.layer0.out", "fwd.dec.decoder1"),
        *(
            "fwd.dec.decoder2",
            "fwd.logits",
            "fwd_pool2.logits",
            "slide.logits",
            "slide.prob_s",
            "slide.argmax",
        ),
        "train.loss",
    )
    for stage in stages:
        assert any(name.startswith(stage) for name in compared), stage
    assert [stage for stage, one in compared.items() if not one.passed] == []
    assert max(one.relative for one in compared.values()) < 1e-5
    assert compared["slide.argmax"].agreement == 1


def test_the_command_prints_every_stage_and_says_what_deviates(copy: Path):
    done = verify(OWN)
    assert (
        done.exit_code == 0
        and "every stage agrees" in done.stdout
        and "slide.argmax" in done.stdout
    )
    wrong = load_file(copy / "io.safetensors")["fwd.logits_s4"] + 1e-3
    change(copy, "io.safetensors", **{"fwd.logits_s4": wrong})
    failed = verify(copy.parent)  # a folder of sets
    assert failed.exit_code == 1
    assert "1 stages deviate" in failed.stdout and failed.stdout.rstrip().endswith("fwd.logits_s4")


@pytest.mark.parametrize(
    ("weight", "first"),
    [
        ("sem_seg_head.predictor.clip_model.visual.conv1.weight", "fwd.vis.ln_pre_s12"),
        (
            "sem_seg_head.predictor.clip_model.transformer.resblocks.1.ln_1.bias",
            "fwd.text.encode_text",
        ),
        (
            "sem_seg_head.predictor.transformer.layers.0.attention.MLP.0.bias",
            "fwd.agg.layer0.out_s8",
        ),
        ("sem_seg_head.predictor.transformer.decoder2.up.weight", "fwd.dec.decoder2_s16"),
    ],
)
def test_a_changed_weight_shows_first_where_it_is_used(copy: Path, weight: str, first: str):
    value = load_file(copy / "weights.safetensors")[weight]
    change(copy, "weights.safetensors", **{weight: value + 0.1})
    assert failing(copy)[0] == first


def test_a_changed_order_of_labels_deviates_although_numbers_are_close(copy: Path):
    labels = load_file(copy / "io.safetensors")["slide.argmax"]
    labels[:2] = (labels[:2] + 1) % 12
    change(copy, "io.safetensors", **{"slide.argmax": labels})
    assert failing(copy) == ["slide.argmax"]


def test_what_is_not_known_is_no_silent_pass(copy: Path):
    golden = load_file(copy / "io.safetensors")["fwd.logits_s4"]
    change(
        copy, "io.safetensors", **{"fwd.new_stage": golden, "fwd.agg.layer7.out_s8": golden.clone()}
    )
    unknown = ("fwd.agg.layer7.out_s8", "fwd.new_stage")
    assert sorted(failing(copy)) == [f"{name}: unknown to this code" for name in unknown]
    change(copy, "io.safetensors", **{"fwd.sem_seg_s8": golden})
    assert "fwd.sem_seg_s8: of another shape here" in failing(copy)


def test_folders_that_are_no_golden_sets_are_refused_in_one_line(copy: Path, tmp_path: Path):
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, None)):
        failed = verify(folder)
        assert failed.exit_code == (2 if message else 0)
        assert message is None or message in failed.stderr
    (copy / "meta.json").write_text("{}")
    assert "damaged golden set" in verify(copy).stderr
    (copy / "io.safetensors").unlink()
    failed = verify(copy)
    assert (
        failed.exit_code == 2
        and "lacks io.safetensors" in failed.stderr
        and failed.stderr.count("\n") == 1
    )
    with pytest.raises(DisaError, match="lacks weights"):
        GoldenSet(tmp_path)


def test_other_sizes_many_labels_and_other_aspects_go_the_same_way(tmp_path: Path):
    """A set made by this code itself: it says nothing about numbers, only that no size is built in."""
    patch, count, padding = 14, 30, 20
    clip = {"words": 50, "context": 12, "patch": patch, "side": 24 * patch}
    weights = {
        name: value.half() for name, value in catseg_formats.official_state(3, **clip).items()
    }
    facts = {
        "clip": {"theads": 1, "vheads": 2},
        "head": {"nheads": 2},
        "clip_resolution": [336, 336],
        "guidance_blocks": [0, 1],
        "pad_len": padding,
        "slide_crop": [200, 390],
        "out_hw": [100, 195],
    }
    ids = [1, 4, 7]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 48, (count, 12), generator=generator)
    tokens[:, 0], tokens[:, -1] = 48, 49
    image = torch.randint(0, 256, (3, 250, 390), generator=generator, dtype=torch.uint8)
    save_file(weights, tmp_path / "weights.safetensors")
    save_file({"in.image": image, "in.tokens": tokens.int()}, tmp_path / "io.safetensors")
    meta = {"config": facts, "slide.class_ids": ids, "fwd.class_ids": ids}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    golden = GoldenSet(tmp_path)
    assert golden.plain_view().shape == (1, 3, 336, 336)
    computed = golden.forward() | golden.slide()
    assert len(computed["fwd.agg.corr_embed"]) == padding and len(computed["fwd.logits"]) == count
    stored = {
        name: value[..., ::3, ::3]
        for name, value in computed.items()
        if ".dec." in name or "agg.layer" in name
    }
    stored = {f"{name}_s3": value.contiguous() for name, value in stored.items()}
    stored |= {
        "fwd.agg.correlation": computed["fwd.agg.correlation"][ids],
        "slide.prob": computed["slide.prob"],
    }
    stored |= {
        "fwd.logits": computed["fwd.logits"],
        "slide.argmax": computed["slide.argmax"].short(),
    }
    save_file({"in.image": image, "in.tokens": tokens.int()} | stored, tmp_path / "io.safetensors")
    compared = list(GoldenSet(tmp_path).compare())
    assert len(compared) == len(stored) and all(one.passed for one in compared)
    assert compared[0] == Comparison("fwd.agg.correlation", (3, 24, 24), 0.0, 0.0, 1.0, True)
