import torch

from disa.inference.segmentation import FOREGROUND_DENSITY, foreground_density


def test_density_follows_its_formula():
    saliency, matched = torch.rand(2, 3, 5, 6), torch.randn(2, 3)
    found = foreground_density(saliency, matched)
    for image in range(2):
        density, weights = torch.zeros(5, 6), 0.0
        for label in range(3):
            smooth = torch.zeros(5, 6)
            for y in range(5):
                for x in range(6):
                    smooth[y, x] = saliency[
                        image, label, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2
                    ].mean()
            weight = torch.sigmoid(matched[image, label]).item() ** 2
            density += weight * 30 * smooth / smooth.sum()
            weights += weight
        torch.testing.assert_close(found[image], density / weights)


def test_a_compact_label_stands_out_a_spread_or_absent_one_does_not():
    saliency = torch.full((1, 3, 8, 8), 1e-6)
    saliency[0, 0, 1:3, 1:3] = 0.01  # a thing
    saliency[0, 1, 4:] = 1.0  # stuff on half of the picture, far more salient
    saliency[0, 2, 5:7, 5:7] = 1.0  # a thing that the ITM finds absent
    density = foreground_density(saliency, torch.tensor([[4.0, 4.0, -8.0]]))[0]
    assert density[1:3, 1:3].min() > FOREGROUND_DENSITY
    assert density[4:].max() < FOREGROUND_DENSITY
    torch.testing.assert_close(density.mean(), torch.tensor(1.0))


def test_the_number_of_labels_does_not_move_the_threshold():
    saliency, matched = torch.rand(1, 2, 6, 6), torch.tensor([[1.0, -1.0]])
    many = foreground_density(saliency.repeat(1, 9, 1, 1), matched.repeat(1, 9))
    torch.testing.assert_close(many, foreground_density(saliency, matched))


def test_no_saliency_is_no_foreground():
    assert (foreground_density(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2)) == 0).all()
