"""Dense CLIP alone."""

import torch
import torch.nn.functional as F

from disa.model.dense import DenseClip


@torch.no_grad()
def test_probabilities_are_the_softmax_of_the_scaled_cosine_averaged_over_prompts(
    make, text, pixels
):
    model = make()
    dense = DenseClip(model.backbone, model.config)
    embeddings = text(3, 2)
    prediction = dense(pixels, embeddings)
    tokens = model.backbone(pixels).tokens
    cosine = torch.stack(
        [
            F.cosine_similarity(tokens[:, None], w[None, :, :, None, None], dim=2)
            for w in embeddings
        ],
        1,
    )
    large = F.interpolate(cosine.mean(2), (24, 24), mode="bilinear", align_corners=False)
    expected = (large * model.backbone.clip.logit_scale.exp()).softmax(1)
    torch.testing.assert_close(prediction.logits.sigmoid(), expected)
    assert (
        prediction.saliency is None and prediction.matched is None and prediction.foreground is None
    )


@torch.no_grad()
def test_a_single_label_is_certain_and_finite(make, text, pixels):
    model = make()
    logits = DenseClip(model.backbone, model.config)(pixels, text(1)).logits
    assert logits.isfinite().all() and (logits.sigmoid() > 0.999).all()
