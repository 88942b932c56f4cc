"""The user's words and their embeddings: "house, boat|ship" -> words (t) -> embeddings (t, p, d).

The words belong to a call, the embeddings to a cache here; the model never stores either.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from disa.errors import DisaError
from disa.inference.labels import check_templates, synonyms
from disa.model.dense import DenseClip
from disa.model.disa import Disa

TEXTS_PER_BATCH = 256


class TextEncoder:
    """Turn words into L2-normalised embeddings, remembering the last `cache_size` labels.

    The cache trusts the model's weights: call `clear()` after changing them.
    """

    def __init__(
        self, model: Disa | DenseClip, tokenizer: Tokenizer, cache_size: int = 10_000
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        text_config = model.config.backbone_clip.get("text_config", {})
        self.context_length: int = text_config.get(
            "max_position_embeddings", 77
        )  # transformers' default
        self.cache_size = cache_size
        self._cache: OrderedDict[tuple[str, tuple[str, ...]], Float[Tensor, "p d"]] = OrderedDict()

    def __call__(
        self, words: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "t p d"]:
        """Embed words with prompts ("a picture of a {}"); None: the model's own templates.

        `p` is the model's number of prompts. As many templates take one place each; any other
            number is averaged and
        the average takes every place. A word's synonyms ("boat|ship") are averaged, too; all is
            normalised again.
        Words are taken as they are: `labels.parse_labels` finds empty ones and duplicates.
        Raises `DisaError` for a label longer than the context.
        """
        filled = check_templates(
            self.model.config.backbone_templates if templates is None else templates
        )
        wanted = [(word, filled) for word in words]
        fresh = list(dict.fromkeys(key for key in wanted if key not in self._cache))
        found = {key: self._cache[key] for key in wanted if key in self._cache}
        if fresh:
            found.update(zip(fresh, self._embed([word for word, _ in fresh], filled), strict=True))
        for key in wanted:
            self._cache[key] = found[key]
            self._cache.move_to_end(key)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return torch.stack([found[key] for key in wanted])

    def clear(self) -> None:
        """Forget every embedding, as is needed after the model's weights have changed."""
        self._cache.clear()

    def tokenize(self, names: Sequence[str], templates: Sequence[str]) -> Int[Tensor, "m p l"]:
        """Return the ids of each name in each template, padded with 0.

        Raises `DisaError` for one that is too long.
        """
        texts = [template.replace("{}", name) for name in names for template in templates]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        for index, row in enumerate(rows):
            if len(row) > self.context_length:
                raise DisaError(
                    f'the label "{_shortened(names[index // len(templates)])}" is too long: '
                    f'{len(row)} tokens with its prompt "{templates[index % len(templates)]}", '
                    f"the model reads {self.context_length}"
                )
            row += [0] * (self.context_length - len(row))
        return rearrange(torch.tensor(rows), "(m p) l -> m p l", p=len(templates))

    @torch.no_grad()
    def _embed(
        self, words: Sequence[str], templates: tuple[str, ...]
    ) -> list[Float[Tensor, "p d"]]:
        names = [synonyms(word) for word in words]
        ids = self.tokenize([name for group in names for name in group], templates)
        flat = rearrange(ids, "m p l -> (m p) l").to(next(self.model.parameters()).device)
        parts = [
            self.model.encode_text(flat[i : i + TEXTS_PER_BATCH])
            for i in range(0, len(flat), TEXTS_PER_BATCH)
        ]
        embedded = rearrange(torch.cat(parts), "(m p) d -> m p d", p=len(templates))
        places = len(self.model.config.backbone_templates)
        if len(templates) != places:
            embedded = repeat(embedded.mean(1), "m d -> m p d", p=places)
        ends = list(accumulate(map(len, names)))
        return [
            normalize(embedded[end - len(group) : end].mean(0), dim=-1)
            for end, group in zip(ends, names, strict=True)
        ]


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
