"""transformers' doors give what `disa.load` gives."""

import json
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import numpy as np
import pytest
import siglip_formats
import torch
from PIL import Image
from refusals import refused
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
    pipeline,
)

import disa
from disa.interfaces.transformers import (
    TASK,
    DisaConfig,
    DisaForSemanticSegmentation,
    DisaProcessor,
)
from disa.picturebook import TEST_SEED, render
from disa.weights.names import WEIGHTS

MINI = WEIGHTS / "mini"
LABELS = ["sky", "boat|ship", "sea|ocean|water", "grass"]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Two of one shape, and a wide one."""
    scenes = [Image.fromarray(render(TEST_SEED, index).image) for index in (3, 4)]
    return [*scenes, scenes[0].crop((0, 10, 96, 60))]


@pytest.fixture(scope="module")
def segmenter() -> disa.Segmenter:
    return disa.load("mini", "cpu")


@pytest.fixture(scope="module")
def model() -> DisaForSemanticSegmentation:
    return AutoModelForSemanticSegmentation.from_pretrained(MINI)


@torch.inference_mode()
def test_model_and_processor_say_what_the_segmenter_says(segmenter, model, pictures):
    processor = AutoProcessor.from_pretrained(MINI)
    assert isinstance(processor, DisaProcessor)
    inputs = processor(images=pictures[:2], text=LABELS, return_tensors="pt").to("cpu")
    outputs = model(**inputs)
    results = segmenter(pictures[:2], LABELS)

    sizes = [picture.size[::-1] for picture in pictures[:2]]
    maps = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
    for found, result, saliency in zip(maps, results, outputs.saliency, strict=True):
        assert np.array_equal(found, result.labels)
        np.testing.assert_allclose(saliency, result.token_saliency, rtol=1e-4, atol=1e-6)
    matched = torch.tensor([list(result.matched.values()) for result in results])
    torch.testing.assert_close(outputs.matched.sigmoid(), matched)

    wide = processor(images=pictures[2], text="sky, sea")
    size = pictures[2].size[::-1]
    (found,) = processor.post_process_semantic_segmentation(model(**wide), [size])
    assert np.array_equal(found, segmenter(pictures[2], "sky, sea").labels)
    (small,) = processor.post_process_semantic_segmentation(model(**wide))
    assert small.shape == model(**wide).logits.shape[2:]
    with refused("3 images", "shape"):
        processor(images=pictures)


def test_the_pipeline_says_what_the_segmenter_says(segmenter, pictures):
    segment = pipeline(TASK, model=str(MINI), device="cpu")
    options = {"background": 0.3, "size": 64}
    expected = segmenter(pictures, LABELS, **options)
    found = segment(pictures, LABELS, **options)
    for parts, result in zip(found, expected, strict=True):
        means = {word: mean for word, mean in result.mean_scores.items() if mean is not None}
        assert {part["label"]: part["score"] for part in parts} == pytest.approx(means)
        for part in parts:
            assert part["mask"].mode == "L"
            assert np.array_equal(part["mask"], 255 * result.mask(part["label"]))

    assert segment(pictures[2], candidate_labels=LABELS, **options) == found[2]
    with refused("label"):
        segment(pictures[0])


def test_models_that_are_given_need_no_folder(pictures, model):
    given = pipeline(TASK, model=model, processor=DisaProcessor.from_pretrained("mini"))
    assert given(pictures[0], "sky, sea") == pipeline(TASK, model=model)(pictures[0], "sky, sea")


def test_configurations_are_those_of_disa():
    config = AutoConfig.from_pretrained(MINI)
    assert isinstance(config, DisaConfig)
    assert disa.ModelConfig.from_dict(config.model) == disa.load("mini", "cpu").model.config
    torch.manual_seed(0)
    fresh = AutoModel.from_config(config)
    assert isinstance(fresh, DisaForSemanticSegmentation)
    assert set(fresh.network.state_dict()) == set(disa.load("mini", "cpu").model.state_dict())


def test_a_saved_folder_is_one_of_disa(tmp_path: Path, model, pictures, segmenter):
    model.save_pretrained(tmp_path)
    DisaProcessor.from_pretrained(MINI).save_pretrained(tmp_path)
    again = disa.load(tmp_path, "cpu")(pictures[0], LABELS)
    assert np.array_equal(again.labels, segmenter(pictures[0], LABELS).labels)
    assert AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_dual_encoder_alone_has_the_same_doors(tmp_path: Path, pictures):
    siglip_formats.write_siglip(tmp_path)
    model = DisaForSemanticSegmentation.from_pretrained(tmp_path)
    found = pipeline(TASK, model=model, device="cpu")(pictures[0], LABELS)
    result = disa.load(tmp_path, "cpu")(pictures[0], LABELS)
    assert {part["label"] for part in found} == {word for word, n in result.areas.items() if n}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    (tmp_path / "root" / "models" / "owner").mkdir(parents=True)
    (tmp_path / "root" / "models" / "owner" / "model").symlink_to(MINI)
    with fake_hub.hub(tmp_path / "root") as served:
        served.use(monkeypatch, tmp_path / "cache")
        yield served


def test_a_name_on_the_hub(hub, segmenter, pictures):
    model = DisaForSemanticSegmentation.from_pretrained("owner/model")
    (part, *_) = pipeline(TASK, model=model, device="cpu")(pictures[0], "sky")
    # A product's rounding in 32 bit depends on where its operands lie in memory.
    own = segmenter(pictures[0], "sky").mean_scores["sky"]
    assert part["score"] == pytest.approx(own, rel=1e-5)


def test_refusals():
    with refused("quantization_config"):
        DisaForSemanticSegmentation.from_pretrained("mini", quantization_config={"bits": 4})
    with refused('"maxi"'):
        DisaForSemanticSegmentation.from_pretrained("maxi")
    assert json.loads((MINI / "config.json").read_text())["model_type"] == "disa"
