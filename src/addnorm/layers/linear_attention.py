"""Linear attention: a state of fixed size in place of weights over all earlier tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.kernels.precision import uncast, wide
from addnorm.layers.views import Views

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

CHUNK = 64  # tokens whose products are taken at once; about a head's width, where both kinds of work are alike
FLOOR = 1e-12  # of the denominator: a token that attends to nothing gets zeros, never 0 / 0

Turn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class LinearState(NamedTuple):
    """What is left of all earlier tokens: `sum_j R_j phi(k_j) v_j^T` and `sum_j phi(k_j)`."""

    products: Float[Tensor, "batch kv_heads d_head d_head"]
    sums: Float[Tensor, "batch kv_heads d_head"]


class _Features(NamedTuple):
    """`phi(q)`, `phi(k)` and the same turned; queries of heads that share keys stand side by side."""

    query: Float[Tensor, "batch kv_heads group tokens d_head"]
    key: Float[Tensor, "batch kv_heads tokens d_head"]
    turned_query: Float[Tensor, "batch kv_heads group tokens d_head"]
    turned_key: Float[Tensor, "batch kv_heads tokens d_head"]


def positive(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`phi(x) = elu(x) + 1`, written so that it does not round to zero below -17 in float32."""
    return x.clamp(max=0).exp() + F.relu(x)


def linear_mixture(
    heads: Views, turn: Turn, keep: Bool[Tensor, "batch tokens"] | None, causal: bool, state: LinearState | None
) -> tuple[Float[Tensor, "batch heads tokens d_head"], LinearState]:
    """`sum_j (R_i phi(q_i) . R_j phi(k_j)) v_j / sum_j phi(q_i) . phi(k_j)`, over `j <= i` when causal.

    Katharopoulos et al. 2020, arXiv:2006.16236. Rotary positions turn the features, after phi, and in the numerator
    only: Su et al. 2021, arXiv:2104.09864, section 3.3; the denominator stays a sum of positive numbers. Products are
    summed in float32 (float64 for float64), autocast or not: the sums run over all tokens.

    Args:
        heads: `(batch, heads, tokens, d_head)` each; keys and values may have fewer heads.
        turn: turns queries and keys by their positions.
        keep: which tokens are real; None = all.
        causal: tokens do not see later ones. Taken in chunks: work and memory grow with the tokens.
        state: of earlier tokens, which all of these see; None = there are none.

    Returns:
        The mixtures, and the state that these tokens leave.
    """
    with uncast(heads.query):
        value, state = wide(heads.value), state or _nothing(heads)
        features = _features(heads, turn, keep)
        numerator, products = (_causal_products if causal else _products)(features, value, state.products)
        if causal:
            sums = state.sums[:, :, None] + features.key.cumsum(2)
        else:
            sums = (state.sums + features.key.sum(2))[:, :, None]
        denominator = (features.query * sums[:, :, None]).sum(-1, keepdim=True)
        mixed = (numerator / denominator.clamp_min(FLOOR)).flatten(1, 2).to(heads.value.dtype)
    return mixed, LinearState(products, sums[:, :, -1])


def _features(heads: Views, turn: Turn, keep: Tensor | None) -> _Features:
    query, key = positive(wide(heads.query)), positive(wide(heads.key))
    if keep is not None:
        key = key * keep[:, None, :, None]
    turned_query, turned_key = turn(query, key)
    groups = (key.shape[1], query.shape[1] // key.shape[1])
    return _Features(query.unflatten(1, groups), key, turned_query.unflatten(1, groups), turned_key)


def _nothing(heads: Views) -> LinearState:
    batch, kv_heads, _, width = heads.key.shape
    zeros = wide(heads.key).new_zeros(batch, kv_heads, width, width)
    return LinearState(zeros, zeros[..., 0])


def _products(features: _Features, value: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The numerator where every token sees all, and the new sum of products."""
    products = before + features.turned_key.mT @ value
    return features.turned_query @ products[:, :, None], products


def _causal_products(features: _Features, value: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The numerator where every token sees itself and earlier ones, and the new sum of products.

    Within a chunk by its square of scores, before it by the state that the earlier chunks leave.
    """
    tokens, group = value.shape[2], features.query.shape[2]
    query, key, value = (_chunks(x) for x in (features.turned_query, features.turned_key, value))
    own = key.mT @ value
    # Shifted, not a sum less its last term: that would round by what later tokens hold.
    states = torch.cat((before[:, :, None], own), dim=2).cumsum(2)
    # Heads that share keys become rows of one product: nothing is repeated.
    rows = query.transpose(2, 3).flatten(3, 4)
    size = query.shape[-2]
    earlier = torch.ones(size, size, dtype=torch.bool, device=rows.device).tril().repeat(group, 1)
    numerator = torch.where(earlier, rows @ key.mT, 0.0) @ value + rows @ states[:, :, :-1]
    numerator = numerator.unflatten(3, (group, size)).transpose(2, 3).flatten(3, 4)
    return numerator[..., :tokens, :], states[:, :, -1]


def _chunks(x: Float[Tensor, "*heads tokens d_head"]) -> Float[Tensor, "*heads chunks chunk d_head"]:
    """Tokens in chunks; zeros, which add nothing to a sum, fill the last one."""
    size = min(CHUNK, x.shape[-2])
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size)).unflatten(-2, (-1, size))
