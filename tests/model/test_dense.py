"""Dense CLIP alone."""

import torch
import torch.nn.functional as F

from disa.model.dense import DenseClip


@torch.no_grad()
def test_logits_are_the_scaled_cosine_averaged_over_prompts(make, text, pixels):
    model = make()
    dense = DenseClip(model.backbone)
    words = text(3, 2)
    prediction = dense(pixels, words)
    tokens = model.backbone(pixels).tokens
    cosine = torch.stack([F.cosine_similarity(tokens[:, None], w[None, :, :, None, None], dim=2) for w in words], 1)
    expected = cosine.mean(2) * model.backbone.clip.logit_scale.exp()
    assert prediction.logits.shape == (2, 3, 24, 24)
    torch.testing.assert_close(
        prediction.logits, F.interpolate(expected, (24, 24), mode="bilinear", align_corners=False)
    )
    assert prediction.saliency is None and prediction.matched is None and prediction.foreground is None
