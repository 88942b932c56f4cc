"""The cost volume against a loop."""

import torch
import torch.nn.functional as F

from disa.model.cost import Cost, correlate


def test_correlation_is_the_cosine_of_every_pair(text):
    tokens = torch.randn(2, 16, 3, 4)
    embeddings = text(3, 2) * 5  # lengths do not matter
    correlation = correlate(tokens, embeddings)
    assert correlation.shape == (2, 3, 2, 3, 4)
    for b in range(2):
        for t in range(3):
            for p in range(2):
                for y in range(3):
                    for x in range(4):
                        expected = F.cosine_similarity(tokens[b, :, y, x], embeddings[t, p], dim=0)
                        torch.testing.assert_close(correlation[b, t, p, y, x], expected)


@torch.no_grad()
def test_embedding_is_one_convolution_for_all_labels(small):
    cost = Cost(small(backbone_templates=("a {}", "the {}"), cost_kernel=3))
    correlation = torch.randn(2, 3, 2, 4, 5)
    volume = cost(correlation)
    assert volume.shape == (2, 3, 8, 4, 5)
    padded = F.pad(correlation, (1, 1, 1, 1))
    for y in range(4):
        for x in range(5):
            patch = padded[1, 2, :, y : y + 3, x : x + 3]
            expected = (cost.embed.weight * patch).sum((1, 2, 3)) + cost.embed.bias
            torch.testing.assert_close(volume[1, 2, :, y, x], expected, rtol=1e-4, atol=1e-5)
