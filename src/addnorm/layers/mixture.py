"""The mixture of values: torch's fused kernel, and one that holds the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels.wide_attention import attention_fits, wide_attention

if TYPE_CHECKING:
    from jaxtyping import Float

    from addnorm.layers.views import Views


def fused_mixture(
    heads: Views, mask: Tensor | None, *, causal: bool, dropout: float
) -> Float[Tensor, "batch heads queries d_head"]:
    """`softmax(q k^T / sqrt(d_head) + mask) v` by `scaled_dot_product_attention`.

    Args:
        heads: `(batch, heads, tokens, d_head)` each; keys and values may have fewer heads.
        mask: boolean (True = may attend) or additive; None = all.
        causal: forbid keys after the query; not beside a mask.
        dropout: the probability of dropping a weight.
    """
    if mask is None and not dropout and attention_fits(*heads):
        return wide_attention(*heads, causal=causal)
    # A branch, not the comparison as an argument: in a compiled graph for any shapes that is a symbol, not a bool.
    grouped = {} if heads.query.shape[1] == heads.key.shape[1] else {"enable_gqa": True}
    return F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout, is_causal=causal, **grouped)


def attention_scores(
    query: Float[Tensor, "batch heads queries d_head"], key: Float[Tensor, "batch kv_heads keys d_head"]
) -> Float[Tensor, "batch heads queries keys"]:
    """`q k^T / sqrt(d_head)`."""
    return (query * query.shape[-1] ** -0.5) @ _for_each_query_head(key, query.shape[1]).mT


def mixture_by_scores(
    scores: Float[Tensor, "batch heads queries keys"],
    value: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Tensor | None,
    dropout: float,
) -> Float[Tensor, "batch heads queries d_head"]:
    """`softmax(scores + mask) v`; zeros where nothing may be attended to."""
    allowed = mask
    if mask is not None and mask.is_floating_point():
        allowed = mask != float("-inf")
        scores = scores + mask.masked_fill(~allowed, 0.0)
    if allowed is not None:
        # A finite number, not -inf: a row without any allowed key would have NaN in its gradient.
        scores = scores.masked_fill(~allowed, -1e30 if scores.dtype.itemsize > 2 else -3e4)
    weights = scores.softmax(-1)
    if allowed is not None:
        weights = weights * allowed
    weights = F.dropout(weights, dropout) if dropout else weights
    return weights @ _for_each_query_head(value, scores.shape[1])


def _for_each_query_head(x: Tensor, heads: int) -> Tensor:
    """Keys or values, once a head of the queries that share them."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)
