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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from addnorm.kernels import native
from addnorm.kernels.derivatives import gradients, is_traced, once
from addnorm.kernels.gpu import choice
from addnorm.kernels.mhc_call import LEARNED, MOST_STEPS, Step, gradient_room, narrowed, outcome_room, run
from addnorm.kernels.mhc_read import Numbers, mhc_read_reference, scale_of_rows
from addnorm.kernels.precision import centred, wide
from addnorm.kernels.streams import add_update

if TYPE_CHECKING:
    from jaxtyping import Float

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

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the state."""
        return self.base.dtype

    def state(self) -> Tensor:
        """The state that was read, made again if it was not stored; without a gradient."""
        return _made(self.base, self.steps)

    def after(self, update: Tensor) -> tuple[Step, ...]:
        """The writes that lead to the state which the site leaves behind."""
        return (*self.steps, Step(update.detach(), self.mixing.detach(), self.post.detach()))


def fits(streams: Tensor, weights: Weights) -> bool:
    """Whether the C++ kernel can read this state with these weights, or on a GPU the Triton kernels."""
    given = [one for one in weights.learned() if one is not None]
    if is_traced() or streams.numel() == 0 or not _shapes_agree(streams, weights):
        return False
    if choice.takes(streams, *given):
        return weights.form.norm == "none" and streams.shape[-2] <= choice.MOST_STREAMS
    if not native.takes(streams):
        return False
    double = streams.dtype == torch.float64
    plain = all(native.takes(one) and (one.dtype == torch.float64) == double for one in given)
    return plain and streams.shape[-2] <= MOST_STREAMS and native.library("mhc_site") is not None


def _shapes_agree(streams: Tensor, weights: Weights) -> bool:
    """The kernel reads addresses: weights of another number of streams would be read beyond their end."""
    n, d = streams.shape[-2:] if streams.dim() > 1 else (0, 0)
    wanted = ((n * n + 2 * n, n * d), (3,), (n * n + 2 * n,), (d,), (d,))
    return all(one is None or one.shape == shape for one, shape in zip(weights.learned(), wanted, strict=True))


def read(streams: Tensor, weights: Weights) -> tuple[Tensor, Held]:
    """The normalised read of a state, and what the write of this site will need."""
    streams = streams.contiguous()
    before = Before(base=streams.detach(), steps=(), store=False, backwards=Backwards())
    return _held(before, _Site.apply(streams, None, None, (before, weights.form), *weights.learned()))


def write_and_read(held: Held, update: Tensor, weights: Weights, every: int = 1) -> tuple[Tensor, Held]:
    """The write of one site and the read of the next.

    Args:
        held: the skip of the one site.
        update: its sublayer's output.
        weights: of the next site.
        every: the written state is stored if it is this many writes from the last one that was; until then it is made
            again wherever it is needed, chunk by chunk, with the same bits.
    """
    update = _update(held, update)
    steps = held.after(update)
    # The Triton kernels make a state again in passes of their own over memory.
    every = 1 if choice.takes(held.base) else min(every, MOST_STEPS)
    store = len(steps) >= every or any(step.update.dtype != update.dtype for step in steps)
    before = Before(base=held.base, steps=steps, store=store, backwards=held.backwards)
    return _held(before, _Site.apply(held.edge, held.post, update, (before, weights.form), *weights.learned()))


def takes_update(held: Held, update: Tensor) -> bool:
    """Whether the kernel that read the state can take this update; torch's operations take any."""
    return choice.takes(held.base, update) if choice.takes(held.base) else native.takes(update)


def write(held: Held, update: Tensor) -> Tensor:
    """The state that the site leaves behind: `H_res X + H_post y`."""
    if not takes_update(held, update):
        nothing = held.base.new_zeros(()).expand(*held.base.shape[:-2], held.base.shape[-1])
        return add_update(write(held, nothing), update, held.post)
    update = _update(held, update)
    return _Write.apply(held.edge, held.post, update, held.base, held.after(update))


def _update(held: Held, update: Tensor) -> Tensor:
    """The update as the kernel takes it: of the streams' precision, or bfloat16 into float32."""
    narrow = held.dtype == torch.float32 and update.dtype == torch.bfloat16
    *tokens, _, d = held.base.shape
    return (update if narrow else update.to(held.dtype)).expand(*tokens, d).contiguous()


def write_and_read_reference(held: Held, update: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """The new state, the normalised read, `H_res X'` and `H_post`, one equation after the other."""
    mixed = torch.stack([(row.unsqueeze(-1) * held.state()).sum(-2) for row in held.mixing.unbind(-2)], dim=-2)
    state = add_update(mixed, update, held.post)
    return state, *read_reference(state, weights)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """Where the state that a site reads comes from: a stored one and the writes since; whether to store it too."""

    base: Tensor
    steps: tuple[Step, ...]
    store: bool
    backwards: Backwards


def _held(before: Before, results: tuple[Tensor, ...]) -> tuple[Tensor, Held]:
    x, edge, post, mixing = results
    base, steps = (edge.detach(), ()) if before.store else (before.base, before.steps)
    return x, Held(edge=edge, base=base, steps=steps, post=post, mixing=mixing, backwards=before.backwards)


def _made(base: Tensor, steps: tuple[Step, ...]) -> Tensor:
    """The state that the steps lead to."""
    state = torch.empty_like(base)
    run("mhc_forward", base, steps, {"written": state})
    return state


def _parameters(form: Form, learned: Sequence[Tensor | None]) -> dict[str, Any]:
    """The site's part that its weights give, in working precision."""
    known = {
        name: None if one is None else wide(one.detach()).contiguous()
        for name, one in zip(LEARNED, learned, strict=True)
    }
    other = {"iterations": form.numbers.iterations, "eps": form.numbers.eps, "norm_eps": form.norm_eps}
    return known | other | {"norm": _NORMS.index(form.norm)}


def _learned_and_steps(ctx: Any, rest: Sequence[Tensor]) -> tuple[Sequence[Tensor], tuple[Step, ...]]:
    learned, writes = rest[: len(LEARNED)], rest[len(LEARNED) :]
    return learned, tuple(Step(*writes[3 * i : 3 * i + 3]) for i in range(ctx.steps))


def _graph_of_site(ctx: Any, *grad_outputs: Tensor | None) -> Any:
    """As `_Site.backward`: an edge's gradient is that of the state which the write before it made."""
    base, edge, post, update, _, *rest = ctx.saved_tensors
    learned, steps = _learned_and_steps(ctx, rest)
    state = edge if update is None else _Write.apply(edge, post, update, base, steps)

    def read(state: Tensor, *learned: Tensor) -> tuple[Tensor, ...]:
        return read_reference(state, Weights(**dict(zip(LEARNED, learned, strict=True)), form=ctx.form))

    of_state, *of_learned = gradients(read, [state, *learned], grad_outputs[:3])
    if of_state is None or update is None:
        return of_state, None, None, None, *of_learned
    return *_of_write(of_state, post, update), None, *of_learned


def _of_write(grad: Tensor, post: Tensor, update: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of edge, `H_post` and `y`, of the written state's."""
    of_post, of_update = (grad * update.unsqueeze(-2)).sum(-1), (grad * post.unsqueeze(-1)).sum(-2)
    return grad, of_post.to(post.dtype), of_update.to(update.dtype)


def _graph_of_write(ctx: Any, grad: Tensor) -> Any:
    return *_of_write(grad, *ctx.saved_tensors), None, None


class _Site(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edge: Tensor, post: Tensor | None, update: Tensor | None, around: Any, *learned: Any) -> Any:
        before, ctx.form = around
        base, steps = before.base, before.steps
        state = torch.empty_like(base) if before.store else None
        made = outcome_room(base)
        run("mhc_forward", base, steps, {"written": state} | made | _parameters(ctx.form, learned))
        if state is not None:
            base, steps = state, ()
        ctx.backwards, ctx.steps = before.backwards, len(steps)
        ctx.save_for_backward(
            base, edge, post, update, made["saved"], *learned, *(one for step in steps for one in step)
        )
        ctx.mark_non_differentiable(made["next_mixing"])
        ctx.set_materialize_grads(False)
        if state is None:
            state = edge if update is None else base.new_empty(()).expand(base.shape)
        return made["read"], state, made["next_post"], made["next_mixing"]

    @staticmethod
    @once(_graph_of_site)
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Any:  # pyrefly: ignore[bad-override]
        base, _, post, update, saved, *rest = ctx.saved_tensors
        learned, steps = _learned_and_steps(ctx, rest)
        parameters = _parameters(ctx.form, learned)
        goes = gradient_room({"update": update, "post": post, **{name: parameters[name] for name in LEARNED}})
        comes = _incoming(grad_outputs, base) | {"last_update": update, "last_post": post}
        # The gradient that the next site made for this one alone is written over.
        of_next = comes["next_state"]
        goes["state"] = of_next if ctx.backwards.owns(of_next) else torch.empty_like(base)
        run("mhc_backward", base, steps, {"saved": saved} | parameters, comes | goes)
        ctx.backwards.buffer = None if update is None else goes["state"]
        return goes["state"], goes["post"], goes["update"], None, *narrowed([goes[name] for name in LEARNED], learned)


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


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edge: Tensor, post: Tensor, update: Tensor, base: Tensor, steps: tuple[Step, ...]) -> Tensor:
        ctx.save_for_backward(post, update)
        return _made(base, steps)

    @staticmethod
    @once(_graph_of_write)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        """The edge's gradient is that of the written state: see above."""
        post, update = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        goes = gradient_room({"update": update, "post": post})
        run("mhc_backward", grad, (), {}, {"last_update": update, "last_post": post, "next_state": grad} | goes)
        return grad, goes["post"], goes["update"], None, None
