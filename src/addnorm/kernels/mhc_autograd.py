"""The forward and backward of a site of mHC, as autograd calls them: see `kernels.mhc_site`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from addnorm.kernels.derivatives import gradients, once
from addnorm.kernels.mhc_call import LEARNED, Step, gradient_room, outcome_room, run
from addnorm.kernels.mhc_weights import Form, FusedNorm, Weights, read_reference

_NORMS = get_args(FusedNorm)


@dataclass(eq=False)
class Backwards:
    """What the backward of one site leaves to the next one, and to nobody else: the buffer of its gradient."""

    buffer: Tensor | None = None

    def owns(self, grad: Tensor | None) -> bool:
        """Whether this is that buffer."""
        return grad is not None and self.buffer is not None and grad.data_ptr() == self.buffer.data_ptr()


@dataclass(frozen=True, kw_only=True, eq=False)
class Before:
    """Where the state that a site reads comes from: a stored one and the writes since; whether to store it too."""

    base: Tensor
    steps: tuple[Step, ...]
    store: bool
    backwards: Backwards


def made(base: Tensor, steps: tuple[Step, ...]) -> Tensor:
    """The state that the steps lead to."""
    state = torch.empty_like(base)
    run("mhc_forward", base, steps, {"written": state})
    return state


def _parameters(form: Form, learned: Sequence[Tensor | None]) -> dict[str, Any]:
    """The site's part that its weights give, in working precision."""
    known = dict.fromkeys(LEARNED)
    for name, one in zip(LEARNED, learned, strict=True):
        if one is not None:
            long = one.detach() if one.dtype in (torch.float32, torch.float64) else one.detach().float()
            known[name] = long.contiguous()
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
        room = outcome_room(base)
        run("mhc_forward", base, steps, {"written": state} | room | _parameters(ctx.form, learned))
        if state is not None:
            base, steps = state, ()
        ctx.backwards, ctx.steps = before.backwards, len(steps)
        writes = [one for step in steps for one in step]
        ctx.save_for_backward(base, edge, post, update, room["saved"], *learned, *writes)
        ctx.mark_non_differentiable(room["next_mixing"])
        ctx.set_materialize_grads(False)
        if state is None:
            state = edge if update is None else base.new_empty(()).expand(base.shape)
        return room["read"], state, room["next_post"], room["next_mixing"]

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
        of_learned = [
            None if one is None or (grad := goes[name]) is None else grad.to(one.dtype)
            for name, one in zip(LEARNED, learned, strict=True)
        ]
        return goes["state"], goes["post"], goes["update"], None, *of_learned


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
        return made(base, steps)

    @staticmethod
    @once(_graph_of_write)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        """The edge's gradient is that of the written state: see above."""
        post, update = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        goes = gradient_room({"update": update, "post": post})
        run("mhc_backward", grad, (), {}, {"last_update": update, "last_post": post, "next_state": grad} | goes)
        return grad, goes["post"], goes["update"], None, None


run_site, run_write = _Site.apply, _Write.apply
