"""What a kernel is told of a site of mHC, and the site's reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from addnorm.kernels.mhc_read import Numbers, mhc_read_reference, scale_of_rows
from addnorm.kernels.precision import centred

if TYPE_CHECKING:
    from jaxtyping import Float

FusedNorm = Literal["none", "layer", "rms"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is not learned at a site.

    Args:
        numbers: of the coefficients.
        norm: which norm the read goes through here; "none" leaves it to the caller.
        norm_eps: the norm's.
    """

    numbers: Numbers
    norm: FusedNorm = "none"
    norm_eps: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """What is learned at a site.

    Args:
        phi, bias: as `kernels.mhc_read.mhc_read` takes them.
        alpha: the factors of the rows of `phi` for `H_pre`, for `H_post` and for `H_res`.
        gain, shift: of the norm of the read, where it has them.
        form: what is not learned.
    """

    phi: Float[Tensor, "n_n_plus_2n n_d_model"]
    alpha: Float[Tensor, "3"]
    bias: Float[Tensor, "n_n_plus_2n"]
    gain: Float[Tensor, "d_model"] | None
    shift: Float[Tensor, "d_model"] | None
    form: Form

    def learned(self) -> tuple[Tensor | None, ...]:
        """The tensors, in the order of `LEARNED`."""
        return self.phi, self.alpha, self.bias, self.gain, self.shift


def read_reference(state: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised read, `H_res X` and `H_post`, one equation after the other."""
    n = state.shape[-2]
    scale = scale_of_rows(weights.alpha, n)
    row, mixed, post = mhc_read_reference(state, weights.phi, scale, weights.bias, weights.form.numbers)
    if weights.form.norm == "layer":
        row = centred(row)
    if weights.form.norm != "none":
        assert weights.gain is not None
        row = row * (row.square().mean(-1, keepdim=True) + weights.form.norm_eps).rsqrt() * weights.gain
        row = row if weights.shift is None else row + weights.shift
    return row, mixed, post
