"""The feed-forward sublayer: ReLU, GELU or SwiGLU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_probability
from addnorm.errors import unknown
from addnorm.kernels.rebuild import rebuildable
from addnorm.layers.inside import Inside, Parts, PlaceShape
from addnorm.layers.linear import mapped
from addnorm.layers.one_token import feedforward_of_one
from addnorm.layers.whole_sublayer import feedforward_whole

if TYPE_CHECKING:
    from jaxtyping import Float

Activation = Literal["relu", "gelu", "gelu-tanh", "swiglu"]
ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "swiglu": F.silu,
}


class FeedForward(nn.Module):
    """The feed-forward sublayer: `W2 act(W1 x)`; SwiGLU: `W2 (silu(Wg x) * W1 x)`.

    ReLU: Vaswani et al. 2017, arXiv:1706.03762. GELU: Hendrycks and Gimpel 2016, arXiv:1606.08415; "gelu-tanh"
    is its approximation by a tanh, which GPT-2 was trained with. SwiGLU: Shazeer 2020, arXiv:2002.05202.

    Args:
        d_model: the width.
        d_ff: the inner width; by default 4 times `d_model`, for SwiGLU 8/3 times, rounded up to a multiple of 8.
        activation: "relu", "gelu", "gelu-tanh" or "swiglu".
        bias: whether the linears have biases.
        output_dropout: the probability of dropping a feature of the output in training.
        inside: what a residual scheme asks for within the layer.

    Raises:
        UserError: a width is below 1, the activation is unknown, or the dropout is no probability.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int | None = None,
        activation: Activation = "gelu",
        bias: bool = True,
        output_dropout: float = 0.0,
        inside: Inside | None = None,
    ) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise unknown("activation", activation, get_args(Activation))
        check_probability("output_dropout", output_dropout)
        gated = activation == "swiglu"
        width = (-(-8 * d_model // 24) * 8 if gated else 4 * d_model) if d_ff is None else d_ff
        check_at_least("d_model", d_model, 1)
        check_at_least("d_ff", width, 1)
        self.activation, self.output_dropout = activation, output_dropout
        self.fc1 = nn.Linear(d_model, width, bias=bias)
        self.fc2 = nn.Linear(width, d_model, bias=bias)
        self.gate = nn.Linear(d_model, width, bias=bias) if gated else None
        self.built_for = inside or Inside()
        places = ("inner", "gate", "activated") if gated else ("inner", "activated")
        shape = PlaceShape(heads=0, width=width, d_model=d_model)
        self.inside = Parts(self.built_for, dict.fromkeys(places, shape))

    def value_paths(self) -> list[tuple[nn.Linear, ...]]:
        """The linears from input to output projection: inner, outer."""
        return [(self.fc1, self.fc2)]

    def stream_weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights whose rows are vectors of the stream, and those whose columns are."""
        reading = [self.fc1.weight] if self.gate is None else [self.fc1.weight, self.gate.weight]
        return reading, [self.fc2.weight]

    def forward(self, x: Float[Tensor, "*tokens d_model"], *_: Any) -> Float[Tensor, "*tokens d_model"]:
        """Each token alone."""
        if not (self.training or torch.is_grad_enabled() or len(self.inside)):
            linears = (self.fc1, self.fc2) if self.gate is None else (self.fc1, self.gate, self.fc2)
            if (output := feedforward_of_one(linears, self.activation, x)) is not None:
                return output
        output = None
        if self.gate is None and not len(self.inside):
            output = feedforward_whole((self.fc1, self.fc2), self.activation, x)
        output = mapped(self.fc2, self._activated(x)) if output is None else output
        return F.dropout(output, self.output_dropout, self.training) if self.output_dropout else output

    def _activated(self, x: Tensor) -> Tensor:
        inner, act = mapped(self.fc1, x), ELEMENTWISE[self.activation]
        if "inner" in self.inside.places:
            inner = self.inside.at("inner", inner, {})
        if self.gate is None:
            activated = rebuildable(act(inner), act, inner)
        else:
            gate = self.inside.at("gate", mapped(self.gate, x), {})
            gate = rebuildable(act(gate), act, gate)
            activated = rebuildable(gate * inner, torch.mul, gate, inner)
        return self.inside.at("activated", activated, {}) if "activated" in self.inside.places else activated
