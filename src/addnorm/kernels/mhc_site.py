"""A site of mHC in one pass over the streams: the write of the site before, the coefficients, the read and its norm.

    X' = H_res X + H_post y;   x = n(H_pre' X')   with H_pre', H_res', H_post' of X' (see `kernels.mhc_read`)

Between sites travels what the next write needs, un-mixed: `X'`, `H_res'` and `H_post'`. What autograd sends back along
the edge of `X'` is therefore the gradient of the *written* state, and the mixing is undone where `X'` is at hand for
the other gradients: backward too is one pass a site.

`X'` need not be stored at every site. From the last stored state and the writes since, a site makes it again a few
numbers at a time, with the same bits, in forward and in backward: 20 multiplications a number of `y` instead of 32
bytes to memory and back. Kept for backward are then, a token and site, `y` and `2 n^2 + 4n + 3` numbers, and a state
at every k-th site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.gpu import choice
from addnorm.kernels.mhc_autograd import Backwards, Before, made, run_site, run_write
from addnorm.kernels.mhc_call import MOST_STEPS, Step
from addnorm.kernels.mhc_weights import Weights, read_reference
from addnorm.kernels.streams import add_update

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_STREAMS = 16
STORED_EVERY = 4
"""Sites from one stored state to the next; between them a state is made again wherever it is needed (LOG.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """The skip of a site: what its write needs.

    Args:
        edge: stands for the state that was read in autograd's graph; its gradient is that of the state which the
            write makes. Its numbers mean nothing.
        base: the last state that was stored.
        steps: the writes after it; they give the state that was read.
        post: `H_post`.
        mixing: `H_res`, without a gradient: that goes by way of `edge`.
        backwards: shared by all sites of a forward.
    """

    edge: Float[Tensor, "*tokens n d_model"]
    base: Float[Tensor, "*tokens n d_model"]
    steps: tuple[Step, ...]
    post: Float[Tensor, "*tokens n"]
    mixing: Float[Tensor, "*tokens n n"]
    backwards: Backwards

    def state(self) -> Tensor:
        """The state that was read, made again if it was not stored; without a gradient."""
        return made(self.base, self.steps)

    def after(self, update: Tensor) -> tuple[Step, ...]:
        """The writes that lead to the state which the site leaves behind."""
        return (*self.steps, Step(update.detach(), self.mixing.detach(), self.post.detach()))


def fits(streams: Tensor, *sites: Weights) -> bool:
    """Whether the C++ kernel, or on a GPU the Triton kernels, can read this state with all these sites' weights."""
    by_gpu = choice.takes(streams)
    if not by_gpu and (not native.takes(streams) or native.library("mhc_site") is None):
        return False
    if streams.numel() == 0 or streams.dim() < 2:
        return False
    n, d = streams.shape[-2:]
    # The kernel reads addresses: weights of another number of streams would be read beyond their end.
    shapes = ((n * n + 2 * n, n * d), (3,), (n * n + 2 * n,), (d,), (d,))
    learned: list[Tensor] = []
    for site in sites:
        if by_gpu and site.form.norm != "none":
            return False
        for one, shape in zip(site.learned(), shapes, strict=True):
            if one is not None and one.shape != shape:
                return False
            learned += [] if one is None else [one]
    if by_gpu:
        return n <= choice.MOST_STREAMS and choice.takes(streams, *learned)
    return n <= MOST_STREAMS and native.has_address(*learned) and {one.dtype for one in learned} <= _beside(streams)


def _beside(streams: Tensor) -> set[torch.dtype]:
    """The precisions of weights that the kernel takes."""
    return {torch.float64} if streams.dtype == torch.float64 else {torch.float32, torch.bfloat16}


def read(streams: Tensor, weights: Weights) -> tuple[Tensor, Held]:
    """The normalised read of a state, and what the write of this site will need."""
    streams = streams.contiguous()
    before = Before(base=streams.detach(), steps=(), store=False, backwards=Backwards())
    return _held(before, run_site(streams, None, None, (before, weights.form), *weights.learned()))


def write_and_read(held: Held, update: Tensor, weights: Weights, every: int | None = None) -> tuple[Tensor, Held]:
    """The write of one site and the read of the next.

    Args:
        held: the skip of the one site.
        update: its sublayer's output.
        weights: of the next site.
        every: the written state is stored if it is this many writes from the last one that was (`STORED_EVERY`); until
            then it is made again wherever it is needed, chunk by chunk, with the same bits.
    """
    update = _update(held, update)
    steps = held.after(update)
    # The Triton kernels make a state again in passes of their own over memory.
    every = 1 if choice.takes(held.base) else min(every or STORED_EVERY, MOST_STEPS)
    before = Before(base=held.base, steps=steps, store=len(steps) >= every, backwards=held.backwards)
    return _held(before, run_site(held.edge, held.post, update, (before, weights.form), *weights.learned()))


def takes_update(held: Held, update: Tensor) -> bool:
    """Whether the kernel that read the state can take this update; torch's operations take any.

    It reads the updates since the last stored state in one precision: a wider one ends the route, where it is stored.
    """
    if choice.takes(held.base):
        return choice.takes(held.base, update)
    return native.takes(update) and (not held.steps or held.steps[0].update.dtype in (update.dtype, held.base.dtype))


def write(held: Held, update: Tensor) -> Tensor:
    """The state that the site leaves behind: `H_res X + H_post y`."""
    if not takes_update(held, update):
        like = held.steps[0].update if held.steps else held.base
        nothing = like.new_zeros(()).expand(*held.base.shape[:-2], held.base.shape[-1])
        return add_update(write(held, nothing), update, held.post)
    update = _update(held, update)
    return run_write(held.edge, held.post, update, held.base, held.after(update))


def _update(held: Held, update: Tensor) -> Tensor:
    """The update as the kernel takes it: in the precision of those before, else of the streams or narrower."""
    *tokens, _, d = held.base.shape
    narrow = held.base.dtype == torch.float32 and update.dtype == torch.bfloat16
    dtype = held.steps[0].update.dtype if held.steps else torch.bfloat16 if narrow else held.base.dtype
    return update.to(dtype).expand(*tokens, d).contiguous()


def write_and_read_reference(held: Held, update: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """The new state, the normalised read, `H_res X'` and `H_post`, one equation after the other."""
    mixed = torch.stack([(row.unsqueeze(-1) * held.state()).sum(-2) for row in held.mixing.unbind(-2)], dim=-2)
    state = add_update(mixed, update, held.post)
    return state, *read_reference(state, weights)


def _held(before: Before, results: tuple[Tensor, ...]) -> tuple[Tensor, Held]:
    x, edge, post, mixing = results
    base, steps = (edge.detach(), ()) if before.store else (before.base, before.steps)
    return x, Held(edge=edge, base=base, steps=steps, post=post, mixing=mixing, backwards=before.backwards)
