"""Traces of addnorm's own stacks, made by hooks on what they are known to consist of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import addnorm
from addnorm.diagnosis.subject import Subject
from addnorm.diagnosis.trace import Trace
from addnorm.diagnosis.trunk import Layout, Sublayer, Trunk
from addnorm.stack import Stack


def language_model(scheme: str, num_layers: int = 3, shake: float = 0.3, **shape: Any) -> addnorm.Transformer:
    """A small decoder whose connections' own parameters are moved from where they start, so that all of them act."""
    shape = {"vocab_size": 17, "d_model": 32, "num_heads": 2, "attention": "plain"} | shape
    model = addnorm.Transformer(addnorm.schemes.parse(scheme), num_layers=num_layers, **shape).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sublayer" not in name and name.startswith("stack."):
                parameter += shake * torch.randn(parameter.shape, generator=generator)
    return model


def tokens(batch: int = 2, length: int = 6, vocab_size: int = 17) -> Tensor:
    """The same ids in every test."""
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))


def loss_of(model: nn.Module, ids: Tensor) -> Callable[[], Tensor]:
    """Of the next token."""
    return lambda: F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def subject(model: addnorm.Transformer, ids: Tensor | None = None) -> Subject:
    """The model, its trace and its loss."""
    ids = tokens() if ids is None else ids
    return Subject(trace=trace_of(model, ids), model=model, loss=loss_of(model, ids), run=lambda: model(ids))


def trace_of(model: addnorm.Transformer, ids: Tensor) -> Trace:
    """One forward and backward, seen by hooks."""
    stack: Stack = model.stack
    states: list[Any] = []
    inside: dict[str, list[Tensor]] = {"reads": [], "writes": [], "hidden": [], "final": []}
    handles = [block.register_forward_pre_hook(lambda _, given: states.append(given[0])) for block in stack.blocks]
    for block in stack.blocks:
        handles.append(
            block.get_submodule("sublayer").register_forward_hook(_keeper(inside["reads"], inside["writes"]))
        )
    handles.append(stack.exit.register_forward_pre_hook(lambda _, given: states.append(given[0])))
    handles.append(stack.exit.register_forward_hook(lambda *all_of: inside["final"].append(all_of[2])))
    loss = loss_of(model, ids)()
    for handle in handles:
        handle.remove()
    inside["hidden"].append(stack.exit.collapse(states[-1]))
    leaves = [leaf for state in states for leaf in tree_leaves(state)]
    reached = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(loss, reached, allow_unused=True, materialize_grads=True)
    gradients = dict(zip(map(id, reached), found, strict=True))
    of_states = [_vectors([gradients.get(id(leaf), leaf) for leaf in tree_leaves(state)]) for state in states]
    own = [_vectors(state) for state in states]
    return Trace(
        trunk=trunk_of(model, own),
        states=[state.detach() for state in own],
        reads=[x.detach() for x in inside["reads"]],
        writes=[x.detach() for x in inside["writes"]],
        state_gradients=of_states,
        hidden=inside["hidden"][0].detach(),
        final=inside["final"][0].detach(),
        loss=float(loss.detach()),
    )


def trunk_of(model: addnorm.Transformer, states: list[Tensor]) -> Trunk:
    """What finding the trunk would say."""
    stack: Stack = model.stack
    grows = states[-1].shape[-2] != states[0].shape[-2]
    layout: Layout = "depth attention" if grows else "streams" if states[0].shape[-2] > 1 else "one stream"
    names = dict(model.named_modules())
    sublayers = []
    for i in range(len(stack.blocks)):
        block = f"stack.blocks.{i}"
        norm = f"{block}.connection.norm" if f"{block}.connection.norm" in names else None
        after = "post-norm" in str(addnorm.schemes.format(model.scheme)) or "residual-dual" in str(
            addnorm.schemes.format(model.scheme)
        )
        sublayers.append(
            Sublayer(
                index=i,
                name=f"{block}.sublayer",
                block=block,
                kind=("attention", "feedforward")[i % 2],
                norm_before=None if after else norm,
                norm_on_trunk=norm if after else None,
            )
        )
    return Trunk(
        name="stack",
        layout=layout,
        streams=states[-1].shape[-2],
        where="alone" if layout == "one stream" else "own axis",
        sublayers=tuple(sublayers),
        final_norm="stack.exit.norm",
        head="head",
        certainty=1.0,
        evidence="by construction",
    )


def made(
    states: list[Tensor], writes: list[Tensor] | None = None, layout: Layout | None = None, **parts: Any
) -> Subject:
    """Of tensors that a test writes down; a lone stream may come without its axis.

    Args:
        states: `(*tokens, n, d_model)`, or `(*tokens, d_model)`.
        writes: by default the differences of one stream.
        layout: by default by n.
        parts: of `Subject` (model, loss, run), of `Sublayer` for all (norm_before ...), and of the trace.
    """
    states = [state[..., None, :] if layout is None else state for state in states]
    writes = [(b - a)[..., 0, :] for a, b in zip(states, states[1:], strict=False)] if writes is None else writes
    outside = {name: parts.pop(name) for name in ("model", "loss", "run", "names", "head") if name in parts}
    norms = {name: parts.pop(name) for name in ("norm_before", "norm_on_trunk") if name in parts}
    names = outside.pop("names", [f"blocks.{i}" for i in range(len(writes))])
    trunk = Trunk(
        name="",
        layout=layout or "one stream",
        streams=states[-1].shape[-2],
        where="own axis",
        sublayers=tuple(Sublayer(index=i, name=name, block=name, **norms) for i, name in enumerate(names)),
        final_norm=None,
        head=outside.pop("head", None),
        certainty=1.0,
        evidence="by construction",
    )
    trace = Trace(trunk=trunk, states=states, writes=writes, **({"reads": [None] * len(writes)} | parts))
    return Subject(trace=trace, **({"model": nn.Module()} | outside))


def _vectors(state: Any) -> Tensor:
    """`(*tokens, n, d_model)` of a state."""
    leaves = tree_leaves(state)
    return torch.stack(leaves, dim=-2) if leaves[0].dim() == 3 else leaves[0]


def _keeper(reads: list[Tensor], writes: list[Tensor]) -> Callable[..., None]:
    def hook(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        reads.append(given[0])
        writes.append(output)

    return hook
