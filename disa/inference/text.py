"""Embeddings of labels: "boat|ship" with the model's prompts -> (p, d).

Labels belong to a call and embeddings to the cache here; the model stores neither.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from disa.errors import DisaError
from disa.inference.labels import check_templates, synonyms
from disa.inference.memory import fitting
from disa.inference.text_store import LEAST, TextStore
from disa.model.dense import DenseClip
from disa.model.disa import Disa
from disa.model.encoders import encoder_config
from disa.weights.exported import ExportedModel

TEXTS_PER_BATCH = 256
NUMBERS = 32  # that the tower holds at once per token and channel


class TextEncoder:
    """Turns labels into L2-normalised embeddings, and remembers the last `cache_size` of them.

    The cache trusts the model's weights: call `clear()` after changing them.
    """

    def __init__(
        self,
        model: Disa | DenseClip | ExportedModel,
        tokenizer: Tokenizer,
        cache_size: int = 10_000,
        store: TextStore | None = None,
    ) -> None:
        self.store = store
        self.model = model
        self.tokenizer = tokenizer
        tower = encoder_config(model.config.backbone_clip).text_config
        self.context_length: int = tower.max_position_embeddings
        self.width: int = tower.hidden_size
        self.cache_size = cache_size
        self._cache: OrderedDict[tuple[str, tuple[str, ...]], Float[Tensor, "p d"]] = OrderedDict()

    def __call__(
        self, labels: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "t p d"]:
        """Embed labels in prompts ("a picture of a {}"); None: the model's own templates.

        `p` is the model's number of prompts. As many templates take one place each. Any other
        number is averaged, and the average takes every place. Synonyms ("boat|ship") are averaged,
        too, and all is normalised again. Labels are taken as they are: `parse_labels` finds empty
        ones and duplicates. Raises `DisaError` for a label longer than the context.
        """
        if templates is None:
            templates = self.model.config.backbone_templates
        prompts = check_templates(templates)
        keys = [(label, prompts) for label in labels]
        embeddings = {key: self._cache[key] for key in keys if key in self._cache}
        fresh = list(dict.fromkeys(key for key in keys if key not in embeddings))
        if fresh:
            computed = self._stored([label for label, _ in fresh], prompts)
            embeddings |= dict(zip(fresh, computed, strict=True))

        # The labels of the last calls stay, the oldest go.
        for key in keys:
            self._cache[key] = embeddings[key]
            self._cache.move_to_end(key)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return torch.stack([embeddings[key] for key in keys])

    def clear(self) -> None:
        """Forget every embedding, as is needed after the model's weights have changed."""
        self._cache.clear()
        if self.store is not None:
            self.store.forget()

    def tokenize(self, names: Sequence[str], templates: Sequence[str]) -> Int[Tensor, "m p l"]:
        """Return the ids of each name in each template (`token_ids`)."""
        return token_ids(self.tokenizer, self.context_length, names, templates)

    def _stored(self, labels: Sequence[str], templates: tuple[str, ...]) -> Float[Tensor, "t p d"]:
        """Return the embeddings, from the disk or kept on it where the labels are many."""
        if self.store is None or len(labels) < LEAST:
            return self._embed(labels, templates)
        backbone = self.store.model.backbone
        places = len(self.model.config.backbone_templates)
        like = torch.empty(len(labels), places, backbone.embedding_width, device="meta")
        known = self.store.load(labels, templates, like)
        if known is not None:
            return known.to(next(backbone.parameters()))
        embeddings = self._embed(labels, templates)
        self.store.save(labels, templates, embeddings)
        return embeddings

    @torch.no_grad()
    def _embed(self, labels: Sequence[str], templates: tuple[str, ...]) -> Float[Tensor, "t p d"]:
        # Every synonym in every template, m p l, in batches that any memory holds.
        groups = [synonyms(label) for label in labels]
        ids = self.tokenize([name for group in groups for name in group], templates)
        texts = rearrange(ids, "m p l -> (m p) l")
        if not isinstance(self.model, ExportedModel):
            texts = texts.to(next(self.model.parameters()).device)
        together = fitting(4 * NUMBERS * texts.shape[1] * self.width, TEXTS_PER_BATCH)
        parts = [self.model.encode_text(part) for part in texts.split(together)]
        embedded = rearrange(torch.cat(parts), "(m p) d -> m p d", p=len(templates))

        # Another number of templates than the model's own counts as their mean.
        places = len(self.model.config.backbone_templates)
        if len(templates) != places:
            embedded = repeat(embedded.mean(1), "m d -> m p d", p=places)

        return label_embeddings(embedded, [len(group) for group in groups])


def token_ids(
    tokenizer: Tokenizer, context: int, names: Sequence[str], templates: Sequence[str]
) -> Int[Tensor, "m p l"]:
    """Return the ids of each name in each template, padded with 0 to the length of the longest.

    More padding would change nothing: CLIP does not look at it, and SigLIP adds it by itself.
    Raises `DisaError` for one that is longer than the context.
    """
    texts = [template.replace("{}", name) for name in names for template in templates]
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    for index, row in enumerate(rows):
        if len(row) > context:
            name = names[index // len(templates)]
            shown = name if len(name) <= 60 else f"{name[:60]}..."
            raise DisaError(
                f'the label "{shown}" is too long: {len(row)} tokens with its prompt '
                f'"{templates[index % len(templates)]}", the model reads {context}'
            )
    longest = max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    return rearrange(torch.tensor(padded), "(m p) l -> m p l", p=len(templates))


def label_embeddings(
    embedded: Float[Tensor, "m p d"], names_per_label: Sequence[int]
) -> Float[Tensor, "t p d"]:
    """Return the embeddings of labels from those of their names: a label is their mean."""
    by_label = embedded.split(list(names_per_label))
    return torch.stack([normalize(names.mean(0), dim=-1) for names in by_label])
