"""Read a `tokenizer.json` and check that it is the one a CLIP was trained with."""

from pathlib import Path

from tokenizers import Tokenizer

from disa.errors import DisaError

# OpenAI's byte-pair merges, the same for all of its CLIPs (NOTICE, decision D59).
CLIP_TOKENIZER = Path(__file__).with_name("clip_tokenizer.json")

# Configurations of OpenAI's CLIP name this id; transformers then takes the highest id as the end.
LEGACY_END = 2


def tokenizer_beside(path: Path) -> Path:
    """Return the tokenizer of a weights file: the one beside it, else that of OpenAI's CLIPs."""
    beside = path.with_name("tokenizer.json")
    return beside if beside.is_file() else CLIP_TOKENIZER


def load_tokenizer(path: Path, end_id: int, vocabulary: int) -> Tokenizer:
    """Read the tokenizer of a model that knows `vocabulary` tokens and ends texts with `end_id`.

    Raises `DisaError` if the file is missing, damaged or another model's.
    """
    if not path.is_file():
        raise DisaError(
            f"{path}: no such file; a model folder holds model.safetensors, config.json and "
            "tokenizer.json"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain `Exception`
        raise DisaError(f"{path}: is not a tokenizer ({' '.join(str(error).split())})") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()

    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary:
        raise DisaError(
            f"{path}: has token {highest}, the model knows {vocabulary} tokens; "
            "is it another model's?"
        )
    if end_id == LEGACY_END:
        end_id = vocabulary - 1
    last = tokenizer.encode("a").ids[-1:]
    if last != [end_id]:
        raise DisaError(
            f"{path}: ends texts with token {last}, the model expects {end_id}; "
            "is it another model's?"
        )
    return tokenizer
