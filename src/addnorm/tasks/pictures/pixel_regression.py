"""Logistic regression on pixels: what an image classifier must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.data.pictures.image_splits import Images
from addnorm.layers.initialise import generator_for

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BATCH = 256
SEEN = 600_000
"""Images to fit on, repeats included, within 10 to 60 epochs; 7 s for 55,000 images of 28 x 28 pixels."""
PEAK = 1.0
"""Learning rate at the start, times the root of the number of pixels; it falls linearly to zero."""
FLAT = 8.0
"""Standard deviation, of 255, below which a pixel is taken for constant and not enlarged further."""
DECAY = 1e-5
"""Pull of the weights towards zero; with ten times as much the test accuracy on Fashion-MNIST is 0.8 points lower."""


class PixelRegression:
    """`softmax(W x + b)` on standardised pixels, fitted by stochastic gradient descent with a fixed seed.

    Args:
        images: to fit.
        classes: how many there are.
    """

    def __init__(self, images: Images, classes: int) -> None:
        x = _flat(images)
        self.mean, self.scale = x.mean(0), x.std(0).clamp(min=FLAT) * x.shape[1] ** 0.5
        self.weight = torch.zeros(classes, x.shape[1])
        self.bias = torch.zeros(classes)
        self._fit(x, torch.from_numpy(images.labels.copy()))

    def predict(self, images: Images) -> Int[Tensor, "batch"]:
        """The likeliest class of each image."""
        return (self._standard(_flat(images)) @ self.weight.T + self.bias).argmax(1)

    def _standard(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
        return (x - self.mean) / self.scale

    def _fit(self, x: Tensor, labels: Tensor) -> None:
        epochs = min(max(SEEN // len(x), 10), 60)
        rates = iter(torch.linspace(PEAK * x.shape[1] ** 0.5, 0, epochs * -(-len(x) // BATCH)).tolist())
        for epoch in range(epochs):
            for part in torch.randperm(len(x), generator=generator_for(0, f"regression/{epoch}")).split(BATCH):
                inputs, rate = self._standard(x[part]), next(rates)
                error = F.softmax(inputs @ self.weight.T + self.bias, dim=1)
                error[torch.arange(len(part)), labels[part]] -= 1
                self.weight -= rate * (error.T @ inputs / len(part) + DECAY * self.weight)
                self.bias -= rate * error.mean(0)


def _flat(images: Images) -> Float[Tensor, "batch pixels"]:
    return torch.from_numpy(images.pixels.reshape(len(images), -1).astype("float32"))
