"""What a run starts from: a CLIP, a whole model, or nothing at all."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.disa import Disa
from disa.running.files import file_sha256, replace_file
from disa.running.provenance import weights_sha256
from disa.weights.clip_files import read_clip_config
from disa.weights.load import disa_on_clip
from disa.weights.model_folder import load_disa, read_config
from disa.weights.names import CLIP_TOKENIZER, WEIGHTS, tokenizer_of

RANDOM = Path("random")  # in place of a CLIP: a dry run of a recipe whose weights are not at hand
BUNDLED_TOKENIZER = WEIGHTS / "mini" / "tokenizer.json"


@dataclass(frozen=True)
class InitialWeights:
    """Either a CLIP, in any form that `clip_files.load_clip` reads or `RANDOM`, or a model folder.

    Either of them decides the backbone's shape (`backbone_clip`) and the tokenizer.
    """

    clip: Path | None = None
    init: Path | None = None

    def __post_init__(self) -> None:
        """Raise `DisaError` unless exactly one is given."""
        if (self.clip is None) == (self.init is None):
            raise DisaError(
                "training starts from one of two: --clip (`disa pretrain-clip` makes one) or "
                "--init (a model)"
            )

    @property
    def source(self) -> Path:
        """The one that is given."""
        source = self.init or self.clip
        assert source is not None
        return source

    def build(self, config: ModelConfig) -> Disa:
        """Return the network with these weights; what they lack (a head, the SDM) is random.

        Raises `DisaError` for settings that fit no network, before any weights are read, and for
        weights that do not fit the settings.
        """
        # The shape comes with the weights, whatever CLIP the recipe was written for.
        if self.init is not None:
            config = config.replace(backbone_clip=read_config(self.init).backbone_clip)
        elif self.source != RANDOM:
            config = config.replace(backbone_clip=read_clip_config(self.source))
        check_config(config)
        if self.init is not None:
            return _grown(config, self.init)
        return Disa(config) if self.source == RANDOM else disa_on_clip(config, self.source)

    def tokenizer_file(self, config: ModelConfig) -> Path:
        """Return the tokenizer of the CLIP or model."""
        return tokenizer_for(config) if self.source == RANDOM else tokenizer_of(self.source)

    def facts(self, tokenizer_file: Path) -> dict[str, str]:
        """Return checksums: a resumed run must start from the same weights and tokenizer."""
        weights = str(RANDOM) if self.source == RANDOM else weights_sha256(self.source)
        return {"weights": weights, "tokenizer": file_sha256(tokenizer_file)}


def tokenizer_for(config: ModelConfig) -> Path:
    """Return the tokenizer with as many tokens as the recipe's CLIP: OpenAI's or the bundled one.

    Raises `DisaError` if neither fits.
    """
    count = config.backbone_clip["text_config"]["vocab_size"]
    # The largest id counts, not the number of entries: a table may have gaps.
    for path in (CLIP_TOKENIZER, BUNDLED_TOKENIZER):
        if max(Tokenizer.from_file(str(path)).get_vocab().values()) + 1 == count:
            return path
    raise DisaError(
        f"--clip random: no tokenizer has the {count} tokens of this recipe's CLIP; name a CLIP"
    )


def check_config(config: ModelConfig) -> None:
    """Send a picture through the network on the meta device, which computes nothing.

    Raises `DisaError` for numbers that fit no network, whichever they are.
    """
    # The rules that numbers must keep stand in many places: in einops' patterns, in torch's
    # layers, in transformers. To try them is to know them all.
    side = config.backbone_image_size
    prompts = len(config.backbone_templates)
    try:
        with torch.device("meta"):
            model = Disa(config).train()
            text = torch.empty(2, prompts, model.backbone.embedding_width)
            model(torch.empty(1, 3, side, side), text)
    except DisaError:
        raise
    except Exception as error:  # torch, einops and transformers raise many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DisaError(
            f"no network has these settings ({lines[-1].strip()}); change the last --set, or the "
            "CLIP's config.json"
        ) from None


def copy_tokenizer(tokenizer_file: Path, folder: Path) -> None:
    """Copy a tokenizer, and the settings beside it that transformers reads, into a model folder."""
    replace_file(folder / "tokenizer.json", partial(shutil.copyfile, tokenizer_file))
    settings = tokenizer_file.with_name("tokenizer_config.json")
    if settings.is_file():
        replace_file(folder / settings.name, partial(shutil.copyfile, settings))


def _grown(config: ModelConfig, folder: Path) -> Disa:
    """Return a network with the weights of a smaller one, such as DiSa with its baseline's."""
    trained = load_disa(folder)
    model = Disa(config)
    # What the folder lacks stays random; what it has beyond the recipe is refused.
    try:
        _, unknown = model.load_state_dict(trained.state_dict(), strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DisaError(f"{folder}: is of another size: {reason}") from None
    if unknown:
        raise DisaError(
            f"{folder}: holds parts that this recipe lacks, such as {unknown[0]}; choose another "
            "recipe"
        )
    return model
