"""`disa models`, `disa info` and `disa convert`: which models there are, and of what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from disa.errors import DisaError
from disa.running.files import file_sha256
from disa.running.terminal import say
from disa.weights import names
from disa.weights.model_card import Source

MOST_LABELS = 10**6


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with disa or are fetched by name, and what they know."""

    def run(self) -> int:
        """Print name, size, knowledge and place of each model."""
        bundled = names.bundled_models()
        if not bundled:
            raise DisaError(
                f"{names.WEIGHTS}: no model here; install disa again, or train one "
                "(disa train --help)"
            )
        for name, folder in bundled.items():
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            say(f"{name}  {size / 1e6:.1f} MB")
            say(f"  knows: {names.BUNDLED[name]}\n  where: {folder}")
        for name, published in names.PUBLISHED.items():
            parts = (published.repository, published.checkpoint)
            place = "/".join(part for part in parts if part)
            say(f"{name}  fetched when first used")
            say(f"  knows: {published.knows}\n  where: {place} on the Hub")
        say(
            "--model also takes a folder that disa or transformers (CLIP) wrote, OpenAI's .pt, or "
            "a Hub id. No weights of DiSa on photographs exist in public; docs/training.md says "
            "how to train them."
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show a model's parameters by part, and the operations that one picture takes.

    Example: `disa info vit-l-14 --labels 171`
    """

    # A bundled model, a model folder, or a recipe such as `vit-l-14`.
    model: Annotated[Positional[str], arg(metavar="MODEL")]
    # Number of labels at which operations are counted.
    labels: int = 20
    # Pixels of the picture's side inside the model. Default: the model's own.
    size: int | None = None
    # Print JSON.
    json: bool = False

    def run(self) -> int:
        """Print parameters and operations by part. Raises `DisaError` for an unknown model."""
        import json

        from disa.interfaces.model_facts import facts, lines_below, table

        if not 1 <= self.labels <= MOST_LABELS:
            raise DisaError(f"--labels {self.labels}: choose 1 to {MOST_LABELS:,}")
        data = facts(self.model, self.labels, self.size)
        if self.json:
            say(json.dumps(data, indent=2))
            return 0
        say(table(data))
        for line in lines_below(data):
            say(line)
        return 0


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a published checkpoint to a model folder; nothing in the file is run.

    Every tensor is kept. With a network, `--model cat-seg-b` fetches and converts by itself.

    Example: `disa convert cat-seg model_base.pth models/cat-seg-b`
    """

    # Whose checkpoint it is: `cat-seg`, DiSa's baseline.
    kind: Annotated[Positional[Literal["cat-seg"]], arg(metavar="KIND")]
    # The published file: model_base.pth or model_large.pth.
    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT")]
    # Folder of the model; it must not exist yet, or be empty.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # CLIP's tokenizer.json. Default: the one beside the checkpoint, else OpenAI's, which comes with
    # disa.
    tokenizer: Path | None = None

    def run(self) -> int:
        """Convert a checkpoint. Raises `DisaError`; nothing is written then."""
        from disa.weights.catseg import convert_catseg
        from disa.weights.fetching import LICENCE

        if not self.checkpoint.is_file():
            raise DisaError(
                f"{self.checkpoint}: no such file; CAT-Seg publishes model_base.pth and "
                "model_large.pth"
            )
        if self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise DisaError(f"{self.out}: exists already; choose another folder, or delete it")
        sha256 = file_sha256(self.checkpoint)
        source = Source("CAT-Seg", self.checkpoint.name, LICENCE, sha256)
        tokenizer = self.tokenizer or names.tokenizer_of(self.checkpoint)
        convert_catseg(self.checkpoint, self.out, tokenizer, source)
        say(f"{self.out}: written; sha256 of the checkpoint {sha256}")
        return 0
