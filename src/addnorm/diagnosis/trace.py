"""What one forward and one backward leave on a trunk, in one layout whatever the model's own is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from addnorm.diagnosis.trunk import Trunk

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Detached tensors of one batch; `tokens` is any number of leading dimensions, mostly (batch, tokens).

    Args:
        trunk: what was traced; `L` sublayers.
        states: L + 1: before the first sublayer and after each; a lone stream has n = 1. Under depth attention the
            vectors that may still be read.
        reads: L: what each sublayer was given, after its norm; None where it was not to be seen.
        writes: L: what each one's output was when it was written: after its own norm, gain and gate. Of several streams
            before the gates that share it out among them; where each stream gets another vector, their mean.
        state_gradients: L + 1: of the loss, in the layout of `states`; None where no gradient was asked for or came.
        hidden: what the final norm was given; with several streams after they were collapsed.
        final: what it made of it; what the head reads.
        loss: of the batch; None without targets.
        mask: which tokens are real; None = all.
        attention: by name of an attention module its weights; empty where the model does not show them.
        non_finite: dotted name of the first module whose output is not finite; None if all are.
    """

    trunk: Trunk
    states: Sequence[Float[Tensor, "*tokens n d_model"]]
    reads: Sequence[Float[Tensor, "*tokens d_model"] | None]
    writes: Sequence[Float[Tensor, "*tokens d_model"]]
    state_gradients: Sequence[Float[Tensor, "*tokens n d_model"] | None] = ()
    hidden: Float[Tensor, "*tokens d_model"] | None = None
    final: Float[Tensor, "*tokens d_model"] | None = None
    loss: float | None = None
    mask: Tensor | None = None
    attention: dict[str, Float[Tensor, "batch heads queries keys"]] = field(default_factory=dict)
    non_finite: str | None = None
