"""The labels of a run in their templates, for each step."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from disa.inference.text import TextEncoder
from disa.model.disa import Disa
from disa.training.label_choice import step_generator
from disa.training.settings import TrainConfig


class Prompts:
    """Token ids of every label in every template; embeddings where the text tower stands still."""

    def __init__(
        self, model: Disa, encoder: TextEncoder, labels: tuple[str, ...], settings: TrainConfig
    ) -> None:
        self.seed = settings.seed
        self.is_drawn = bool(settings.templates)
        self.per_step = len(model.config.backbone_templates)
        templates = settings.templates or model.config.backbone_templates
        ids = encoder.tokenize(labels, templates)  # t, templates, l

        # The text tower is causal: the padding behind the longest text changes nothing.
        longest = int(ids.flatten(0, 1).any(0).nonzero().max()) + 1
        device = next(model.parameters()).device
        self.ids = ids[..., :longest].to(device)
        self.embeddings: Float[Tensor, "t templates d"] | None = None
        if not _text_trains(model):
            with torch.no_grad():
                embeddings = model.encode_text(self.ids.flatten(0, 1))
            self.embeddings = embeddings.unflatten(0, self.ids.shape[:2])

    def at(
        self, step: int, chosen: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, "m p d"] | None, Int[Tensor, "m p l"] | None]:
        """Return the chosen labels' embeddings or their token ids; the other one is None.

        Of several templates for one place, each step draws its own.
        """
        values = self.ids if self.embeddings is None else self.embeddings
        values = values[chosen.to(values.device)]
        if self.is_drawn:
            order = torch.randperm(values.shape[1], generator=step_generator(step, self.seed))
            values = values[:, order[: self.per_step].to(values.device)]
        return (None, values) if self.embeddings is None else (values, None)


def _text_trains(model: Disa) -> bool:
    trained = model.parameter_groups()["clip"]
    return any(name.startswith("backbone.clip.text") for name in trained)
