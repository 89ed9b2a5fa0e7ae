"""Dynamic hyper-connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from addnorm.checks import check_positive
from addnorm.config import OptimizerRule
from addnorm.kernels.precision import uncast, wide
from addnorm.kernels.streams import add_update
from addnorm.layers.norm import make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._streams import Mixed, StreamScheme, one_hot_read, read_and_mix

if TYPE_CHECKING:
    from jaxtyping import Float


class HyperConnection(Connection):
    """`A_r^T X + B^T F(n(A_m^T X))` with coefficients that depend on the token.

    `static` holds `[A_m | A_r | B]` and `weight` the rows `W_m, W_r, W_b`: a column and a row for each coefficient
    that a stream has.
    """

    def __init__(self, d_model: int, site: Site, scheme: HyperConnections) -> None:
        super().__init__()
        n = scheme.streams
        self.home, self.initial_scale = site.index % n, scheme.scale
        self.norm = make_norm(scheme.norm, d_model)
        self.stream_norm = make_norm("rms" if scheme.norm == "rms" else "layer", d_model)
        self.static = nn.Parameter(torch.empty(n, n + 2))
        self.weight = nn.Parameter(torch.empty(n + 2, d_model))
        self.scale = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The static part alone decides; it is that of one residual stream."""
        self.static.copy_(one_hot_read(len(self.static), self.home))
        self.weight.zero_()
        self.scale.fill_(self.initial_scale)

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Mixed]:
        """`n(A_m^T X)`; the skip is `A_r^T X` and `B`."""
        coefficients = self.coefficients(state)
        read, mixed = read_and_mix(state, coefficients[..., :-1])
        return self.norm(read), Mixed(mixed, coefficients[..., -1])

    def write(self, skip: Mixed, update: Tensor) -> Tensor:
        """`A_r^T X + B^T y`."""
        mixed, gains = skip
        return add_update(mixed, update, gains)

    def coefficients(self, state: Float[Tensor, "*tokens n d_model"]) -> Float[Tensor, "*tokens n n_plus_2"]:
        """`[A_m | A_r | B]` of each token: `static + s tanh(norm(X) W)`, in float32."""
        with uncast(state):
            logits = self._normed(state) @ wide(self.weight).mT
        s_alpha, s_beta = wide(self.scale)
        scale = torch.cat((s_alpha.expand(logits.shape[-1] - 1), s_beta.expand(1)))
        return wide(self.static) + scale * torch.tanh(logits)

    def _normed(self, state: Tensor) -> Tensor:
        """Each stream normalised, in float32 whatever the parameters are."""
        if state.dtype == wide(state).dtype:
            return self.stream_norm(state)
        return functional_call(
            self.stream_norm, {name: wide(p) for name, p in self.stream_norm.named_parameters()}, (wide(state),)
        )


@dataclass(frozen=True, kw_only=True)
class HyperConnections(StreamScheme):
    """HC: n residual streams that each token reads, mixes and writes with weights of its own.

        X <- A_r^T X + B^T F(n(A_m^T X)),  X in R^{n x d};    hidden = n(sum_i X_i)
        A_m = e_{i mod n} + s_a tanh(norm(X) W_m),  A_r = I + s_a tanh(norm(X) W_r)
        B = 1_n + s_b tanh(norm(X) W_b)

    `e`, `I`, `1` and both `s` (0.01) are the initial values of learned parameters, every `W` starts at zero and decays.
    `norm(X)` normalises each stream; it is RMSNorm under `norm=rms`, else the paper's LayerNorm.

    Reference: Zhu et al. 2024, arXiv:2409.19606 (ICLR 2025), equations 1 to 14.
    Cost: d(n + 2) + n^2 + 2n + 2 parameters a sublayer beside two norms, 2nd(n + 2) multiplications a token; residual
    traffic (8n + 2)d a token and sublayer, 34d for n = 4.
    Deviation: the paper scales the initial std of the output projections "by a factor of sqrt(n)", so that the
    output has the std of the original although the streams are summed. Whether that multiplies or, as the purpose
    asks, divides is not said, and public implementations leave it out. Here `output_factor` is 1; 2 and 0.5 are the
    two readings for n = 4.

    Args:
        scale: initial value of both `s`.
        output_factor: on the initial weights of each sublayer's output projection.
    """

    scale: float = 0.01
    output_factor: float = 1.0

    diagram: ClassVar[str] = "streams:4 fork skip:A_r mix:A_m box:n sublayer scale:B add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("scale", self.scale)
        check_positive("output_factor", self.output_factor)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, the static coefficients, and the map to the dynamic ones."""
        return HyperConnection(d_model, site, self)

    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """The output projection times `output_factor`."""
        with torch.no_grad():
            value_path[-1].weight.mul_(self.output_factor)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: each sublayer reads one stream, and all streams are equal."""
        return self.pre_norm_of_equal_streams() if self.output_factor == 1 else None

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The map to the dynamic coefficients decays, as in the paper."""
        return OptimizerRule(decays=own == "weight")
