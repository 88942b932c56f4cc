"""DiSa as transformers' users expect it: a model, a processor and a pipeline.

To import this module is to register them: `AutoModel` and the like then know the folders that disa
writes, and `pipeline` knows the task `open-vocabulary-segmentation` (decision D163).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from jaxtyping import Float, Int
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
    BatchFeature,
    Pipeline,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ModelOutput
from transformers.pipelines import PIPELINE_REGISTRY

from disa.config import ModelConfig
from disa.data.images import read_image
from disa.errors import DisaError
from disa.inference.answer import Answer
from disa.inference.labels import parse_labels, synonyms
from disa.inference.request import WHOLE
from disa.inference.segmentation import Segmentation
from disa.inference.segmenter import Segmenter
from disa.inference.text import label_embeddings, token_ids
from disa.inference.windows import views
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.model.encoders import encoder_config
from disa.weights.exported import network_of
from disa.weights.load import load, load_processing
from disa.weights.model_folder import save, save_tokenizer
from disa.weights.names import KIND

TASK = "open-vocabulary-segmentation"
# What `from_pretrained` may be asked for; nothing that a folder holds is code, so trust costs none.
OPTIONS = ("config", "dtype", "revision", "token", "local_files_only", "trust_remote_code")


class DisaConfig(PreTrainedConfig):
    """`config.json` of a folder that disa wrote; `model` is what `ModelConfig.to_dict` gives."""

    model_type = KIND

    def __init__(self, model: dict[str, Any] | None = None, **others: Any) -> None:
        self.model = model
        super().__init__(**others)


@dataclass
class DisaOutput(ModelOutput):
    """What the network says (`Prediction`), of all labels."""

    logits: Float[Tensor, "b t h4 w4"] | None = None
    saliency: Float[Tensor, "b t h w"] | None = None
    matched: Float[Tensor, "b t"] | None = None
    foreground: Float[Tensor, "b t h w"] | None = None
    things: Float[Tensor, "b h4 w4"] | None = None


class DisaForSemanticSegmentation(PreTrainedModel):
    """A network in transformers' clothes. Made by `from_pretrained`."""

    config_class = DisaConfig
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")

    def __init__(self, config: DisaConfig, network: Disa | DenseClip | None = None) -> None:
        """Take a network, or build one of that configuration with random weights."""
        super().__init__(config)
        self.network = network or Disa(ModelConfig.from_dict(config.model or {}))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *unknown: Any, **options: Any
    ) -> "DisaForSemanticSegmentation":
        """Return whatever `disa.load` reads, an export excepted, for evaluation.

        options: `dtype` (32 bit unless given), and `revision` and `token` of a Hub repository.
        Raises `DisaError` as `disa.load` does, and for other options.
        """
        given = {key for key, value in options.items() if value and not key.startswith("_")}
        if others := sorted(given.difference(OPTIONS)):
            raise DisaError(f"from_pretrained: {others[0]} is none of {', '.join(OPTIONS)}")
        network = network_of(load(_place(name, options)).model)
        config = DisaConfig(model=network.config.to_dict(), name_or_path=str(name))
        dtype = options.get("dtype") or torch.float32
        if isinstance(dtype, str):
            dtype = torch.float32 if dtype == "auto" else getattr(torch, dtype)
        return cls(config, network).to(dtype).eval()

    def save_pretrained(self, folder: str | Path, **unknown: Any) -> None:
        """Write the folder that `disa.load` reads, but for its tokenizer, which is the processor's.

        Raises `DisaError` if it cannot be written.
        """
        save(self.network, folder)

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 H W"],
        input_ids: Int[Tensor, "m p l"],
        names_per_label: Int[Tensor, " t"],
    ) -> DisaOutput:
        """Return what the images say to labels, all as `DisaProcessor` gives them."""
        embedded = self.network.encode_text(input_ids.flatten(0, 1))
        prompts = embedded.unflatten(0, input_ids.shape[:2])
        text = label_embeddings(prompts, names_per_label.tolist())
        found = self.network(pixel_values.to(self.dtype), text)
        return DisaOutput(*found[: len(DisaOutput.__dataclass_fields__)])


class DisaProcessor:
    """Images and labels in, tensors out, and label maps from what the model answers."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        """Prepare for a model with that configuration, whose tokenizer it is."""
        self.config = config
        self.tokenizer = tokenizer
        encoder = encoder_config(config.backbone_clip)
        self.patch: int = encoder.vision_config.patch_size
        self.context: int = encoder.text_config.max_position_embeddings

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> "DisaProcessor":
        """Return the processor of a model that `disa.load` reads; its weights are not read."""
        return cls(*load_processing(_place(name, options)))

    def save_pretrained(self, folder: str | Path, **unknown: Any) -> None:
        """Write the tokenizer. Raises `DisaError` if it cannot be written."""
        save_tokenizer(self.tokenizer, Path(folder))

    def __call__(
        self, images: Any = None, text: str | Sequence[str] | None = None, **unknown: Any
    ) -> BatchFeature:
        """Return PyTorch tensors for `DisaForSemanticSegmentation`.

        images: what `disa.load("mini")(...)` takes, one or a list -> `pixel_values`, RGB in 0..255.
        text: labels, "boat|ship" with synonyms -> `input_ids` of each name in each prompt, and
        `names_per_label`. Raises `DisaError` for images of several shapes, for which the model
        would need several calls, and for labels that the model cannot read.
        """
        tensors: dict[str, Tensor] = {}
        if images is not None:
            sources = images if isinstance(images, (list, tuple)) else [images]
            tensors["pixel_values"] = self._pixels(sources)
        if text is not None:
            names = [synonyms(label) for label in parse_labels(text)]
            every = [name for own in names for name in own]
            prompts = self.config.backbone_templates
            tensors["input_ids"] = token_ids(self.tokenizer, self.context, every, prompts)
            tensors["names_per_label"] = torch.tensor([len(own) for own in names])
        return BatchFeature(tensors)

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Int[Tensor, "H W"]]:
        """Return each image's map of label indices, at its target size (height, width).

        Without sizes, at the size of the logits.
        """
        logits = outputs.logits.float()
        sizes = target_sizes or [tuple(logits.shape[-2:])] * len(logits)
        every = torch.arange(logits.shape[1], device=logits.device)
        maps = []
        for own, (height, width) in zip(logits, sizes, strict=True):
            layout = WHOLE.layout(height, width, self.config.backbone_image_size, self.patch)
            labels, _ = Answer(layout, [own], every, every).best_label((height, width))
            maps.append(labels.long())
        return maps

    def _pixels(self, sources: Sequence[Any]) -> Float[Tensor, "b 3 H W"]:
        shown: list[Tensor] = []
        for source in sources:
            picture = read_image(source)
            height, width, _ = picture.shape
            layout = WHOLE.layout(height, width, self.config.backbone_image_size, self.patch)
            shown += views(WHOLE, picture, layout, 1)
        if len({view.shape for view in shown}) != 1:
            raise DisaError(
                f"{len(shown)} images that are not of one shape: call the processor for each, or "
                "use the pipeline, which takes any"
            )
        return torch.cat(shown)


class OpenVocabularySegmentationPipeline(Pipeline):
    """A `Segmenter` that is called and answers as transformers' image segmentation does."""

    # The processor below needs none of these.
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        given_processor: DisaProcessor | None = self.processor
        processor = given_processor or DisaProcessor.from_pretrained(self.model.name_or_path)
        network = self.model.network
        self.segmenter = Segmenter(network, processor.tokenizer, self.device, self.dtype)

    def __call__(self, images: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """Segment images by labels: for each image a list of `label`, `mask` and `score`.

        images: one, or a list whose images go one after another. candidate_labels: as of a
        `Segmenter`, and so are the options, such as `background`, `size` and `protocol`. A mask is
        a grey image of 0 and 255, of the image's own size; a score is the mean over the mask.
        Labels without a pixel are left out. Raises `DisaError` as a `Segmenter` does, and if there
        are no labels.
        """
        return super().__call__(images, candidate_labels=candidate_labels, **options)

    def _sanitize_parameters(
        self, candidate_labels: Any = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if candidate_labels is not None:
            options["labels"] = candidate_labels
        return {}, options, {}

    def preprocess(self, image: Any) -> dict[str, Any]:
        """Return the image as it is: the segmenter reads it."""
        return {"image": image}

    def _forward(self, inputs: Mapping[str, Any], labels: Any = (), **options: Any) -> Any:
        return {"result": self.segmenter(inputs["image"], labels, **options)}

    def postprocess(self, outputs: Mapping[str, Segmentation]) -> list[dict[str, Any]]:
        """Return label, mask and score of each label with a pixel."""
        result = outputs["result"]
        return [
            {"label": word, "mask": Image.fromarray(result.mask(word)).convert("L"), "score": score}
            for word, score in result.mean_scores.items()
            if score is not None
        ]


def _place(name: str | Path, options: Mapping[str, Any]) -> str | Path:
    """Return what `disa.load` reads: the name, or where that revision of a repository lies."""
    revision = options.get("revision")
    if revision is None or Path(name).exists():
        return name
    return snapshot_download(
        str(name),
        revision=revision,
        token=options.get("token"),
        local_files_only=bool(options.get("local_files_only")),
    )


AutoConfig.register(KIND, DisaConfig, exist_ok=True)
AutoModel.register(DisaConfig, DisaForSemanticSegmentation, exist_ok=True)
AutoModelForSemanticSegmentation.register(DisaConfig, DisaForSemanticSegmentation, exist_ok=True)
AutoProcessor.register(DisaConfig, DisaProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=OpenVocabularySegmentationPipeline,
    pt_model=DisaForSemanticSegmentation,
    type="multimodal",
)
