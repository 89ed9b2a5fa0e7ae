"""DCA: deep cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least
from addnorm.kernels.normed_projection import normed_projection
from addnorm.layers.norm import NormKind, make_norm
from addnorm.layers.views import Views
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import StreamExit
from addnorm.schemes._weighted_sum import weighted_sum

if TYPE_CHECKING:
    from jaxtyping import Float


class Outputs(NamedTuple):
    """The stream; what this layer has added to it so far, nothing between layers; embedding and outputs kept."""

    stream: Float[Tensor, "*tokens d_model"]
    added: tuple[Float[Tensor, "*tokens d_model"], ...]
    kept: tuple[Float[Tensor, "*tokens d_model"], ...]


class GeneralisedResidual(nn.Module):
    """`x_o = sum_y Y_y * (b_oy + relu(w_o . RMSNorm(Y_y)))`, for each output o.

    Args:
        d_model: the width.
        count: how many Y_y there are.
        outputs: how many x_o.
        std: of the initial w.
        eps: of the RMSNorm.
    """

    def __init__(self, d_model: int, count: int, outputs: int, std: float, eps: float) -> None:
        super().__init__()
        self.std, self.eps = std, eps
        self.bias = nn.Parameter(torch.empty(outputs, count, d_model))
        self.query = nn.Parameter(torch.empty(outputs, d_model))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The plain sum, but for small w: at zero relu has no gradient and they would stay there."""
        self.bias.fill_(1.0)
        self.query.normal_(0.0, self.std)

    def forward(self, history: tuple[Tensor, ...]) -> list[Float[Tensor, "*tokens d_model"]]:
        """The sums, one an output."""
        scores = [self._scores(source) for source in history]
        mixed = []
        for output, bias in enumerate(self.bias.unbind()):
            # Two products, not one with the sum of the weights: backward would keep that sum, of full width.
            weights = (*bias.unbind(), *(score[output] for score in scores))
            mixed.append(weighted_sum(weights, (*history, *history)).to(history[0].dtype))
        return mixed

    def _scores(self, source: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "outputs *tokens 1"]:
        projected = normed_projection(source.reshape(-1, source.shape[-1]), self.query, self.eps)
        return projected.relu().view(-1, *source.shape[:-1], 1)


class DcaConnection(Connection):
    """`x_q + F(norm_q(x_q), norm_k(x_k), norm_v(x_v))`, or `x + F(norm(x))`.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        inward: opens a layer: the sums that are read instead of the stream, queries, keys, values or one for all.
        outward: closes the last layer: the sum that the stream becomes.
        ends: how many of the first and the last outputs are kept where a layer closes; 0 keeps all, None keeps none.
    """

    def __init__(
        self,
        d_model: int,
        norm: NormKind,
        inward: GeneralisedResidual | None,
        outward: GeneralisedResidual | None,
        ends: int | None,
    ) -> None:
        super().__init__()
        self.inward, self.outward, self.ends = inward, outward, ends
        views = 1 if inward is None else len(inward.query)
        self.norms = nn.ModuleList(make_norm(norm, d_model) for _ in range(views))

    def read(self, state: Outputs) -> tuple[Tensor | Views, Outputs]:
        """The normalised stream, or normalised sums; the first of the sums takes the stream's place."""
        sums = [state.stream] if self.inward is None else self.inward(state.kept)
        views = [norm(one) for norm, one in zip(self.norms, sums, strict=True)]
        return views[0] if len(views) == 1 else Views(*views), state._replace(stream=sums[0])

    def write(self, skip: Outputs, update: Tensor) -> Outputs:
        """Add; where a layer closes, all that it has added is its output."""
        x, output = skip.stream + update, sum(skip.added, start=update)
        if self.ends is None:
            return Outputs(x, (output,), skip.kept)
        kept = (*skip.kept, output)
        if self.ends and len(kept) > 2 * self.ends:
            kept = kept[: self.ends] + kept[-self.ends :]
        return Outputs(x if self.outward is None else self.outward(kept)[0], (), kept)


class OutputsEntrance(nn.Module):
    """The embedding is the stream, and the first output."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Outputs:
        """The first state."""
        return Outputs(embedding, (), (embedding,))


@dataclass(frozen=True, kw_only=True)
class Dca(Scheme):
    """DCA: queries, keys and values of each layer are sums of their own of the layers' outputs, weighted by feature.

        x_o = sum_y Y_y * (b_oy + relu(w_o . RMSNorm(Y_y))),  o = q, k, v
        a = Attention(n_q(x_q), n_k(x_k), n_v(x_v)),  Y_new = a + FFN(n(x_q + a));    hidden = n(x) with one output

    Y_0 is the embedding; a layer's output is what it adds, without the stream. b in R^d per output and Y, initially
    one; w in R^d per output, initially small: nearly Pre-LN, as long as all outputs are read. Of more than 2k outputs
    only the first k and the last k are read. Where a layer does not open with an attention there is one sum for all.

    Reference: Heddes et al. 2025, arXiv:2502.06785.
    Cost: d to 2d parameters a norm, four norms a layer; 3(m + 1)d for the sums of m outputs, m = 2k at most, which take
    about 12md multiplications a token and layer; m + 2 vectors a token are kept.
    Deviation: as in the package deep-cross-attention 0.1.1, whose reading of the paper this is, the skip around the
    attention is the queries' sum, and outputs between the first k and the last k are dropped. The gain of its RMSNorm
    appears only multiplied with w and is left out.

    Args:
        ends: k; 0 reads all outputs.
        std: of the initial w.
        eps: of the RMSNorm that the weights are computed from.
    """

    norm: NormKind = "rms"
    ends: int = 2
    std: float = 0.01
    eps: float = 1e-6

    diagram: ClassVar[str] = "history mix:q,k,v box:n sublayer"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ends", "std", "eps"):
            check_at_least(name, getattr(self, name), 0)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first output."""
        return OutputsEntrance()

    def connection(self, d_model: int, site: Site) -> Connection:
        """Norms; sums where a layer opens, and where the last one closes."""
        inward = outward = None
        if site.opens_layer:
            inward = self._sums(d_model, site.layer + 1, 3 if site.kind == "attention" else 1)
        if site.index == site.depth - 1:
            outward = self._sums(d_model, site.num_layers + 1, 1)
        return DcaConnection(d_model, self.norm, inward, outward, self.ends if site.closes_layer else None)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def _sums(self, d_model: int, outputs: int, ways: int) -> GeneralisedResidual:
        count = min(outputs, 2 * self.ends) if self.ends else outputs
        return GeneralisedResidual(d_model, count, ways, self.std, self.eps)
