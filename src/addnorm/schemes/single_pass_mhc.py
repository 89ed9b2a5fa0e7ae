"""Single-pass manifold-constrained hyper-connections, as in DeepSeek-V4.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from addnorm.errors import UserError
from addnorm.kernels.streams import read_streams, write_streams
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._deepseek import DeepseekScheme
from addnorm.schemes._mixing import Coefficients
from addnorm.schemes._streams import Reduce, StreamEntrance
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class Guided(NamedTuple):
    """The streams, and the weights of the next read."""

    streams: Float[Tensor, "*tokens n d_model"]
    next_read: Float[Tensor, "*tokens n"]


class GuidedSkip(NamedTuple):
    """The streams, the matrices `[C^T | H_post^T]` of the write, and the weights of the next read."""

    streams: Float[Tensor, "*tokens n d_model"]
    weights: Float[Tensor, "*tokens n n_plus_1"]
    next_read: Float[Tensor, "*tokens n"]


class SinglePassConnection(Connection):
    """`C^T X + H_post^T F(n(h X))`, where `h` comes from the site before, and the next site's from this one."""

    def __init__(self, d_model: int, norm: NormKind, coefficients: Coefficients) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model)
        self.coefficients = coefficients

    def read(self, state: Guided) -> tuple[Tensor, GuidedSkip]:
        """`n(h X)`; the skip is the streams, the matrices of the write, and the weights of the next read."""
        streams, weights = state
        next_read, weights_of_write = self.coefficients(streams)
        skip = GuidedSkip(streams, weights_of_write, next_read.to(streams.dtype))
        return self.norm(read_streams(streams, weights)), skip

    def write(self, skip: GuidedSkip, update: Tensor) -> Guided:
        """`C^T X + H_post^T y`, and the weights of the next read."""
        return Guided(write_streams(skip.streams, update, skip.weights), skip.next_read)


class SinglePassEntrance(nn.Module):
    """The embedding `n` times, of which the first site reads stream 0."""

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = StreamEntrance(streams)

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Guided:
        """The first state."""
        streams = self.streams(embedding)
        first = streams.new_zeros(streams.shape[:-1])
        first[..., 0] = 1
        return Guided(streams, first)


class SinglePassExit(Exit):
    """What the next site would read: there is no head."""

    def collapse(self, state: Guided) -> Float[Tensor, "*tokens d_model"]:
        """`h X`."""
        return read_streams(*state)


@dataclass(frozen=True, kw_only=True)
class SinglePassMHC(DeepseekScheme):
    """Single-pass mHC: DeepSeek-V4's mHC, where each site predicts how the next one reads.

        X <- C^T X + H_post^T F(n(h X)),  then  h <- H_pre,  X in R^{n x d};    hidden = n(h X)
        H_pre = sigmoid(a_pre phi_pre x~ + b_pre) + eps,  H_post and C as in `deepseek-mhc`,  x~ = RMSNorm(vec(X))

    All of `H_pre`, `H_post` and `C` come from the streams as they are before the site; `h = (1, 0, ..., 0)` at the
    entrance. What a sublayer reads then need not wait for the sublayer before to be projected, so that one pass over
    the streams updates, mixes and projects them. The last site's `H_pre` takes the place of a head.

    Reference: Xie et al. 2025, arXiv:2512.24880 for the connection; the form is that of DeepSeek-V4.1-Flash
    (DeepSeek-AI 2026), after public ports of its inference/model.py in Megatron-LM and NeMo Automodel.
    Cost: as `deepseek-mhc`, without the head: nd(n^2 + 2n) + n^2 + 2n + 3 parameters a sublayer beside the norm; the
    state has n numbers more a token.
    Deviation: the initial values are those of `mhc`, with which the whole starts as Pre-LN; DeepSeek's are not public.
    Deviation: `h` is handed on in the precision of the streams, so in a model of bfloat16 it is rounded, which
    DeepSeek's is not; under autocast it stays float32.

    Args:
        reduce: "sum" alone: the streams are reduced by `h`, whose weights need not sum to 1.
        iterations: of Sinkhorn-Knopp.
        alpha: initial factor on the three projections.
        read_from: what `b_pre` reads at first: "home", nearly one stream a site, or "all", their mean.
        diagonal: of the initial `b_res`; 0 starts with streams that every site averages.
        projection_std: of the initial `phi`.
        eps: added to the mean square of the streams.
        hc_eps: the eps of the formula; above 0.
    """

    norm: NormKind = "rms"
    reduce: Reduce = "sum"

    diagram: ClassVar[str] = "streams:4 fork skip:C^T mix:h box:n sublayer scale:H_post add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduce != "sum":
            raise UserError(
                f"reduce={self.reduce} is not allowed: single-pass-mhc ends by the last site's weights; "
                "leave it out, or use deepseek-mhc."
            )

    def connection(self, d_model: int, site: Site) -> Connection:
        """The norm, the projection of all streams and its biases."""
        return SinglePassConnection(d_model, self.norm, self.coefficients(d_model, site))

    def entrance(self, d_model: int) -> nn.Module:
        """Every stream starts as the embedding, and the first is read."""
        return SinglePassEntrance(self.streams)

    def exit(self, d_model: int) -> Exit:
        """The streams weighed by the last site, then the final norm."""
        return SinglePassExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: every read sums to 1, every stream gets the same update, columns of `C` sum to 1, all but eps."""
        return None if self.projection_std else PreNorm(norm=self.norm)
