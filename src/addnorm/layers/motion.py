"""From a hidden vector for each patch to the pixels of the next frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


EPS = 1e-2
"""Below that, a patch's brightness or the difference between shifts counts for nothing."""

PAINT = 3.0
"""How much lower the logit of painting starts than those of the motions."""


def windows(
    frames: Float[Tensor, "n channels height width"], patch: int, margin: int
) -> Float[Tensor, "n patches channels window window"]:
    """Each patch with `margin` pixels around it; black beyond the frame."""
    size = patch + 2 * margin
    cut = F.unfold(frames, size, padding=margin, stride=patch)
    return cut.transpose(1, 2).unflatten(2, (frames.shape[1], size, size))


def assembled(
    patches: Float[Tensor, "n patches channels patch patch"], height: int, width: int
) -> Float[Tensor, "n channels height width"]:
    """Frames from their patches."""
    size = patches.shape[-1]
    grid = patches.unflatten(1, (height // size, width // size))
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), patches.shape[2], height, width)


def likeness(
    before: Float[Tensor, "n channels height width"],
    now: Float[Tensor, "n channels height width"],
    patch: int,
    reach: int,
) -> Float[Tensor, "n patches shifts"]:
    """How like each patch is to what stood near by in the frame before: the cosine for every shift, standardised.

        c(dy, dx) = <now[p], before[p + (dy, dx)]> / (|now[p]| |before[p + (dy, dx)]|),    -reach <= dy, dx <= reach
        (c - mean) / std over the shifts

    The correlation layer of FlowNet (Fischer et al. 2015, arXiv:1504.06852), for patches: products of two frames, which
    a linear map of their pixels cannot give. What is black is like nothing.
    """
    width, shifts, area = now.shape[3], 2 * reach + 1, patch**2
    padded = F.pad(before, (reach,) * 4)
    products = []
    for dy in range(shifts):  # a row of shifts at a time stays in the processor's cache: 38 ms instead of 60
        moved = padded[:, :, dy : dy + now.shape[2]].unfold(3, width, 1)
        products.append(F.avg_pool2d((now[:, :, :, None] * moved).sum(1).transpose(1, 2), patch))
    inner = torch.stack(products, dim=1).flatten(1, 2).flatten(2).mT * area
    energy = F.avg_pool2d(padded.square().sum(1, keepdim=True), patch, stride=1) * area
    energy = F.unfold(energy, shifts, stride=patch).mT
    own = F.avg_pool2d(now.square().sum(1, keepdim=True), patch).flatten(1)[..., None] * area
    # The root of zero, of a black patch, would have no gradient.
    cosine = inner / (own * energy + EPS**2).sqrt()
    centred = cosine - cosine.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPS**2).sqrt()


class FrameHead(nn.Module, ABC):
    """Pixels of the next frame from the hidden vectors and the last frame.

    Args:
        d_model: the width.
        patch: pixels of a patch's side.
        channels: of a pixel.
        numbers: that a head reads of each hidden vector.
    """

    def __init__(self, d_model: int, patch: int, channels: int, numbers: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.out = nn.Linear(d_model, numbers)

    def forward(
        self, hidden: Float[Tensor, "n patches d_model"], frames: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n channels height width"]:
        """The frames that come after `frames`."""
        return assembled(self.patches(self.out(hidden), frames), *frames.shape[2:])

    @abstractmethod
    def patches(self, numbers: Tensor, frames: Tensor) -> Float[Tensor, "n patches channels patch patch"]:
        """The patches of the next frames."""

    def _square(self, numbers: Float[Tensor, "n patches all"]) -> Float[Tensor, "n patches some patch patch"]:
        return numbers.unflatten(2, (-1, self.patch, self.patch))


class Pixels(FrameHead):
    """Each pixel from nothing but the hidden vector: `sigmoid(W h + b)`."""

    def __init__(self, d_model: int, patch: int, channels: int) -> None:
        super().__init__(d_model, patch, channels, channels * patch**2)

    def patches(self, numbers: Tensor, frames: Tensor) -> Tensor:
        """The patches of the next frames."""
        return self._square(numbers).sigmoid()


class Change(FrameHead):
    """The last frame and a change to it: `x + W h + b`."""

    def __init__(self, d_model: int, patch: int, channels: int) -> None:
        super().__init__(d_model, patch, channels, channels * patch**2)

    def patches(self, numbers: Tensor, frames: Tensor) -> Tensor:
        """The patches of the next frames."""
        return windows(frames, self.patch, 0) + self._square(numbers)


class Motion(FrameHead):
    """Each pixel is taken from a place near by in the last frame, or painted.

        y = m_0 * sigmoid(paint) + sum_k m_k * (R_k x C_k^T),    m = softmax over 0..K at each pixel

    `x` is the patch with `reach` pixels around it; R_k and C_k move it down and across by at most that: row i of R_k
    holds `softmax(r_k)`, 2 reach + 1 weights, from column i on. All of r, c, m, paint are `W h + b`. What a pixel is
    made of has weights that are positive and add up to one, so that pixels stay in [0, 1].

    Moving the last frame's pixels by predicted kernels, with masks: Finn et al. 2016, arXiv:1605.07157; kernels as
    products of a column and a row: Niklaus et al. 2017, arXiv:1708.01692.

    Args:
        d_model: the width.
        patch: pixels of a patch's side.
        channels: of a pixel.
        motions: K, how many motions a patch chooses from at each pixel.
        reach: pixels that a motion goes at most, up, down, left or right.
    """

    def __init__(self, d_model: int, patch: int, channels: int, motions: int, reach: int) -> None:
        self.motions, self.reach = motions, reach
        self.parts = [2 * motions * (2 * reach + 1), (motions + 1) * patch**2, channels * patch**2]
        super().__init__(d_model, patch, channels, sum(self.parts))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """At first little is painted: what is black shall stay black."""
        first = self.parts[0]
        self.out.bias[first : first + self.patch**2] = -PAINT

    def patches(self, numbers: Tensor, frames: Tensor) -> Tensor:
        """The patches of the next frames."""
        kernels, masks, paint = numbers.split(self.parts, dim=2)
        down, across = self._bands(kernels).unbind(2)
        near = windows(frames, self.patch, self.reach)[:, :, None]
        moved = down[:, :, :, None] @ near @ across[:, :, :, None].mT
        masks = self._square(masks).softmax(2)[:, :, :, None]
        return self._square(paint).sigmoid() * masks[:, :, 0] + (moved * masks[:, :, 1:]).sum(2)

    def _bands(self, kernels: Tensor) -> Float[Tensor, "n patches 2 motions patch window"]:
        """The weights of each kernel in a band of a matrix."""
        length, window = 2 * self.reach + 1, self.patch + 2 * self.reach
        weights = kernels.unflatten(2, (2, self.motions, length)).softmax(-1)
        place = torch.arange(window, device=kernels.device) - torch.arange(self.patch, device=kernels.device)[:, None]
        band = torch.arange(length, device=kernels.device)[:, None, None] == place
        return (weights @ band.flatten(1).to(weights.dtype)).unflatten(-1, (self.patch, window))
