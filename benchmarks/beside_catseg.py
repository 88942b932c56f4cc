"""The published code of CAT-Seg beside this one: the same weights, picture and labels.

CHECKOUT is a clone of https://github.com/KU-CVLAB/CAT-Seg (tried at commit 6d3a188). Its networks
are imported, and nothing else: the few names that they take from detectron2, timm and others are
stood in for here. Weights are random, and reach this code through the converter of checkpoints.
Embeddings of labels are drawn, as neither side counts the time of the text.

python benchmarks/beside_catseg.py CHECKOUT --labels 20 150 847
python benchmarks/beside_catseg.py CHECKOUT --labels 150 847 --gate 32

The published code needs up to 11 GB.
"""

import argparse
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from disa.data.images import Pixels
from disa.evaluation.bench import bench_picture, peak_memory
from disa.inference.passes import BATCH
from disa.inference.protocol import Protocol, shortest_edge
from disa.inference.request import Query, parse_query
from disa.inference.segmenter import Segmenter
from disa.inference.windows import views
from disa.running.files import write_json
from disa.running.provenance import code_and_machine
from disa.weights.catseg import read_catseg
from disa.weights.exported import network_of

PICTURE = (480, 640)
PROTOCOL = Protocol("cat-seg")
CLEAR = 1e-4  # between the two best probabilities, for a pixel whose label has to be the same


def main() -> None:
    """Print a JSON line for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 150, 847])
    parser.add_argument("--gate", type=int, help="time this code with such a gate, too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)

    published = published_network(asked.checkout)
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.pth"
        torch.save({"model": published.state_dict()}, checkpoint)
        own = GivenText(read_catseg(checkpoint), Tokenizer(models.BPE()), torch.device("cpu"))

    rows = []
    for labels in asked.labels:
        own.given = nn.functional.normalize(torch.randn(labels, 1, 512), dim=-1)
        rows.append(compare(published, own, asked.rounds, asked.gate))
        print(json.dumps(rows[-1]), flush=True)
    if asked.json is not None:
        facts = code_and_machine() | {"threads": asked.threads, "rounds": asked.rounds}
        write_json(asked.json, facts | {"rows": rows}, indent=2)


class GivenText(Segmenter):
    """A segmenter whose embeddings of labels, t p d, are `given`."""

    given: Tensor

    def embed(self, query: Query) -> Tensor:
        """Return what was given."""
        return self.given


def compare(published: Any, own: GivenText, rounds: int, gate: int | None) -> dict[str, Any]:
    """Return the least seconds of the processor of both, in turns, and how far they agree."""
    picture = bench_picture(*PICTURE)
    words = [f"thing {index}" for index in range(len(own.given))]
    query = parse_query(words, protocol=PROTOCOL)
    published.sem_seg_head.predictor.cache = own.given
    layout = own.layout(PROTOCOL, picture)
    (shown,) = views(PROTOCOL, picture, layout, BATCH)

    def own_clip() -> None:
        with torch.inference_mode():
            network_of(own.model).backbone(shown)

    calls: dict[str, Callable[[], Any]] = {
        "clip": own_clip,
        "own": lambda: own(picture, query),
        "published": lambda: published_answer(published, picture),
    }
    if gate is not None:
        gated = parse_query(words, protocol=PROTOCOL, gate=gate)
        calls["own_gated"] = lambda: own(picture, gated)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks = {}
    answers = {}
    for _ in range(rounds):
        for name, call in calls.items():
            gc.collect()
            with peak_memory(torch.device("cpu")) as bytes_taken:
                begun = time.process_time()
                answers[name] = call()
                seconds[name].append(time.process_time() - begun)
                peaks[name] = bytes_taken()

    # Labels that are as likely as each other may be told apart by the last bit.
    best, expected = answers["published"].topk(2, dim=0)
    is_clear = (best[0] - best[1] > CLEAR).numpy()
    is_equal = answers["own"].labels == expected[0].numpy()
    least = {name: min(times) for name, times in seconds.items()}
    row = {
        "labels": len(words),
        "seconds": {name: round(value, 2) for name, value in least.items()},
        "own_in_clip_passes": round(least["own"] / least["clip"], 2),
        "published_in_clip_passes": round(least["published"] / least["clip"], 2),
        "published_by_own": round(least["published"] / least["own"], 2),
        "peak_mb": {
            name: None if each is None else round(each / 1e6) for name, each in peaks.items()
        },
        "equal": round(float(is_equal.mean()), 5),
        "clear": round(float(is_clear.mean()), 5),
        "equal_where_clear": round(float(is_equal[is_clear].mean()), 5),
        "labels_found": len(np.unique(answers["own"].labels)),
    }
    if gate is not None:
        row["published_by_gated"] = round(least["published"] / least["own_gated"], 2)
    return row


def published_answer(network: nn.Module, picture: Pixels) -> Tensor:
    """Return every label's probability per pixel, t H W."""
    size = shortest_edge(*PICTURE)
    resized = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    shown = {"image": pixels, "height": PICTURE[0], "width": PICTURE[1]}
    maps: Tensor = network([shown])[0]["sem_seg"]
    return maps


def published_network(checkout: Path) -> nn.Module:
    """Return CAT-Seg on ViT-B/16 with random weights, as its configuration has it."""
    if not (checkout / "cat_seg" / "cat_seg_model.py").is_file():
        sys.exit(f"{checkout}: is no checkout of CAT-Seg; clone it and give its folder")
    _stand_in(checkout)
    clip = _published_clip()
    _module("cat_seg.third_party.clip", load=lambda *_, **__: (clip, None))
    predictor = _published_predictor()
    head = importlib.import_module("cat_seg.modeling.heads.cat_seg_head").CATSegHead(
        num_classes=1, feature_resolution=[24, 24], transformer_predictor=predictor
    )
    network = importlib.import_module("cat_seg.cat_seg_model").CATSeg(
        backbone=None,
        sem_seg_head=head,
        size_divisibility=32,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        clip_pixel_mean=[122.7709383, 116.7460125, 104.09373615],
        clip_pixel_std=[68.5005327, 66.6321579, 70.3231630],
        train_class_json="",
        test_class_json="",
        sliding_window=True,
        clip_finetune="attention",
        backbone_multiplier=0.0,
        clip_pretrained="ViT-B/16",
    )
    return network.eval()


def _published_clip() -> nn.Module:
    clip: Any = importlib.import_module("cat_seg.third_party.model_vpt").CLIP(
        512, 224, 12, 768, 16, 77, 49408, 512, 8, 12
    )
    # These are filled from a file there.
    nn.init.normal_(clip.positional_embedding, std=0.02)
    nn.init.normal_(clip.text_projection, std=0.02)
    for name, value in clip.named_parameters():
        if name.endswith("proj_weight"):
            nn.init.normal_(value, std=value.shape[-1] ** -0.5)
        if name.endswith("in_proj_bias"):
            nn.init.zeros_(value)
    return clip


def _published_predictor() -> nn.Module:
    predictor = importlib.import_module("cat_seg.modeling.transformer.cat_seg_predictor")
    # Embeddings of words are given from outside.
    predictor.CATSegPredictor.class_embeddings = lambda *_: torch.zeros(1, 1, 1)
    with TemporaryDirectory() as folder:
        words = Path(folder) / "words.json"
        words.write_text("[]")
        built: nn.Module = predictor.CATSegPredictor(
            train_class_json=words,
            test_class_json=words,
            clip_pretrained="ViT-B/16",
            prompt_ensemble_type="single",
            text_guidance_dim=512,
            text_guidance_proj_dim=128,
            appearance_guidance_dim=512,
            appearance_guidance_proj_dim=128,
            prompt_depth=0,
            prompt_length=0,
            decoder_dims=[64, 32],
            decoder_guidance_dims=[256, 128],
            decoder_guidance_proj_dims=[32, 16],
            num_heads=4,
            num_layers=2,
            hidden_dims=128,
            pooling_sizes=[1, 1],
            feature_resolution=[24, 24],
            window_sizes=12,
            attention_type="linear",
        )
    return built


class Registry:
    """Takes the place of detectron2's registries, which only keep what is given to them."""

    def register(self) -> Callable[[Any], Any]:
        """Return a decorator that changes nothing."""
        return lambda thing: thing


class Mlp(nn.Module):
    """Two layers with the names of their weights that timm gives them."""

    def __init__(
        self, in_features: int, hidden_features: int, act_layer: type[nn.Module], drop: float
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the second layer's answer."""
        return self.fc2(self.act(self.fc1(x)))


def postprocess(maps: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """Cut what was padded, and resize to the picture's own size, as detectron2 does."""
    maps = maps[None, :, : size[0], : size[1]]
    return nn.functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[0]


def _stand_in(checkout: Path) -> None:
    """Put modules in the place of what CAT-Seg's networks import besides torch and einops."""
    # Its packages, without what they import for data sets and training.
    for name in ("cat_seg", "cat_seg.modeling", "cat_seg.modeling.heads", "cat_seg.third_party"):
        package = ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    _module("cat_seg.third_party.clip")
    _module("detectron2.config", configurable=lambda function: function)
    _module("detectron2.data", MetadataCatalog=None)
    _module(
        "detectron2.modeling",
        META_ARCH_REGISTRY=Registry(),
        SEM_SEG_HEADS_REGISTRY=Registry(),
        build_backbone=None,
        build_sem_seg_head=None,
    )
    _module("detectron2.modeling.backbone", Backbone=object)
    _module("detectron2.modeling.postprocessing", sem_seg_postprocess=postprocess)
    _module("detectron2.structures", ImageList=None)
    _module("detectron2.utils.memory", _ignore_torch_cuda_oom=None)
    _module("detectron2.layers", Conv2d=nn.Conv2d, ShapeSpec=None, get_norm=None)
    _module("fvcore.nn.weight_init")
    _module("open_clip")
    _module(
        "timm.layers",
        PatchEmbed=None,
        Mlp=Mlp,
        DropPath=None,
        to_2tuple=_pair,
        to_ntuple=lambda count: lambda value: (value,) * count,
        trunc_normal_=nn.init.trunc_normal_,
        _assert=None,
    )


def _module(name: str, **values: Any) -> ModuleType:
    """Make a module of these values, and the packages above it."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        above = ".".join(parts[:end])
        if above not in sys.modules:
            sys.modules[above] = ModuleType(above)
    module = sys.modules.setdefault(name, ModuleType(name))
    vars(module).update(values)
    if len(parts) > 1:
        setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
    return module


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


if __name__ == "__main__":
    main()
