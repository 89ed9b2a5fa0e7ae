"""Start a model from weights that were trained before, and say what was taken and what is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.consent import trusting
from addnorm.errors import UserError
from addnorm.interop.another_scheme import as_trained, eps_of
from addnorm.interop.init_sources import Source, body_prefix, is_fresh, read, shape_of, tokenizer_of
from addnorm.interop.norm_places import norms_at
from addnorm.residual import Scheme
from addnorm.stack import Stack

_OF_THE_SCHEME = {"connection", "entrance", "exit", "inside", "logits"}
_FREE = ("scheme", "attention", "window")
"""Fields in which a run may differ from what it starts from: all weights of the sublayers still fit."""
_MAY_BE_LEFT = ("head.", "embedding.segments.")
"""Tensors of a body that a model need not have."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What a model took from earlier weights.

    Args:
        name: what it was started from.
        loaded: the model's tensors that were taken over.
        new: those that keep their fresh values: a task's head, another scheme's connections.
        left_out: tensors that the model has no place for.
        warnings: what to know before trusting the run.
    """

    name: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def has_new_connections(self) -> bool:
        """Whether anything of the residual scheme keeps its fresh values."""
        return any(map(_is_the_schemes, self.new))

    def lines(self) -> list[str]:
        """The same for a reader, a line each.

        >>> Started(name="minilm", loaded=("a", "b"), new=("head.weight",), left_out=()).lines()
        ['started from minilm: 2 tensors loaded', 'new: head.weight']
        """
        found = [f"started from {self.name}: {len(self.loaded)} tensors loaded"]
        found += [
            f"{title}: {_listed(names)}" for title, names in (("new", self.new), ("left out", self.left_out)) if names
        ]
        return found + [f"warning: {text}" for text in self.warnings]


def completed(given: Mapping[str, Any], init: str) -> dict[str, Any]:
    """The fields of `RunConfig` that a user gave, with scheme, shape and tokenizer of what the run starts from.

    A scheme that was given takes kind and eps of its norms from there too, where it does not say them.

    Args:
        given: the fields that the user chose.
        init: what the run starts from: the user's choice, or the task's default.

    Raises:
        UserError: there is nothing to start from under that name, its body is not one of ours, or a field that was
            given is another one's.
    """
    if is_fresh(init):
        return dict(given)
    with trusting(str(given.get("scheme", ""))):
        found = shape_of(init)
    for name, value in found.items():
        if name in given and name not in _FREE and given[name] != value:
            raise UserError(
                f"{name}={given[name]} came, but {init} has {name}={value}; "
                f"leave --{name.replace('_', '-')} out, or start from something else."
            )
    tokenizer = tokenizer_of(init)
    own = found["scheme"]
    found |= {} if tokenizer is None else {"tokenizer": tokenizer}
    chosen = {"scheme": as_trained(given["scheme"], own)} if "scheme" in given else {}
    return {**found, **given, **chosen, "init": init}


def configured(config: RunConfig, given: Iterable[str] = ()) -> RunConfig:
    """A config with scheme, shape and tokenizer of what it starts from; the same config if it starts afresh.

    Args:
        config: the run.
        given: the names of the fields that the user chose; the others give way.

    Raises:
        UserError: as `completed`.
    """
    if is_fresh(config.init):
        return config
    return replace(config, **completed({name: getattr(config, name) for name in given}, config.init))


@torch.no_grad()
def start_from(model: nn.Module, init: str, *, task: str | None = None) -> Started | None:
    """Load into a fresh model what fits of earlier weights.

    The body's tensors are found by their names within the body. Under another scheme than the weights were trained
    under only the sublayers, the embedding and the norms that stand at the same places (`norms_at`) are taken. What
    stands outside the body (a head) is taken from a run of the same task, where its shape fits.

    Args:
        model: a body of `addnorm.models`, or a module that holds one.
        init: what `RunConfig.init` says.
        task: the run's task, as its specification.

    Returns:
        What was taken; None when `init` is a rule for fresh weights.

    Raises:
        UserError: there is nothing of that name, or a tensor of the body does not fit; says which.
    """
    if is_fresh(init):
        return None
    stack = _stack_of(model)
    with trusting(schemes.format(stack.scheme)):
        source, mine = read(init), model.state_dict()
    same = schemes.format(stack.scheme) in source.equivalent
    homes = {} if same else _homes(source, stack, mine)
    taken = dict(_matches(mine, source, None if same else homes, task))
    _check_all_taken(source, taken, body_prefix(mine), same)
    for name, tensor in taken.items():
        mine[name].copy_(tensor)
    bring_back = getattr(model, "after_step_", stack.after_step_)
    bring_back()  # a scheme that keeps weights in a set wants these in it too
    new = tuple(name for name in mine if name not in taken)
    return Started(
        name=init,
        loaded=tuple(taken),
        new=new,
        left_out=(*source.left_out, *_left(source, taken, body_prefix(mine))),
        warnings=(*_warnings(source, stack, None if same else homes), *_thawed_(model, new)),
    )


def _thawed_(model: nn.Module, new: tuple[str, ...]) -> Iterator[str]:
    """Let what is new in frozen layers be trained: nothing else would ever give it a value of use."""
    own = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    found = [own[name].requires_grad_(True) for name in new if name in own]
    if found:
        yield f"{len(found)} tensors of the frozen layers are new: these are trained, the loaded ones stay frozen."


def _homes(source: Source, stack: Stack, mine: dict[str, Tensor]) -> dict[str, str]:
    """What of another scheme's parameters fits: ours by the source's, by their names within the body."""
    own, width = schemes.parse(source.equivalent[0]), _width(mine)
    if type(own) is type(stack.scheme) and own.norm == stack.scheme.norm:
        prefix = body_prefix(mine)
        shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in mine.items()}
        fitting = (name for name, tensor in source.body.items() if shapes.get(name) == tensor.shape)
        return {name: name for name in fitting if _is_the_schemes(name)}
    if width is None:
        return {}
    theirs = {norm.place: norm for norm in norms_at(own, stack.sites, width)}
    pairs = [(norm, theirs.get(norm.place)) for norm in norms_at(stack.scheme, stack.sites, width)]
    return {
        f"stack.{ours.name}.{part}": f"stack.{other.name}.{part}"
        for ours, other in pairs
        if other is not None and other.kind is ours.kind
        for part in ("weight", "bias")
    }


def _width(mine: dict[str, Tensor]) -> int | None:
    """The width of the stream, which the output projections of attention write to."""
    return next((len(tensor) for name, tensor in mine.items() if name.endswith("o_proj.weight")), None)


def _matches(
    mine: dict[str, Tensor], source: Source, homes: dict[str, str] | None, task: str | None
) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors with those that they are filled from; `homes` for another scheme's, None for the same."""
    prefix = body_prefix(mine)
    for name, tensor in mine.items():
        if not name.startswith(prefix):
            other = source.outside.get(name) if task is not None and task == source.task else None
            if other is not None and other.shape == tensor.shape:
                yield name, other
            continue
        inner = name.removeprefix(prefix)
        other = source.body.get(inner if homes is None or not _is_the_schemes(inner) else homes.get(inner, ""))
        if other is None:
            continue
        if other.shape != tensor.shape:
            raise _unfitting(name, tensor, source, other)
        yield name, other


def _unfitting(name: str, tensor: Tensor, source: Source, other: Tensor) -> UserError:
    hint = "build the model with the shape that it has"
    if name.endswith("embedding.tokens.weight"):
        hint = f"take its tokenizer: --tokenizer hf:{source.name}"
    return UserError(f"{name} has shape {tuple(tensor.shape)}, but {tuple(other.shape)} in {source.name}; {hint}.")


def _check_all_taken(source: Source, taken: dict[str, Tensor], prefix: str, same: bool) -> None:
    """Refuse a model that lacks a part of the body that it starts from."""
    for name in _left(source, taken, prefix):
        if not (name.startswith(_MAY_BE_LEFT) or (not same and _is_the_schemes(name)) or name in source.outside):
            raise UserError(
                f"{source.name} has {name}, which the model has not; build the model with the shape that it has."
            )


def _left(source: Source, taken: dict[str, Tensor], prefix: str) -> list[str]:
    """The source's tensors that went nowhere."""
    body = [name for name in source.body if prefix + name not in taken]
    return body + [name for name in source.outside if name not in taken]


def _warnings(source: Source, stack: Stack, homes: dict[str, str] | None) -> Iterator[str]:
    ours, side = schemes.format(stack.scheme), stack.sites[0].side
    if homes is not None:
        rest = (
            "and its norms that stand at the same places; the rest of the connections is new"
            if homes
            else ("the connections (norms, gates) are new")
        )
        yield (
            f"{source.name} was trained under {source.equivalent[0]}, the run is under {ours}: its sublayers are "
            f"loaded, {rest}."
        )
        yield from _norm_warnings(schemes.parse(source.equivalent[0]), stack.scheme, bool(homes))
    if source.side is not None and source.side != side:
        seen = {"encoder": "every token", "decoder": "earlier tokens only"}
        yield f"in {source.name} a token saw {seen[source.side]}, here {seen[side]}."


def _norm_warnings(own: Scheme, ours: Scheme, taken: bool) -> Iterator[str]:
    """What of the norms is not as it was, where both have norms."""
    if own.norm != ours.norm and "none" not in (own.norm, ours.norm):
        yield f"its norms were of kind {own.norm}, here they are of kind {ours.norm}, with gains of their own."
    elif taken and eps_of(own) != eps_of(ours):
        yield f"its norms had an eps of {eps_of(own)}, here it is {eps_of(ours)}."


def _is_the_schemes(name: str) -> bool:
    """Whether a tensor is the residual scheme's, and not a sublayer's or an embedding's."""
    return not _OF_THE_SCHEME.isdisjoint(name.split("."))


def _stack_of(model: nn.Module) -> Stack:
    for module in model.modules():
        if isinstance(module, Stack):
            return module
    raise UserError(f"{type(model).__name__} holds no Stack of addnorm; start one that does.")


def _listed(names: tuple[str, ...]) -> str:
    """The first names, and how many more."""
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
