"""Sliding-window attention, block by block: work and memory grow with tokens times window, not with tokens squared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.layers.context import attention_mask
from addnorm.layers.mixture import fused_mixture
from addnorm.layers.views import Views

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SMALLEST = 64  # queries in a block: below that, calls cost more than the products they save


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a token sees.

    Args:
        back: tokens before itself.
        ahead: tokens after itself.
        causal: ahead is nothing at all.
    """

    back: int
    ahead: int
    causal: bool


def reach_of(window: int, *, causal: bool) -> Reach:
    """Causal: a token and the `window - 1` before it. Otherwise: a token and `window // 2` on each side."""
    if causal:
        return Reach(back=window - 1, ahead=0, causal=True)
    return Reach(back=window // 2, ahead=window // 2, causal=False)


def window_mixture(
    heads: Views, keep: Bool[Tensor, "batch keys"] | None, reach: Reach, dropout: float
) -> Float[Tensor, "batch heads queries d_head"]:
    """`softmax(q k^T / sqrt(d_head) + mask) v` where the mask lets query i see keys `i - back` to `i + ahead`.

    Beltagy et al. 2020, arXiv:2004.05150. The queries are cut into blocks that are at least as long as the reach, so
    that a block's keys are its own and those of the blocks beside it; the blocks become rows of one call of
    `scaled_dot_product_attention`. A token that sees nothing gets zeros.

    Args:
        heads: `(batch, heads, tokens, d_head)` each; keys and values may have fewer heads. With more keys than queries
            the queries are the last ones.
        keep: which keys are real; None = all.
        reach: how far a query sees.
        dropout: the probability of dropping a weight; the scores, queries times keys in reach, are then held.
    """
    query, key, _ = heads
    tokens, early = key.shape[2], key.shape[2] - query.shape[2]
    if tokens - 1 <= min(reach.back, tokens if reach.causal else reach.ahead):
        direct = keep is None and not early
        mask = None if direct else attention_mask(None, keep, reach.causal, query, key)
        return fused_mixture(heads, mask, causal=direct and reach.causal, dropout=dropout)
    blocks = _Blocks(tokens, reach)
    near = Views(blocks.own(F.pad(query, (0, 0, early, 0))), blocks.near(key), blocks.near(heads.value))
    mixed = [_rows(near, slice(first, last), mask, dropout) for first, last, mask in blocks.masks(keep, key.device)]
    return torch.cat(mixed, dim=2).flatten(2, 3)[:, :, early:tokens]


class _Blocks:
    """Tokens cut into blocks, each with the blocks beside it that its queries reach into."""

    def __init__(self, tokens: int, reach: Reach) -> None:
        self.tokens, self.reach = tokens, reach
        self.size = max(reach.back, reach.ahead, SMALLEST)
        self.count = -(-tokens // self.size)
        self.before, self.after = int(reach.back > 0), int(reach.ahead > 0)

    def own(self, x: Float[Tensor, "batch heads tokens d_head"]) -> Float[Tensor, "batch heads blocks size d_head"]:
        """Each block's own tokens; zeros fill the last one."""
        return F.pad(x, (0, 0, 0, self.count * self.size - self.tokens)).unflatten(2, (self.count, self.size))

    def near(self, x: Float[Tensor, "batch heads tokens d_head"]) -> Float[Tensor, "batch heads blocks keys d_head"]:
        """Each block's tokens and those of the blocks beside it; zeros where there are none."""
        fill = (self.count + self.after) * self.size - self.tokens
        padded = F.pad(x, (0, 0, self.before * self.size, fill)).unflatten(2, (-1, self.size))
        beside = self.before + 1 + self.after
        return torch.cat([padded[:, :, first : first + self.count] for first in range(beside)], dim=3)

    def masks(self, keep: Tensor | None, device: torch.device) -> list[tuple[int, int, Tensor]]:
        """First block, last block + 1, and their mask: `(rows, blocks, 1, size, keys)`, or 1 for many.

        Where nothing is padded, blocks away from the ends have the same mask, so that it is held once.
        """
        band = self._band(device)
        real = torch.ones(1, self.tokens, dtype=torch.bool, device=device) if keep is None else keep
        real = self.near(real[:, None, :, None])[:, 0, :, None, None, :, 0]  # (rows, blocks, 1, 1, keys)
        if keep is not None:
            return [(0, self.count, band & real)]
        # The first blocks reach before the first token; the last reach beyond the last one, the one before them too,
        # as the last may be short. Looking back only, tokens that fill the last block are seen by none.
        first = min(self.before, self.count)
        last = max(first, self.count - 1 - self.after) if self.after else self.count
        parts = ((0, first, band & real[:, :first]), (first, last, band), (last, self.count, band & real[:, last:]))
        return [part for part in parts if part[1] > part[0]]

    def _band(self, device: torch.device) -> Bool[Tensor, "1 1 1 size keys"]:
        query = torch.arange(self.size, device=device)[:, None] + self.before * self.size
        distance = query - torch.arange((self.before + 1 + self.after) * self.size, device=device)
        return ((distance <= self.reach.back) & (distance >= -self.reach.ahead))[None, None, None]


def _rows(near: Views, blocks: slice, mask: Tensor, dropout: float) -> Float[Tensor, "batch heads blocks size d_head"]:
    """The mixtures of some blocks: the blocks become rows of a batch."""
    batch, count = near.query.shape[0], blocks.stop - blocks.start
    rows = Views(*(x[:, :, blocks].transpose(1, 2).flatten(0, 1) for x in near))
    if mask.shape[:2] != (1, 1):
        mask = mask.expand(batch, count, -1, -1, -1)
    mixed = fused_mixture(rows, mask.flatten(0, 1), causal=False, dropout=dropout)
    return mixed.unflatten(0, (batch, count)).transpose(1, 2)
