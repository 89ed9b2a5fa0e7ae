"""The Pre-LN Transformer block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from addnorm.layers.attention import Attention, AttentionOptions, check_vectors
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.norm import LayerNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class TransformerBlock(nn.Module):
    """One Pre-LN layer: `y = x + dropout(Attn(LN(x)))`, `z = y + dropout(FFN(LN(y)))`, batch first.

    Xiong et al. 2020, arXiv:2002.04745. The feed-forward is ReLU and four times as wide, as in Vaswani et al. 2017,
    arXiv:1706.03762. For another scheme, or many layers, take `addnorm.Stack` or `addnorm.Transformer`.

    Args:
        d_model: the width.
        num_heads: attention heads; must divide `d_model`.
        dropout: on the sublayers' outputs and on the attention weights.

    Raises:
        UserError: `num_heads` does not divide `d_model`, or `dropout` is no probability.

    Examples:
        >>> import torch, addnorm
        >>> addnorm.TransformerBlock(64, 8)(torch.randn(2, 10, 64)).shape
        torch.Size([2, 10, 64])
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        options = AttentionOptions(dropout=dropout, output_dropout=dropout)
        self.attention_norm = LayerNorm(d_model)
        self.attention = Attention(d_model, num_heads, options)
        self.feedforward_norm = LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, activation="relu", output_dropout=dropout)

    def forward(
        self, src: Float[Tensor, "batch tokens d_model"], mask: Tensor | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """The layer's output.

        Args:
            src: the input vectors.
            mask: boolean (True = may attend) or additive (added to the scores), of shape `(tokens, tokens)`,
                `(batch, tokens, tokens)` or `(batch, heads, tokens, tokens)`; for padding `(batch, 1, tokens)`. None =
                all tokens attend to all. A boolean mask of `torch.nn.TransformerEncoderLayer` means the opposite
                (True = may not attend): hand in `~mask`. Its floating-point masks mean the same here.
        """
        check_vectors("src", src, self.attention.d_model)
        context = Context(mask=mask)
        src = src + self.attention(self.attention_norm(src), context)
        return src + self.feedforward(self.feedforward_norm(src), context)
