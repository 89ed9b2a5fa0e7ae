"""LAuReL as in Gemma 3n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_count, check_positive
from addnorm.kernels.precision import uncast, wide
from addnorm.layers.norm import NormKind, make_norm
from addnorm.layers.watched import is_only
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.sandwich_norm import SandwichNormConnection

if TYPE_CHECKING:
    from jaxtyping import Float


class Augmented(NamedTuple):
    """The stream, and what the sublayer reads with its low-rank map added."""

    stream: Float[Tensor, "*tokens d_model"]
    augmented: Float[Tensor, "*tokens d_model"]


class GemmaLaurelConnection(Connection):
    """`((x + output_norm(F(h))) + (h + laurel_norm(B A h))) / sqrt(2)`, `h = input_norm(x)`."""

    def __init__(self, d_model: int, norm: NormKind, eps: float, rank: int) -> None:
        super().__init__()
        self.input_norm = make_norm(norm, d_model, eps)
        self.down, self.up = nn.Linear(d_model, rank, bias=False), nn.Linear(rank, d_model, bias=False)
        self.laurel_norm = make_norm(norm, d_model, eps)
        self.output_norm = make_norm(norm, d_model, eps)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Augmented]:
        """The normalised stream; the stream and the augmented one are the skip."""
        x = self.input_norm(state)
        with uncast(x):
            mapped = _wide(self.up, _wide(self.down, wide(x))).to(x.dtype)
        return x, Augmented(state, x + self.laurel_norm(mapped))

    def write(self, skip: Augmented, update: Tensor) -> Tensor:
        """Normalise the sublayer's output, add all three, keep the size."""
        return (skip.stream + self.output_norm(update) + skip.augmented) * 2**-0.5


def _wide(layer: nn.Module, x: Tensor) -> Tensor:
    """The map in float32, whatever precision its weights are kept in; or what somebody has put in its place."""
    if isinstance(layer, nn.Linear) and is_only(layer, nn.Linear):
        return F.linear(x, wide(layer.weight))
    return wide(layer(x))


@dataclass(frozen=True, kw_only=True)
class GemmaLaurel(Scheme):
    """LAuReL of Gemma 3n: Sandwich-LN whose attention has a second, low-rank skip from its normalised input.

        attention: h = n(x);  x <- (x + m(F(h)) + h + p(B A h)) / sqrt(2)
        feed-forward: x <- x + m(F(n(x)));    hidden = n(x)

    p is a norm of its own, so that the low-rank part is as large as a norm's output from the start. The first sublayer
    of each layer is taken for the attention.

    Reference: the model Gemma 3n in transformers 5.23; Menghani et al. 2024, arXiv:2411.07501 (LAuReL).
    Cost: 2d to 4d parameters a sublayer (two norms), at attention d to 2d and 2rd more; 4rd multiplications a token
    and layer; residual traffic 5d a token and sublayer, 8d at attention.
    Deviation: AltUp, which Gemma 3n puts around the layer, and its per-layer embeddings are left out.

    Args:
        rank: r; 64 in Gemma 3n.
        eps: of the norms.
    """

    norm: NormKind = "rms"
    rank: int = 64
    eps: float = 1e-6

    diagram: ClassVar[str] = "fork skip:+h+BAh box:n sublayer box:m add scale:1/√2"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("rank", self.rank)
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms; at the first sublayer of a layer a third and the two matrices."""
        if site.opens_layer:
            return GemmaLaurelConnection(d_model, self.norm, self.eps, self.rank)
        return SandwichNormConnection(d_model, self.norm, self.eps)

    def exit(self, d_model: int) -> Exit:
        """The final norm."""
        return Exit(d_model, self.norm, self.eps)
