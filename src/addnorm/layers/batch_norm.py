"""Batch normalisation over tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.layers.padding import current_padding, is_again

if TYPE_CHECKING:
    from jaxtyping import Float


class BatchNorm(nn.Module):
    """Batch normalisation over tokens: each feature by its mean and variance over all real tokens of the batch.

    `(x - mean_tokens(x)) / sqrt(var_tokens(x) + eps) * weight + bias`; running statistics in evaluation. Padded tokens
    (see `padding`) have no part in the statistics. In training it mixes tokens, so it is not causal.
    Ioffe and Szegedy 2015, arXiv:1502.03167; over tokens as in Shen et al. 2020, arXiv:2003.07845.

    Args:
        d_model: the width.
        eps: added to the variance.
        momentum: the share of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d_model: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("running_mean", torch.zeros(d_model))
        self.register_buffer("running_var", torch.ones(d_model))

    def reset_parameters(self) -> None:
        """Gain one, bias zero, running statistics of a standard normal."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Each feature normalised over the real tokens."""
        keep = current_padding()
        if keep is None or not self.training:
            flat = x.reshape(-1, x.shape[-1])
            return self._normalise(flat).view_as(x)
        normed = torch.zeros_like(x)
        normed[keep] = self._normalise(x[keep]).to(x.dtype)
        return normed

    def _normalise(self, tokens: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens d_model"]:
        if self.training and len(tokens) < 2:
            raise UserError(f"batch norm saw {len(tokens)} real token in training; give it 2 or more, or another norm.")
        mean, variance = self.running_mean, self.running_var
        if is_again():
            mean, variance = mean.clone(), variance.clone()
        return F.batch_norm(tokens, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)
