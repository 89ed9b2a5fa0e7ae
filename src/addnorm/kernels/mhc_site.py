"""A site of mHC in one pass over the streams: the write of the site before, the coefficients, the read and its norm.

    X' = H_res X + H_post y;   x = n(H_pre' X')   with H_pre', H_res', H_post' of X' (see `kernels.mhc`)

Between sites travels what the next write needs, un-mixed: `X'`, `H_res'` and `H_post'`. What autograd sends back along
the edge of `X'` is therefore the gradient of the *written* state, and the mixing is undone where `X'` is at hand for
the other gradients: backward too is one pass a site. Kept for it are `X'`, `y` and `n^2 + 2n + 7` numbers a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from addnorm.kernels import native
from addnorm.kernels.mhc import Numbers, mhc_read_reference
from addnorm.kernels.mhc_call import LEARNED, run
from addnorm.kernels.precision import wide
from addnorm.kernels.streams import add_update

if TYPE_CHECKING:
    from jaxtyping import Float

BLOCK = 16  # tokens that the kernel works on together
MOST_STREAMS = 16
FusedNorm = Literal["none", "layer", "rms"]
_NORMS: tuple[FusedNorm, ...] = ("none", "layer", "rms")


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
        phi, bias: as `kernels.mhc.mhc_read` takes them.
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


@dataclass(eq=False)
class Backwards:
    """What the backward of one site leaves to the next one, and to nobody else: the buffer of its gradient."""

    buffer: Tensor | None = None

    def owns(self, grad: Tensor | None) -> bool:
        """Whether this is that buffer."""
        return grad is not None and self.buffer is not None and grad.data_ptr() == self.buffer.data_ptr()


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """The skip of a site: what its write needs.

    Args:
        streams: the state that was read. Its gradient is that of the state which the write makes.
        post: `H_post`.
        mixing: `H_res`, without a gradient: that goes by way of `streams`.
        backwards: shared by all sites of a forward.
    """

    streams: Float[Tensor, "*tokens n d_model"]
    post: Float[Tensor, "*tokens n"]
    mixing: Float[Tensor, "*tokens n n"]
    backwards: Backwards


def fits(streams: Tensor, weights: Weights) -> bool:
    """Whether the C++ kernel can read this state with these weights."""
    if torch.compiler.is_compiling() or not native.takes(streams) or streams.numel() == 0:
        return False
    given = [one for one in weights.learned() if one is not None]
    double = streams.dtype == torch.float64
    plain = all(native.takes(one) and (one.dtype == torch.float64) == double for one in given)
    return plain and streams.shape[-2] <= MOST_STREAMS and native.library("mhc_site") is not None


def read(streams: Tensor, weights: Weights) -> tuple[Tensor, Held]:
    """The normalised read of a state, and what the write of this site will need."""
    backwards = Backwards()
    return _held(_Site.apply(streams, None, None, (None, backwards, weights.form), *weights.learned()), backwards)


def write_and_read(held: Held, update: Tensor, weights: Weights) -> tuple[Tensor, Held]:
    """The write of one site and the read of the next."""
    around = (held.mixing, held.backwards, weights.form)
    return _held(
        _Site.apply(held.streams, held.post, _update(held.streams, update), around, *weights.learned()), held.backwards
    )


def _update(streams: Tensor, update: Tensor) -> Tensor:
    """The update as the kernel takes it: of the streams' precision, or bfloat16 into float32."""
    narrow = streams.dtype == torch.float32 and update.dtype == torch.bfloat16
    return update if narrow else update.to(streams.dtype)


def write(held: Held, update: Tensor) -> Tensor:
    """The state that the site leaves behind: `H_res X + H_post y`."""
    return _Write.apply(held.streams, held.post, _update(held.streams, update), held.mixing)


def write_and_read_reference(held: Held, update: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """The new state, the normalised read, `H_res X'` and `H_post`, one equation after the other."""
    mixed = torch.stack([(row.unsqueeze(-1) * held.streams).sum(-2) for row in held.mixing.unbind(-2)], dim=-2)
    state = add_update(mixed, update, held.post)
    return state, *read_reference(state, weights)


def read_reference(state: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised read, `H_res X` and `H_post`, one equation after the other."""
    n = state.shape[-2]
    scale = weights.alpha.repeat_interleave(torch.tensor([n, n, n * n]))
    row, mixed, post = mhc_read_reference(state, weights.phi, scale, weights.bias, weights.form.numbers)
    if weights.form.norm == "layer":
        row = row - row.mean(-1, keepdim=True)
    if weights.form.norm != "none":
        assert weights.gain is not None
        row = row * (row.square().mean(-1, keepdim=True) + weights.form.norm_eps).rsqrt() * weights.gain
        row = row if weights.shift is None else row + weights.shift
    return row, mixed, post


def _held(results: tuple[Tensor, ...], backwards: Backwards) -> tuple[Tensor, Held]:
    x, streams, post, mixing = results
    return x, Held(streams=streams, post=post, mixing=mixing, backwards=backwards)


def _parameters(form: Form, learned: Sequence[Tensor | None]) -> dict[str, Any]:
    """The site's part that its weights give, in working precision."""
    known = {name: None if one is None else wide(one.detach()) for name, one in zip(LEARNED, learned, strict=True)}
    other = {"iterations": form.numbers.iterations, "eps": form.numbers.eps, "norm_eps": form.norm_eps}
    return known | other | {"norm": _NORMS.index(form.norm)}


def _outcome(state: Tensor) -> dict[str, Tensor]:
    """Room for what a read makes: the read, the coefficients, and the numbers that backward needs."""
    *tokens, n, d = state.shape
    blocks = -(-state.numel() // (n * d * BLOCK))
    precision = torch.float64 if state.dtype == torch.float64 else torch.float32
    return {
        "read": state.new_empty((*tokens, d)),
        "next_mixing": state.new_empty((*tokens, n, n), dtype=precision),
        "next_post": state.new_empty((*tokens, n), dtype=precision),
        "saved": state.new_empty((blocks, n * n + 2 * n + 3, BLOCK), dtype=precision),
    }


def _like(given: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Room for gradients."""
    return {
        name: None if one is None else torch.empty_like(one, memory_format=torch.contiguous_format)
        for name, one in given.items()
    }


class _Site(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, post: Tensor | None, update: Tensor | None, around: Any, *learned: Any
    ) -> Any:
        mixing, ctx.backwards, ctx.form = around
        streams = streams.contiguous()
        state = streams if update is None else torch.empty_like(streams)
        made = _outcome(state)
        site = {"streams": streams, "update": update, "mixing": mixing, "post": post}
        run("mhc_forward", site | {"written": state} | made | _parameters(ctx.form, learned))
        ctx.save_for_backward(state, post, update, made["saved"], *learned)
        ctx.mark_non_differentiable(made["next_mixing"])
        ctx.set_materialize_grads(False)
        return made["read"], state, made["next_post"], made["next_mixing"]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Any:  # pyrefly: ignore[bad-override]
        state, post, update, saved, *learned = ctx.saved_tensors
        parameters = _parameters(ctx.form, learned)
        goes = _like({"update": update, "post": post, **{name: parameters[name] for name in LEARNED}})
        comes = _incoming(grad_outputs, state)
        # The gradient that the next site made for this one alone is written over.
        of_next = comes["next_state"]
        goes["state"] = of_next if ctx.backwards.owns(of_next) else torch.empty_like(state)
        run(
            "mhc_backward",
            {"streams": state, "update": update, "post": post, "saved": saved} | parameters,
            comes | goes,
        )
        ctx.backwards.buffer = None if update is None else goes["state"]
        return goes["state"], goes["post"], goes["update"], None, *_narrowed([goes[name] for name in LEARNED], learned)


def _incoming(grad_outputs: Sequence[Tensor | None], state: Tensor) -> dict[str, Tensor | None]:
    of_read, of_next, of_post, _ = grad_outputs
    if of_read is None:
        of_read = state.new_zeros((*state.shape[:-2], state.shape[-1]))
    of_next = torch.zeros_like(state) if of_next is None else of_next.contiguous()
    return {
        "next_state": of_next,
        "read": of_read.contiguous(),
        "next_post": None if of_post is None else of_post.contiguous(),
    }


def _narrowed(grads: Sequence[Tensor | None], learned: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients of parameters in their own precision."""
    return [
        None if grad is None or one is None else grad.to(one.dtype) for grad, one in zip(grads, learned, strict=True)
    ]


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, streams: Tensor, post: Tensor, update: Tensor, mixing: Tensor) -> Tensor:
        state = torch.empty_like(streams)
        site = {"streams": streams, "update": update, "mixing": mixing, "post": post, "written": state}
        run("mhc_forward", site)
        ctx.save_for_backward(post, update)
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        """The streams' gradient is that of the written state: see above."""
        post, update = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        goes = _like({"update": update, "post": post})
        run("mhc_backward", {"streams": grad, "update": update, "post": post}, {"next_state": grad} | goes)
        return grad, goes["post"], goes["update"], None
