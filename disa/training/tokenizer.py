"""Make the small tokenizer of a CLIP trained from scratch: byte-level BPE in the style of CLIP's own.

Any text can be encoded: words that no caption held fall apart into bytes.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from disa.errors import DisaError

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # words, single digits, runs of signs


def train_tokenizer(captions: Iterable[str], size: int) -> Tokenizer:
    """Return a tokenizer with at most `size` entries, 514 at least; ids 0 and 1 are start and end of text."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(alphabet), special_tokens=[START, END], initial_alphabet=alphabet,
        end_of_word_suffix="</w>", min_frequency=20, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    # every byte must be known as the last of a word too: BPE drops what it does not know, without a word
    data = json.loads(tokenizer.to_str())
    for byte in alphabet:
        data["model"]["vocab"].setdefault(f"{byte}</w>", len(data["model"]["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return tokenizer


def caption_ids(tokenizer: Tokenizer, captions: list[str], context: int) -> Int[Tensor, "m l"]:
    """Return the captions' token ids, padded with 0 to `context`. Raises `DisaError` for one that is longer."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(captions)]
    if (longest := max(map(len, rows))) > context:
        raise DisaError(f"context={context}: a caption has {longest} tokens; choose a longer context")
    return torch.tensor([row + [0] * (context - len(row)) for row in rows])


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write `tokenizer.json` and the `tokenizer_config.json` that transformers reads. Raises `DisaError` if it cannot."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": START, "eos_token": END, "pad_token": END,
        "model_max_length": context,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise DisaError(f"{folder}: cannot be written ({error.strerror})") from error
