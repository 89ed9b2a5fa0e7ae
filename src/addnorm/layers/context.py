"""What a forward pass hands to every sublayer beside the tokens: masks, positions, memory, cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from addnorm.layers.cache import KVCache


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One forward pass's surroundings; every field may be left out.

    A mask says which keys a query may attend to. It is boolean (True = may attend) or additive (added to the scores),
    of shape `(queries, keys)`, `(batch, queries, keys)` or `(batch, heads, queries, keys)`; a dimension may be 1.

    Args:
        causal: a token attends to itself and to earlier tokens only.
        mask: the mask of self-attention.
        keep: which tokens are real, `(batch, keys)`, True = real; padding is never attended to.
        positions: the position of each token, `(tokens,)` or `(batch, tokens)`; 0, 1, 2 ... by default.
        memory: the encoder's output for cross-attention, `(batch, memory_tokens, d_model)`.
        memory_mask: the mask of cross-attention.
        memory_keep: which memory tokens are real, `(batch, memory_tokens)`.
        cache: keys and values of earlier tokens; the new ones are appended.
        passed: what attentions of this forward leave for later ones, by kind of attention and name; filled on the way.
        turns: cosines and sines of the positions' angles, by what they depend on; filled on the way.
    """

    causal: bool = False
    mask: Tensor | None = None
    keep: Bool[Tensor, "batch keys"] | None = None
    positions: Int[Tensor, "*batch tokens"] | None = None
    memory: Float[Tensor, "batch memory_tokens d_model"] | None = None
    memory_mask: Tensor | None = None
    memory_keep: Bool[Tensor, "batch memory_tokens"] | None = None
    cache: KVCache | None = None
    passed: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    turns: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @cached_property
    def only_position(self) -> int | None:
        """The position where one and the same token of each row is new; read once for all layers."""
        return int(self.positions) if self.positions is not None and self.positions.shape == (1,) else None

    def passed_between(self, kind: str) -> dict[str, Tensor]:
        """What attentions of a kind leave for each other."""
        return self.passed.setdefault(kind, {})

    def passed_so_far(self) -> dict[str, dict[str, Tensor]]:
        """A copy of what has been left up to now."""
        return {kind: dict(tensors) for kind, tensors in self.passed.items()}

    def rewind(self, passed: dict[str, dict[str, Tensor]]) -> None:
        """Take back what was left since the copy was made."""
        self.passed.clear()
        self.passed.update({kind: dict(tensors) for kind, tensors in passed.items()})


def attention_mask(
    mask: Tensor | None,
    keep: Bool[Tensor, "batch keys"] | None,
    causal: bool,
    query: Float[Tensor, "batch heads queries d_head"],
    key: Float[Tensor, "batch kv_heads keys d_head"],
) -> Tensor | None:
    """One mask from a user's mask, the padding and causality, broadcastable to `(batch, heads, queries, keys)`.

    Args:
        mask: as in `Context`, or None.
        keep: as in `Context.keep`, or None.
        causal: forbid keys after the query; with more keys than queries the queries are the last ones.
        query: gives the number of heads and queries.
        key: gives the number of keys.

    Returns:
        A boolean mask (True = may attend), an additive one when `mask` is additive, or None when all may attend.

    Raises:
        UserError: a mask has a wrong shape or dtype.
    """
    batch, heads, queries, keys = *query.shape[:3], key.shape[2]
    allowed = None
    if keep is not None:
        check_keep(keep, (batch, keys))
        allowed = keep[:, None, None, :]
    if causal and queries > 1:
        triangle = torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril(keys - queries)
        allowed = triangle if allowed is None else allowed & triangle
    if mask is None:
        return allowed
    _check_mask(mask, (batch, heads, queries, keys))
    if mask.dim() == 3:
        mask = mask[:, None]
    if mask.dtype == torch.bool:
        return mask if allowed is None else mask & allowed
    mask = mask.to(query.dtype)
    return mask if allowed is None else torch.where(allowed, mask, float("-inf"))


def check_keep(keep: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a padding mask that is not boolean or not one entry a token.

    Raises:
        UserError: the dtype or the shape is wrong.
    """
    if keep.dtype != torch.bool:
        raise UserError(f"the padding mask has dtype {keep.dtype}; give booleans, True = real token: keep.bool().")
    if tuple(keep.shape) != shape:
        raise UserError(f"the padding mask has shape {tuple(keep.shape)}; it must be (batch, tokens) = {shape}.")


def _check_mask(mask: Tensor, shape: tuple[int, int, int, int]) -> None:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise UserError(
            f"the attention mask has dtype {mask.dtype}; "
            "give booleans (True = may attend) or floats (added to the scores)."
        )
    batch, heads, queries, keys = shape
    wanted = {2: (queries, keys), 3: (batch, queries, keys), 4: shape}.get(mask.dim(), ())
    if not wanted or any(size not in (1, want) for size, want in zip(mask.shape, wanted, strict=True)):
        raise UserError(
            f"the attention mask has shape {tuple(mask.shape)}; it must be (queries, keys) = {(queries, keys)}, with "
            f"(batch, heads) = {(batch, heads)} or batch alone before it; for padding give (batch, 1, keys)."
        )
