"""The coefficients of DeepSeek-V4's hyper-connections, of which V4.1 has the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.checks import check_count, check_finite, check_positive
from addnorm.config import OptimizerRule
from addnorm.kernels.sinkhorn_with_eps import sinkhorn_with_eps
from addnorm.residual import Scheme, Site
from addnorm.schemes._mixing import Coefficients, MixingForm
from addnorm.schemes._streams import ReadFrom, StreamScheme, check_read_from, read_logits

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class DeepseekScheme(StreamScheme):
    """A scheme with these coefficients.

    Args:
        iterations: of Sinkhorn-Knopp.
        alpha: initial factor on the three projections.
        read_from: what `b_pre` reads at first: "home", nearly one stream a site, or "all", their mean.
        diagonal: of the initial `b_res`; 0 starts with streams that every site averages.
        projection_std: of the initial `phi`.
        eps: added to the mean square of the streams.
        hc_eps: added to the weights of the read, to the softmax and to every sum of Sinkhorn-Knopp; above 0.
    """

    iterations: int = 20
    alpha: float = 0.01
    read_from: ReadFrom = "home"
    diagonal: float = 6.0
    projection_std: float = 0.0
    eps: float = 1e-6
    hc_eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("iterations", self.iterations)
        check_finite("diagonal", self.diagonal)
        for name in ("alpha", "eps", "hc_eps"):
            check_positive(name, getattr(self, name))
        check_read_from(self.read_from, self.projection_std)

    def coefficients(self, d_model: int, site: Site) -> Coefficients:
        """Those of one site."""
        return DeepseekCoefficients(d_model, self, site.index % self.streams)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: the read sums to 1, every stream gets the same update, columns of `C` sum to 1, all but `hc_eps`."""
        return None if self.projection_std else self.pre_norm_of_equal_streams()

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The maps to the coefficients decay, and that of a head; biases and factors do not, as in DeepSeek-V4."""
        return OptimizerRule(decays=own in ("coefficients.phi", "exit.weight"))


class DeepseekCoefficients(Coefficients):
    """`H_res = C^T`, where `C` is stored row by row: `C_jk` is the share of the old stream j in the new stream k."""

    def __init__(self, d_model: int, scheme: DeepseekScheme, home: int) -> None:
        n = scheme.streams
        super().__init__(d_model, MixingForm(streams=n, mixing=n * n, home=home, eps=scheme.eps, floor=scheme.hc_eps))
        self.scheme = scheme
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The static part alone decides, unless `projection_std` is above 0."""
        n = self.form.streams
        self.alpha.fill_(self.scheme.alpha)
        self.phi.zero_()
        if self.scheme.projection_std:
            self.phi.normal_(0.0, self.scheme.projection_std)
        self.bias.zero_()
        self.bias[:n] = read_logits(n, self.form.home, self.scheme.read_from)
        self.bias[2 * n :] = self.scheme.diagonal * torch.eye(n).flatten()

    def matrix(self, logits: Float[Tensor, "mixing all_tokens"]) -> Float[Tensor, "n n all_tokens"]:
        """`C^T`."""
        square = logits.unflatten(0, (self.form.streams, -1))
        return sinkhorn_with_eps(square, self.scheme.iterations, self.scheme.hc_eps).transpose(0, 1)
