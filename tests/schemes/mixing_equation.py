"""The equation that mHC-lite and KromHC share, transcribed for one token after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transcription import Parts, norm


def equation(n: int, matrix: Callable[[Tensor], Tensor]) -> Callable[[Parts], Tensor]:
    """`X <- H_res X + H_post^T F(n(H_pre X))` with `matrix(logits)` for `H_res`; the sum of the streams at the end."""

    def coefficients(X: Tensor, p: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        flat = X.reshape(-1)
        normed = flat / (flat @ flat / len(flat)) ** 0.5
        a, b = p["coefficients.alpha"], p["coefficients.bias"]
        logits = p["coefficients.phi"] @ normed
        pre = 1 / (1 + torch.exp(-(a[0] * logits[:n] + b[:n])))
        post = 2 / (1 + torch.exp(-(a[1] * logits[n : 2 * n] + b[n : 2 * n])))
        return pre, post, matrix(a[2] * logits[2 * n :] + b[2 * n :])

    def compute(parts: Parts) -> Tensor:
        batch, tokens, width = parts.x.shape
        states = [torch.stack([x] * n) for x in parts.x.reshape(-1, width)]
        for F, p in zip(parts.F, parts.at, strict=True):
            of = [coefficients(X, p) for X in states]
            read = torch.stack([pre @ X for (pre, _, _), X in zip(of, states, strict=True)])
            y = F(norm(read.reshape(batch, tokens, width), p, "norm")).reshape(-1, width)
            states = [H @ X + post[:, None] * update for (_, post, H), X, update in zip(of, states, y, strict=True)]
        summed = torch.stack([X.sum(0) for X in states]).reshape(batch, tokens, width)
        return norm(summed, parts.exit, "norm", eps=1e-5 * n**2)

    return compute
