"""Highway connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from torch import Tensor, nn

from addnorm.checks import check_finite
from addnorm.errors import unknown
from addnorm.kernels.precision import uncast
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._carried import Gated

if TYPE_CHECKING:
    from jaxtyping import Float

Gate = Literal["feature", "token"]


class HighwayConnection(Connection):
    """`g * F(norm(x)) + (1 - g) * x`, `g = sigmoid(gate(x))`."""

    def __init__(self, d_model: int, norm: NormKind, gates: int, bias: float) -> None:
        super().__init__()
        self.bias = bias
        self.norm = make_norm(norm, d_model)
        self.gate = nn.Linear(d_model, gates)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A gate that is the same for all tokens, and mostly closed."""
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, self.bias)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Gated]:
        """The stream, normalised if there is a norm; stream and gate are the skip."""
        with uncast(state):
            gate = self.gate(state).sigmoid()
        return self.norm(state), Gated(state, gate)

    def write(self, skip: Gated, update: Tensor) -> Tensor:
        """Move from the stream towards the update, as far as the gate is open."""
        return skip.gate * update + (1 - skip.gate) * skip.stream


@dataclass(frozen=True, kw_only=True)
class Highway(Scheme):
    """Highway: a learned gate of the stream decides how much of the update replaces how much of the stream; no norm.

        g = sigmoid(W x + b);    x <- g * F(x) + (1 - g) * x;    hidden = x

    At initialisation W is zero and b negative, so that the stream is mostly carried. With a `norm` it is
    `x <- g * F(n(x)) + (1 - g) * x; hidden = n(x)`.

    Reference: Srivastava et al. 2015, arXiv:1505.00387.
    Cost: d^2 + d parameters a sublayer, d + 1 with a gate a token; residual traffic 4d a token and sublayer.
    Deviation: the paper draws W at random; here it starts at zero, so that all depends on b alone.

    Args:
        bias: the initial b; the paper suggests -1 to -3.
        gate: "feature" is the paper's, a gate a feature; "token" is one gate a token.
    """

    norm: NormKind = "none"
    bias: float = -2.0
    gate: Gate = "feature"

    diagram: ClassVar[str] = "fork skip:1-g sublayer scale:g add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite("bias", self.bias)
        if self.gate not in get_args(Gate):
            raise unknown("gate", str(self.gate), get_args(Gate))

    def connection(self, d_model: int, site: Site) -> Connection:
        """The projection to the gate."""
        return HighwayConnection(d_model, self.norm, d_model if self.gate == "feature" else 1, float(self.bias))
