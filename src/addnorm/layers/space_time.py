"""Attention over one axis of a video: along the frames of a patch, or among the patches of a frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from addnorm.errors import UserError
from addnorm.layers.attention import Attention, AttentionOptions, check_vectors
from addnorm.layers.context import Context
from addnorm.layers.views import Views, views_of

if TYPE_CHECKING:
    from jaxtyping import Float


class SpaceAttention(Attention):
    """Each patch attends to the patches of its own frame: frames become rows of a batch.

        x_(t,p) -> sum_q softmax_q(q_(t,p) . k_(t,q) / sqrt(d_head)) v_(t,q)

    One of the two halves of attention over a video, `F P^2 + P F^2` scores instead of `(F P)^2`: "divided" in Bertasius
    et al. 2021, arXiv:2102.05095; "factorised self-attention", model 3, in Arnab et al. 2021, arXiv:2103.15691. What
    attentions pass to each other stays among those of the same axis. The cache is not its own: a frame comes whole.

    Args:
        d_model: the width.
        num_heads: heads of the queries.
        patches: of a frame; the tokens are the patches of the first frame, then those of the second.
        options: see `AttentionOptions`.

    Raises:
        UserError: as `Attention`.
    """

    kind: ClassVar[str] = "space-attention"

    def __init__(self, d_model: int, num_heads: int, patches: int, options: AttentionOptions | None = None) -> None:
        super().__init__(d_model, num_heads, options)
        self.patches = patches

    def forward(
        self, x: Float[Tensor, "batch frames*patches d_model"] | Views, context: Context | None = None
    ) -> Float[Tensor, "batch frames*patches d_model"]:
        """Each patch's mixture of its frame's values."""
        rows = Views(*(self._frames(view).flatten(0, 1) for view in views_of(x)))
        mixed = super().forward(rows, replace(context or Context(), causal=False, cache=None))
        return mixed.reshape(views_of(x).query.shape)

    def _frames(self, x: Tensor) -> Float[Tensor, "batch frames patches d_model"]:
        check_vectors("what attends", x, self.d_model)
        if x.shape[1] % self.patches:
            raise UserError(f"{x.shape[1]} tokens are no whole frames of {self.patches} patches; bring whole frames.")
        return x.unflatten(1, (-1, self.patches))


class TimeAttention(SpaceAttention):
    """Each patch attends to the same patch of its own frame and of those before: patches become rows of a batch.

        x_(t,p) -> sum_(s<=t) softmax_s(q_(t,p) . k_(s,p) / sqrt(d_head)) v_(s,p)

    The other half; always causal, so that every frame can be a prediction from the frames before it. See
    `SpaceAttention`.
    """

    kind: ClassVar[str] = "time-attention"

    def forward(
        self, x: Float[Tensor, "batch frames*patches d_model"] | Views, context: Context | None = None
    ) -> Float[Tensor, "batch frames*patches d_model"]:
        """Each patch's mixture of its past values."""
        batch = views_of(x).query.shape[0]
        rows = Views(*(self._frames(view).transpose(1, 2).flatten(0, 1) for view in views_of(x)))
        mixed = Attention.forward(self, rows, replace(context or Context(), causal=True))
        return mixed.unflatten(0, (batch, self.patches)).transpose(1, 2).flatten(1, 2)
