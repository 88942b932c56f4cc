"""This code computes what the baseline's published code does, and a deviation is seen."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import catseg_formats
import pytest
import torch
from comparison import Comparison, GoldenSet, main
from safetensors.torch import load_file, save_file
from torch import Tensor

CATSEG = Path(__file__).parent / "catseg"
STAGES = (
    *("fwd.vis.dense_features", "fwd.vis.block3", "fwd.agg.correlation", "fwd.agg.corr_embed"),
    *("fwd.agg.layer0.swin1", "fwd.agg.layer0.swin2", "fwd.agg.layer0.out"),
    *("fwd.dec.decoder1", "fwd.dec.decoder2", "fwd.logits", "fwd_pool2.logits"),
    *("slide.logits", "slide.prob_s", "slide.argmax", "train.loss"),
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CATSEG / "pruned", tmp_path / "sets" / "copy"))


def change(folder: Path, file: str, **tensors: Tensor) -> None:
    save_file(load_file(folder / file) | tensors, folder / file)


def deviations(folder: Path) -> list[str]:
    return [one.stage for one in GoldenSet(folder).compare() if not one.passed]


@pytest.mark.parametrize("name", ["padded", "pruned"])
def test_every_stage_agrees_with_the_published_code(name: str) -> None:
    compared = {one.stage: one for one in GoldenSet(CATSEG / name).compare()}
    for stage in STAGES:
        assert any(name.startswith(stage) for name in compared), stage
    assert [stage for stage, one in compared.items() if not one.passed] == []
    assert max(one.relative for one in compared.values()) < 1e-5
    assert compared["slide.argmax"].agreement == 1


def test_more_labels_than_the_head_takes_agree_with_the_published_code() -> None:
    """256 of 270 labels are kept; the maps of six of them are stored under their original ids."""
    golden = GoldenSet(CATSEG / "many_labels")
    assert max(golden.meta["fwd.class_ids"]) >= 256 == golden.config.max_categories
    compared = {one.stage: one for one in golden.compare()}
    stages = ("fwd.agg.keep", "fwd.agg.layer0.out_s4", "fwd.dec.decoder1_s4", "fwd.logits_s8")
    assert set(stages) <= set(compared)
    assert all(one.passed and one.relative < 1e-5 for one in compared.values())


@pytest.mark.slow
def test_the_documented_command_prints_every_stage(copy: Path) -> None:
    command = [sys.executable, "tests/golden/comparison.py", copy.parent]
    done = subprocess.run(command, cwd=CATSEG.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(stage in done.stdout for stage in STAGES)


def test_the_command_names_what_deviates(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = load_file(copy / "io.safetensors")["fwd.logits_s4"] + 1e-3
    change(copy, "io.safetensors", **{"fwd.logits_s4": wrong})
    assert main(copy.parent) == 1
    assert f"deviates: {copy}: fwd.logits_s4" in capsys.readouterr().out


def test_a_folder_without_a_golden_set_is_no_success(tmp_path: Path) -> None:
    assert main(tmp_path) == 1


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
def test_a_changed_weight_shows_first_where_it_is_used(copy: Path, weight: str, first: str) -> None:
    value = load_file(copy / "weights.safetensors")[weight]
    change(copy, "weights.safetensors", **{weight: value + 0.1})
    assert deviations(copy)[0] == first


def test_a_changed_order_of_labels_deviates_although_numbers_are_close(copy: Path) -> None:
    labels = load_file(copy / "io.safetensors")["slide.argmax"]
    labels[:2] = (labels[:2] + 1) % 12
    change(copy, "io.safetensors", **{"slide.argmax": labels})
    assert deviations(copy) == ["slide.argmax"]


def test_a_stage_that_is_not_known_deviates(copy: Path) -> None:
    golden = load_file(copy / "io.safetensors")["fwd.logits_s4"]
    unknown = {"fwd.new_stage": golden, "fwd.agg.layer7.out_s8": golden.clone()}
    change(copy, "io.safetensors", **unknown)
    assert {name.split(":")[0] for name in deviations(copy)} == set(unknown)
    change(copy, "io.safetensors", **{"fwd.sem_seg_s8": golden})
    assert any(name.startswith("fwd.sem_seg_s8: has shape") for name in deviations(copy))


def test_other_sizes_many_labels_and_other_aspects_go_the_same_way(tmp_path: Path) -> None:
    """A set made by this code itself says nothing about numbers, only that no size is built in."""
    patch, count, padding = 14, 30, 20
    clip = {"words": 50, "context": 12, "patch": patch, "side": 24 * patch}
    state = catseg_formats.official_state(3, **clip)
    facts = {
        "clip": {"theads": 1, "vheads": 2},
        "head": {"nheads": 2},
        "clip_resolution": [336, 336],
        "guidance_blocks": [0, 1],
        "pad_len": padding,
        "slide_crop": [200, 390],
        "out_hw": [100, 195],
    }
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 48, (count, 12), generator=generator)
    tokens[:, 0], tokens[:, -1] = 48, 49
    image = torch.randint(0, 256, (3, 250, 390), generator=generator, dtype=torch.uint8)
    inputs = {"in.image": image, "in.tokens": tokens.int()}
    half = {name: value.half() for name, value in state.items()}
    save_file(half, tmp_path / "weights.safetensors")
    save_file(inputs, tmp_path / "io.safetensors")
    (tmp_path / "meta.json").write_text(json.dumps({"config": facts}))

    golden = GoldenSet(tmp_path)
    assert golden.plain_view().shape == (1, 3, 336, 336)
    computed = golden.forward() | golden.slide()
    assert len(computed["fwd.agg.corr_embed"]) == padding and len(computed["fwd.logits"]) == count

    # the golden stages hold three labels; the last one's id is beyond the number of those kept
    kept = computed["fwd.agg.keep"].nonzero().flatten().tolist()
    positions = [0, 5, padding - 1]
    labels = [kept[position] for position in positions]
    assert labels[-1] >= padding
    of_kept = [name for name in computed if ".dec." in name or "agg.layer" in name]
    stored = {f"{name}_s3": computed[name][positions][..., ::3, ::3] for name in of_kept}
    for name in ("fwd.agg.correlation", "slide.prob"):
        stored[name] = computed[name][labels]
    stored |= {name: computed[name] for name in ("fwd.logits", "slide.argmax")}
    stored = {name: value.contiguous() for name, value in stored.items()}
    meta = {"config": facts, "fwd.class_ids": labels, "slide.class_ids": labels}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    save_file(inputs | stored, tmp_path / "io.safetensors")

    compared = list(GoldenSet(tmp_path).compare())
    assert len(compared) == len(stored) and all(one.passed for one in compared)
    first = Comparison("fwd.agg.correlation", (3, 24, 24), True, 0.0, 0.0, 1.0)
    assert compared[0] == first


def test_a_golden_label_that_this_code_drops_deviates(copy: Path) -> None:
    """Kept are 0, 1, 2, 3, 4, 6, 10 and 11; a stage that holds label 5 cannot agree."""
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps(meta | {"fwd.class_ids": [0, 5]}))
    stage = load_file(copy / "io.safetensors")["fwd.agg.layer0.out_s8"]
    change(copy, "io.safetensors", **{"fwd.agg.layer0.out_s8": stage[:2].contiguous()})
    assert [name.split(":")[0] for name in deviations(copy)] == ["fwd.agg.layer0.out_s8"]
