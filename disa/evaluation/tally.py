"""What an evaluation has counted so far, and of which images: everything in it adds up.

Signature: (image's position, prediction, target) -> counts; two tallies of different images -> one.
"""

import torch
from jaxtyping import Int
from torch import Tensor, zeros

from disa.evaluation.boundary import Boundary
from disa.evaluation.confusion import Confusion

NO_SCORE = -1.0  # of an image in which every pixel is ignored


class Tally:
    """The counts of some of a data set's images, each counted once.

    `done` says which images; `scores` holds each one's own mIoU in 0..1, by which the worst are found.
    """

    def __init__(self, images: int, categories: int, ignored: int) -> None:
        self.done = zeros(images, dtype=torch.int64)  # 0 or 1: summed over processes like the rest
        self.scores = zeros(images, dtype=torch.float64)
        self.confusion = Confusion(categories, ignored)
        self.boundary = Boundary(categories, ignored)

    def add(
        self, position: int, prediction: Int[Tensor, "H W"], target: Int[Tensor, "H W"]
    ) -> None:
        """Count one image. Raises `ValueError` for a category out of range and an image counted before."""
        if self.done[position]:
            raise ValueError(f"image {position} is counted already")
        single = Confusion(self.confusion.categories, self.confusion.ignored)
        single.update(prediction, target)
        self.confusion.counts = self.confusion.counts.to(target.device)
        self.confusion.merge(single)
        self.boundary.update(prediction[None], target[None])
        miou = single.miou
        self.scores[position] = miou if miou == miou else NO_SCORE
        self.done[position] = 1

    def merge(self, other: "Tally") -> bool:
        """Add another tally; False, and nothing done, if an image is in both: no image is ever counted twice."""
        if (self.done & other.done).any():
            return False
        self.restore(
            {name: tensor + other.tensors()[name] for name, tensor in self.tensors().items()}
        )
        return True

    def worst(self, count: int) -> list[int]:
        """Return the positions of the `count` images with the lowest mIoU, the lowest first."""
        scored = [
            position
            for position in range(len(self.done))
            if self.done[position] and self.scores[position] >= 0
        ]
        return sorted(scored, key=lambda position: float(self.scores[position]))[:count]

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors on the CPU that add up."""
        counts = {"confusion": self.confusion.counts.cpu(), "boundary": self.boundary.counts.cpu()}
        return {"done": self.done, "scores": self.scores} | counts

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned. Raises `ValueError` if it is of another data set."""
        for name, tensor in self.tensors().items():
            if name not in tensors or (tensors[name].shape, tensors[name].dtype) != (
                tensor.shape,
                tensor.dtype,
            ):
                raise ValueError(f'"{name}" is missing or has another shape')
        self.done, self.scores = tensors["done"], tensors["scores"]
        self.confusion.counts, self.boundary.counts = tensors["confusion"], tensors["boundary"]
