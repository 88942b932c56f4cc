"""The way from the decoder's grid to the pixels against a loop over pixels."""

import pytest
import torch

from disa.model.enlarge import RADIUS, Enlarge


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_every_pixel_mixes_its_neighbours(small, scale):
    torch.manual_seed(0)
    enlarge = Enlarge(small(decode_detail_channels=4))
    logits = torch.randn(2, 3, 5, 4)
    detail = torch.randn(2, 4, 5 * scale, 4 * scale)
    answer = enlarge(logits, enlarge.weights(detail, scale))
    assert answer.shape == (2, 3, 5 * scale, 4 * scale)

    query = enlarge.query(detail)
    key = torch.nn.functional.avg_pool2d(query, scale)
    sharpness = enlarge.log_sharpness.exp()
    for y in range(5 * scale):
        for x in range(4 * scale):
            # The pixel's centre in cells, and the cell that holds it.
            centre = ((y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5)
            row, column = y // scale, x // scale
            scores = []
            values = []
            for i in range(row - RADIUS, row + RADIUS + 1):
                for j in range(column - RADIUS, column + RADIUS + 1):
                    inside = (min(max(i, 0), 4), min(max(j, 0), 3))
                    likeness = (query[0, :, y, x] * key[0, :, inside[0], inside[1]]).sum()
                    distance = (centre[0] - i) ** 2 + (centre[1] - j) ** 2
                    scores.append(likeness - sharpness * distance)
                    values.append(logits[0, :, inside[0], inside[1]])
            expected = torch.stack(scores).softmax(0) @ torch.stack(values)
            torch.testing.assert_close(answer[0, :, y, x], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_picture_without_edges_is_enlarged_smoothly(small):
    enlarge = Enlarge(small(decode_detail_channels=4))
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    answer = enlarge(ramp, enlarge.weights(torch.zeros(1, 4, 24, 24), 4))[0, 0]
    # Away from the border, where values repeat, a ramp stays one: it rises with every pixel.
    inner = answer[8:-8, 8:-8]
    assert torch.all(inner.diff(dim=1) > 0)
    torch.testing.assert_close(inner, inner[:1].expand_as(inner))
