"""Every window of a text once an epoch, in an order that is computed and never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Int

    from addnorm.data.tokens.token_store import Shards

ROUNDS = 8
# The multipliers of splitmix64's output function (Steele et al. 2014).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A pseudo-random order of the numbers below `size`, of which each place is computed on its own.

        (l, r) <- (r, l xor f(r + k_i))  for each of 8 rounds, on the halves of a number of 2b bits,
        again where the outcome is not below size

    A Feistel network is a bijection whatever f is (Luby and Rackoff 1988); walking its cycle until the outcome is
    small enough keeps it one on any size (Black and Rogaway 2002). 4^b is below four times the size, so a place takes
    fewer than four walks on average.

    Args:
        size: how many numbers.
        seed: of the run.
        epoch: another order for each.

    >>> sorted(Permutation(10, seed=0, epoch=0)(np.arange(10)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(self, size: int, *, seed: int, epoch: int) -> None:
        assert size >= 1, size
        self.size = size
        self._bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._bits)) - 1)
        self._keys = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(ROUNDS)

    def __call__(self, places: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The numbers at these places of the order."""
        found = self._once(places.astype(np.uint64))
        while (outside := found >= self.size).any():
            found[outside] = self._once(found[outside])
        return found.astype(np.int64)

    def _once(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._bits, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return left << self._bits | right


def _mixed(numbers: np.ndarray) -> np.ndarray:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))


class WindowStream:
    """The training tokens of a store, epoch by epoch.

    A window is `context` tokens, the next one begins where it ends; its targets are the tokens one further. Example
    number i of a run is window `i mod n` in the order of epoch `i div n`, so a batch depends on seed and step only.

    Args:
        tokens: of the split.
        name: what errors call it.
    """

    def __init__(self, tokens: Shards, *, name: str = "training") -> None:
        self.tokens, self.name = tokens, name

    def __len__(self) -> int:
        return len(self.tokens)

    def windows(self, context: int) -> int:
        """How many there are; up to `context` tokens at the end fill none."""
        return (len(self) - 1) // context

    def starts(self, seed: int, step: int, batch_size: int, context: int) -> Int[np.ndarray, "batch_size"]:
        """Where the windows of a step begin; a step may lie in two epochs or more."""
        count = self.windows(context)
        examples = [divmod(step * batch_size + i, count) for i in range(batch_size)]  # Python's: no number is too large
        epochs = np.array([epoch for epoch, _ in examples])
        found = np.array([place for _, place in examples])
        for epoch in set(epochs.tolist()):
            here = epochs == epoch
            found[here] = Permutation(count, seed=seed, epoch=epoch)(found[here])
        return found * context

    def batch(self, seed: int, step: int, batch_size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, int64 [batch_size, context].

        Raises:
            UserError: the split is shorter than one window and its last target, or a shard is damaged.
        """
        self.check_length(context)
        read = self.tokens.windows(self.starts(seed, step, batch_size, context), context + 1)
        return read[:, :-1].copy(), read[:, 1:].copy()

    def check_length(self, context: int) -> None:
        """Refuse a context that the split cannot fill.

        Raises:
            UserError: with the tokens there are and the tokens needed.
        """
        if len(self) <= context:
            raise UserError(
                f"the {self.name} split has {len(self)} tokens, context={context} needs {context + 1} or more; "
                "use more text or a smaller context."
            )
