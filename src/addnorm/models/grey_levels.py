"""A denoiser's head that knows that pixels have 256 levels and how noise came to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.kernels.derivatives import Grads, gradients, is_traced, once
from addnorm.layers.watched import is_only

if TYPE_CHECKING:
    from jaxtyping import Float

LEVELS = 256
FEATURES = 24
"""Numbers from which a pixel's 256 scores are made."""
PART = 256
"""Pixels taken at once, so that the scores stay in the cache: 64 ms for 25,088 with the gradient; by 4,096, 124 ms."""


class LevelHead(nn.Module):
    """Hidden vectors of patches to the pictures' expected pixels, given what noise left of them.

        scores_k = V_k f + b_k,    f = a pixel's part of W hidden
        p(k | z) = softmax over k of  scores_k - alpha^2 / (2 sigma^2) (z / alpha - x_k)^2,    x_k = k / 127.5 - 1
        x^       = sum_k p(k | z) x_k

    Bayes' rule: the scores say what the surroundings make of a pixel, the square what its own noisy value does. A
    linear head has to find by itself that at little noise `x^` is the level nearest to z, to a thousandth of its range;
    here that holds for any scores. An expectation over levels is score interpolation, Dieleman et al. 2022,
    arXiv:2211.15089; `p(k | z)` with even scores is how a variational diffusion reads pixels at its end, Kingma et al.
    2021, arXiv:2107.00630.

    Args:
        d_model: width of the hidden vectors.
        values: pixels of a patch, times channels.
    """

    def __init__(self, d_model: int, values: int) -> None:
        super().__init__()
        self.features = nn.Linear(d_model, values * FEATURES)
        self.scores = nn.Linear(FEATURES, LEVELS)

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens d_model"],
        noisy: Float[Tensor, "batch tokens values"],
        rates: tuple[Tensor, Tensor],
    ) -> Float[Tensor, "batch tokens values"]:
        """The expected pixels, from -1 to 1.

        Args:
            hidden: a vector a patch.
            noisy: the patches with noise.
            rates: alpha and sigma of their times, `(batch, 1, 1)`.
        """
        exact = torch.promote_types(noisy.dtype, torch.float32)
        alpha, sigma = (rate.to(exact) for rate in rates)
        seen = (noisy.to(exact) / alpha).reshape(-1, 1)
        weight = ((alpha / sigma).square() / 2).expand_as(noisy).reshape(-1, 1)
        features = self.features(hidden).reshape(-1, FEATURES).to(exact)
        means = self._means(features, seen, weight)
        return means.reshape(noisy.shape).to(noisy.dtype)

    def _means(self, features: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
        """Part by part, or as the formula reads where a part would not do: for who replaced or watches the scores."""
        own = self.scores
        if not is_only(own, nn.Linear) or is_traced(by_compiler=False) or type(features) is not Tensor:
            return _expected(own(features.to(_dtype(own, features))).to(features.dtype), seen, weight)
        return _Means.apply(features, seen, weight, own.weight.to(features.dtype), own.bias.to(features.dtype))


def _dtype(scores: nn.Module, features: Tensor) -> torch.dtype:
    """What a layer of scores reads: that of its weight, where it has one."""
    weight = scores._parameters.get("weight")
    return features.dtype if weight is None else weight.dtype


def _expected(scores: Tensor, seen: Tensor, weight: Tensor) -> Float[Tensor, "pixels 1"]:
    """The same by torch's operations, with 256 numbers held for each pixel."""
    levels = _levels(seen)
    logits = scores - weight.detach() * (seen - levels).square()
    return (logits.softmax(-1) @ levels)[:, None]


def _graph(ctx: Any, grad: Tensor) -> Grads:
    features, seen, weight, scores, bias, _ = ctx.saved_tensors

    def means(features: Tensor, seen: Tensor, scores: Tensor, bias: Tensor) -> Tensor:
        return _expected(F.linear(features, scores, bias), seen, weight)

    of_features, of_seen, of_scores, of_bias = gradients(means, [features, seen, scores, bias], [grad])
    return of_features, of_seen, None, of_scores, of_bias


class _Means(torch.autograd.Function):
    """`x^` of many pixels, part by part; backwards `dx^ / dscores_k = p(k | z) (x_k - x^)`, with p made again.

    The 256 numbers a pixel are never held for all pixels: that halves the time, and the memory is that of the features.
    Noisy pixels get their gradient, `2 weight (E x_k^2 - x^^2)`, their times none.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, seen: Tensor, weight: Tensor, scores: Tensor, bias: Tensor) -> Tensor:
        levels, means = _levels(seen), torch.empty_like(seen)
        for part in _parts(len(seen)):
            means[part, 0] = _posterior(features[part], (seen[part], weight[part]), scores, bias) @ levels
        ctx.save_for_backward(features, seen, weight, scores, bias, means)
        return means

    @staticmethod
    @once(_graph)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:  # pyrefly: ignore[bad-override]
        features, seen, weight, scores, bias, means = ctx.saved_tensors
        levels, to_features, to_seen = _levels(seen), torch.empty_like(features), torch.empty_like(seen)
        to_scores, to_bias = torch.zeros_like(scores), torch.zeros_like(bias)
        for part in _parts(len(seen)):
            posterior = _posterior(features[part], (seen[part], weight[part]), scores, bias)
            slope = posterior.mul_((levels - means[part]).mul_(grad_outputs[0][part]))
            to_features[part], to_seen[part, 0] = slope @ scores, 2 * weight[part, 0] * (slope @ levels)
            to_scores.addmm_(slope.T, features[part])
            to_bias += slope.sum(0)
        return to_features, to_seen, None, to_scores, to_bias


def _posterior(features: Tensor, seen: tuple[Tensor, Tensor], scores: Tensor, bias: Tensor) -> Tensor:
    values, weight = seen
    unlikely = (values - _levels(values)).square_().mul_(weight)
    return torch.addmm(bias, features, scores.T).sub_(unlikely).softmax(-1)


def _levels(like: Tensor) -> Float[Tensor, "levels"]:
    return torch.arange(LEVELS, device=like.device, dtype=like.dtype) / 127.5 - 1


def _parts(count: int) -> list[slice]:
    return [slice(start, start + PART) for start in range(0, count, PART)]
