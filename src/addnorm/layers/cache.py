"""The keys and values of tokens that a model has already seen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.kernels.precision import wide
from addnorm.layers.linear_attention import LinearState

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SMALLEST = 64  # tokens a fresh slot has room for; short texts then never move


@dataclass(eq=False)
class KVCache:
    """Keys and values of the tokens seen so far, one slot an attention layer; memory doubles when a slot is full.

    A layer with a sliding window has the last tokens of it only, one with linear attention its state.

    Rows are sequences: every call must bring the same ones. With gradients on, each call copies instead of writing in
    place, so that backward passes through the cache as through one long forward.
    """

    _slots: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _lengths: dict[nn.Module, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many tokens the first layer has in the cache: how many the model has seen."""
        return next(iter(self._lengths.values()), 0)

    def length(self, layer: nn.Module) -> int:
        """How many tokens the layer has seen through the cache."""
        return self._lengths.get(layer, 0)

    @property
    def bytes(self) -> int:
        """What all slots take, the room for tokens to come included."""
        return sum(tensor.nbytes for slot in self._slots.values() for tensor in slot)

    def state(self, layer: nn.Module, key: Float[Tensor, "batch heads new d_head"]) -> LinearState | None:
        """What linear attention has left of the tokens so far; None before the first.

        Raises:
            UserError: the rows or the dtype of the new keys are not those of the earlier tokens.
        """
        self._check(layer, wide(key))
        return LinearState(*self._slots[layer]) if layer in self._slots else None

    def replace(self, layer: nn.Module, state: LinearState, new_tokens: int) -> None:
        """Put the state after the new tokens in place of the one before them."""
        self._slots[layer], self._lengths[layer] = state, self.length(layer) + new_tokens

    def append(
        self,
        layer: nn.Module,
        key: Float[Tensor, "batch heads new d_head"],
        value: Float[Tensor, "batch heads new d_head"],
        window: int | None = None,
    ) -> tuple[Float[Tensor, "batch heads all d_head"], Float[Tensor, "batch heads all d_head"]]:
        """Store the new tokens' keys and values; all of them so far, the new ones last.

        With a window no more than its last tokens stay, and what is returned begins `window - 1` before the new ones.

        Raises:
            UserError: the number of rows or the dtype is not that of the earlier tokens.
        """
        self._check(layer, key)
        old, new = self.length(layer), self.length(layer) + key.shape[2]
        if window is not None:
            self._lengths[layer] = new
            return self._rolled(layer, key, value, window)
        if key.requires_grad or value.requires_grad:
            self._slots[layer] = self._joined(layer, key, value)
        else:
            if layer not in self._slots or self._slots[layer][0].shape[2] < new:
                self._slots[layer] = self._grown(layer, (key, value), max(2 * new, SMALLEST))
            keys, values = self._slots[layer]
            keys[:, :, old:new], values[:, :, old:new] = key, value
        self._lengths[layer] = new
        return self.stored(layer)

    def room_for_one(self, layer: nn.Module, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """The layer's slot for a token that counts from now on, and that the caller writes behind the others.

        None where there is no slot, or no room in it, or rows or dtype are others: `append` knows what to do.
        """
        slot, length = self._slots.get(layer), self.length(layer)
        if slot is None or slot[0].shape[2] <= length or slot[0].shape[0] != rows or slot[0].dtype != dtype:
            return None
        self._lengths[layer] = length + 1
        return slot

    def select(self, rows: Int[Tensor, "kept"], besides: Collection[nn.Module] = ()) -> None:
        """Go on with these rows, in this order; a row may come several times, as in a beam search.

        Args:
            rows: numbers of the rows there are.
            besides: layers whose slots stay as they are, because these rows are alike in them.
        """
        for layer, slot in self._slots.items():
            if layer in besides:
                continue
            if isinstance(slot, LinearState):
                self._slots[layer] = LinearState(slot.products[rows], slot.sums[rows])
            else:
                key, value = (_filled_rows(tensor, rows, self.length(layer)) for tensor in slot)
                self._slots[layer] = key, value

    def stored(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """The layer's keys and values so far."""
        keys, values = self._slots[layer]
        return keys[:, :, : self.length(layer)], values[:, :, : self.length(layer)]

    def _check(self, layer: nn.Module, key: Tensor) -> None:
        if layer not in self._slots:
            return
        had = self._slots[layer][0]
        if had.shape[0] != key.shape[0] or had.dtype != key.dtype:
            raise UserError(
                f"the cache holds {had.shape[0]} rows of {had.dtype}, {key.shape[0]} rows of {key.dtype} came; "
                "start a new KVCache() for new sequences."
            )

    def _joined(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self._slots:
            return key, value
        keys, values = self.stored(layer)
        return torch.cat((keys, key), dim=2), torch.cat((values, value), dim=2)

    def _rolled(self, layer: nn.Module, key: Tensor, value: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """The new tokens after the last `window - 1`; copies as much as the attention over them reads."""
        if layer in self._slots:
            earlier = (x[:, :, max(0, x.shape[2] - window + 1) :] for x in self._slots[layer])
            key, value = (torch.cat(pair, dim=2) for pair in zip(earlier, (key, value), strict=True))
        # A slice would hold on to the whole.
        last = [x[:, :, -window:].clone() if x.shape[2] > window else x for x in (key, value)]
        self._slots[layer] = last[0], last[1]
        return key, value

    def _grown(self, layer: nn.Module, like: tuple[Tensor, Tensor], capacity: int) -> tuple[Tensor, Tensor]:
        batch, heads, _, width = like[0].shape
        key, value = (new.new_empty(batch, heads, capacity, width) for new in like)
        if layer in self._slots:
            length = self.length(layer)
            key[:, :, :length], value[:, :, :length] = self.stored(layer)
        return key, value


def _filled_rows(slot: Float[Tensor, "batch heads room d_head"], rows: Tensor, length: int) -> Tensor:
    """These rows of a slot, with as much room as it had; what is not filled is not copied."""
    if slot.shape[2] <= length:  # a sliding window's slot may hold fewer tokens than were seen
        return slot[rows]
    selected = slot.new_empty(len(rows), *slot.shape[1:])
    selected[:, :, :length] = slot[rows, :, :length]
    return selected
