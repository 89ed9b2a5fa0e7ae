"""A norm whose scale is frozen is linear: gain, shift and centring of any norm, found by what it does.

norm(x) = s gain * (x - mean(x)) + shift    (LayerNorm; RMSNorm without the mean), s one number a token
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LINEAR = 1e-4  # of the size of the output; norms that compute in float32 whatever they get are off by 1e-7


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenNorm:
    """What is left of a norm when its scale is held.

    Args:
        gain: `(d_model,)`, float64.
        shift: likewise.
        centred: whether the mean over the features is taken away.
    """

    gain: Tensor
    shift: Tensor
    centred: bool

    def linear(self, x: Tensor) -> Tensor:
        """`gain * x`, or of `x` without its mean: the norm for s = 1 and without its shift."""
        return self.gain * (x - x.mean(-1, keepdim=True) if self.centred else x)

    def left_over(self, x: Tensor, normed: Tensor) -> float:
        """By how much the norm of x is something else than what came out, of its size."""
        rebuilt = self.scale(x, normed) * self.linear(x) + self.shift
        return float((rebuilt - normed).norm() / normed.norm().clamp_min(1e-300))

    def scale(self, x: Tensor, normed: Tensor) -> Tensor:
        """s of each token, `(*tokens, 1)`, from what came in and what came out."""
        one = self.linear(x)
        return ((normed - self.shift) * one).sum(-1, keepdim=True) / one.square().sum(-1, keepdim=True).clamp_min(
            1e-300
        )


def norms_named(model: nn.Module, name: str | None, like: Tensor) -> list[FrozenNorm]:
    """What the norm of that name may be, for vectors like these; none where it is none.

    A norm that is a bare function has the name "": RMSNorm or LayerNorm without gain and shift.
    """
    if name is None:
        return []
    if name:
        found = frozen(model.get_submodule(name), like.shape[-1])
        return [] if found is None else [found]
    one, zero = like.new_ones(like.shape[-1]).double(), like.new_zeros(like.shape[-1]).double()
    return [FrozenNorm(gain=one, shift=zero, centred=centred) for centred in (False, True)]


@torch.no_grad()
def frozen(norm: nn.Module, d_model: int) -> FrozenNorm | None:
    """A norm's linear part; None where it is no such norm of vectors of that width."""
    device = next((parameter.device for parameter in norm.parameters()), torch.device("cpu"))
    try:
        norm = copy.deepcopy(norm).double().eval()
        found = _probed(norm, d_model, device)
        x = torch.randn(3, d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
        normed = norm(x)
        left = found.left_over(x, normed)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # another width, or other arguments
        return None
    return found if left <= LINEAR else None


def _probed(norm: nn.Module, d_model: int, device: torch.device) -> FrozenNorm:
    """Signs of mean zero have one size, so what comes out is the gain; an odd width needs a second look at the last."""
    signs = torch.ones(1, d_model, dtype=torch.float64, device=device)
    signs[:, 1::2] = -1
    if d_model % 2:
        signs[:, -1] = 0
    above, below, other = norm(signs), norm(-signs), signs.roll(1, -1)
    gain = torch.where(signs != 0, (above - below) / 2 * signs, (norm(other) - norm(-other)) / 2 * other)
    raised = norm(signs + 1)
    centred = bool((raised - above).norm() < 1e-3 * above.norm())
    return FrozenNorm(gain=gain[0], shift=((above + below) / 2)[0], centred=centred)
