"""Frechet distance of two sets of pictures in the features of a small classifier of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.data.pictures.image_splits import Images, ImageSplits
from addnorm.layers.initialise import generator_for, initialise_
from addnorm.tasks.pictures.image_batches import numbers

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

WIDTH = 64
"""Features of a picture."""
BATCH, SEEN, MOST_EPOCHS = 64, 200_000, 25
"""Training pictures of a step, and of the whole training, repeats included."""
RATE, MOMENTUM = 0.05, 0.9


class SmallClassifier(nn.Module):
    """Two strided convolutions, a hidden layer, a linear head: what looks at the pictures when distances are measured.

    It is no part of the generator, is trained from its own fixed seed, and has no residual connection.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        height, width, channels = shape
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.hidden = nn.Linear(32 * (-(-height // 4)) * (-(-width // 4)), WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        initialise_(self, 0)

    def features(self, images: Float[Tensor, "batch height width channels"]) -> Float[Tensor, "batch features"]:
        """The hidden layer, after its ReLU."""
        x = F.relu(self.conv1(images.permute(0, 3, 1, 2)))
        return F.relu(self.hidden(F.relu(self.conv2(x)).flatten(1)))

    def forward(self, images: Float[Tensor, "batch height width channels"]) -> Float[Tensor, "batch classes"]:
        """The logits."""
        return self.head(self.features(images))


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A trained classifier, its accuracy, and the scale of its features.

    Args:
        model: the classifier.
        accuracy: on the test split, in percent.
        scale: the root of the features' mean variance over training pictures; features are measured in it.
    """

    model: SmallClassifier
    accuracy: float
    scale: float

    @torch.no_grad()
    def features(self, pixels: UInt8[Tensor, "batch height width channels"]) -> Float[Tensor, "batch features"]:
        """Features of a mean variance of 1 over training pictures, in float64."""
        return _in_parts(self.model.features, pixels).double() / self.scale

    @torch.no_grad()
    def guess(self, pixels: UInt8[Tensor, "batch height width channels"]) -> Tensor:
        """The likeliest class of each picture."""
        return _in_parts(self.model, pixels).argmax(-1)

    def distance_to(
        self, pixels: UInt8[Tensor, "batch height width channels"], truth: Float[Tensor, "items features"]
    ) -> float:
        """The Frechet distance of pictures to features of real ones."""
        return frechet(self.features(pixels), truth)


def frechet(one: Float[Tensor, "items features"], other: Float[Tensor, "more features"]) -> float:
    """`||m_1 - m_2||^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))` of means m and covariances C.

    The squared Wasserstein distance of two Gaussians; of pictures' features: Heusel et al. 2017, arXiv:1706.08500. The
    trace of the root is the sum of the roots of the eigenvalues of `C_1^(1/2) C_2 C_1^(1/2)`, which is symmetric. Few
    items make it too large: compare only distances of as many items.

    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> round(frechet(x, x + 2.0), 6)
    12.0
    """
    (mean_1, cov_1), (mean_2, cov_2) = ((x.mean(0), torch.cov(x.T)) for x in (one, other))
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp(min=0).sqrt().sum()
    return float((mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * shared)


_judges: dict[str, Judge] = {}
"""By the images' fingerprint; the runs of a comparison follow each other in one process."""


def judge_of(splits: ImageSplits) -> Judge:
    """A classifier trained on the training split; kept for the next evaluation of the same images."""
    identity = splits.fingerprint()
    if identity not in _judges:
        _judges[identity] = _trained(splits)
    return _judges[identity]


def _trained(splits: ImageSplits) -> Judge:
    model = SmallClassifier(splits.shape, len(splits.classes))
    with torch.enable_grad():
        _fit_(model, splits.train)
    judge = Judge(model=model, accuracy=0.0, scale=1.0)
    right = judge.guess(_tensor(splits.test)) == torch.from_numpy(splits.test.labels.copy())
    # One scale for all: a feature that is hardly ever on must not count as much as the others.
    variance = judge.features(_tensor(splits.train)[:10_000]).var(0).mean()
    return Judge(model=model, accuracy=100 * right.double().mean().item(), scale=float(variance.sqrt()))


def _fit_(model: SmallClassifier, train: Images) -> None:
    """Stochastic gradient descent with momentum; the rate falls linearly to zero."""
    images, labels = _tensor(train), torch.from_numpy(train.labels.copy())
    epochs = min(max(SEEN // len(labels), 2), MOST_EPOCHS)
    total, done = epochs * -(-len(labels) // BATCH), 0
    parameters = list(model.parameters())
    speeds = [torch.zeros_like(parameter) for parameter in parameters]
    for epoch in range(epochs):
        for part in torch.randperm(len(labels), generator=generator_for(0, f"judge/{epoch}")).split(BATCH):
            loss = F.cross_entropy(model(numbers(images[part])), labels[part])
            rate, done = RATE * (1 - done / total), done + 1
            with torch.no_grad():
                for parameter, speed, slope in zip(
                    parameters, speeds, torch.autograd.grad(loss, parameters), strict=True
                ):
                    parameter -= rate * speed.mul_(MOMENTUM).add_(slope)


def _in_parts(function: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return torch.cat([function(numbers(part)) for part in pixels.split(500)])


def _tensor(images: Images) -> Tensor:
    return torch.from_numpy(images.pixels.copy())
