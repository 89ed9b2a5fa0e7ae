"""Small models for the laws: two layers of width 16, moved off every special initial value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from addnorm.layers.context import Context
from addnorm.layers.initialise import generator_for
from addnorm.models.decoder import Transformer
from addnorm.residual import Connection, Scheme, State
from addnorm.stack import Block, sites

BATCH, TOKENS, VOCAB = 3, 6, 11


def small(scheme: Scheme, *, seed: int = 0, **shape: Any) -> Transformer:
    """A decoder of two layers, in evaluation."""
    size: dict[str, Any] = {"vocab_size": VOCAB, "d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 24} | shape
    if any(scheme.inside(site).scores is not None for site in sites(4)):
        size |= {"attention": "plain"}
    return Transformer(scheme, seed=seed, **size).eval()


def moved(scheme: Scheme, **shape: Any) -> Transformer:
    """A small decoder whose every parameter is moved by noise that is not symmetric about zero.

    At its initial value much of a scheme is invisible: a mixing matrix that is the identity looks the same transposed.
    """
    model = small(scheme, **shape)
    connections = {id(p) for m in model.modules() if isinstance(m, Connection) for p in m.parameters()}
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            # A connection's own numbers by a lot: its gates and mixtures start at 0, 1 or a unit vector.
            size = 0.4 if id(parameter) in connections else 0.1
            parameter.add_(size * (_of_parameter(path, parameter.shape) + 0.3))
    return model


@lru_cache(maxsize=1024)  # of a few hundred numbers each
def _of_parameter(path: str, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=generator_for(1, path))


def tokens(batch: int = BATCH, length: int = TOKENS, seed: int = 2) -> Tensor:
    """Token ids."""
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def noise_like(tensor: Tensor, seed: int = 3) -> Tensor:
    """Standard normal noise of a tensor's shape and dtype."""
    return _noise(tensor.shape, seed).to(tensor.dtype, copy=True)


@lru_cache(maxsize=64)  # of at most 1 MB each: the laws draw the same for every scheme
def _noise(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def embedded(model: Transformer, ids: Tensor) -> Tensor:
    """What the stack is given."""
    return model.embedding(ids, torch.arange(ids.shape[1]))


def surroundings(ids: Tensor) -> Context:
    """What each sublayer of a decoder is given beside the tokens."""
    return Context(causal=True, positions=torch.arange(ids.shape[1]))


def blocks(model: Transformer) -> list[Block]:
    """The sublayers with their connections."""
    return [block for block in model.stack.blocks if isinstance(block, Block)]


def states(model: Transformer, ids: Tensor, context: Context | None = None) -> list[State]:
    """The state at the entrance and after each sublayer; what sublayers pass on stays in the context."""
    found, context = [model.stack.entrance(embedded(model, ids))], context or surroundings(ids)
    for block in blocks(model):
        found.append(block(found[-1], context))
    return found


def left_behind(context: Context) -> Context:
    """The same surroundings; what sublayers passed on is there, without the graph that made it."""
    other = replace(context, passed={})
    other.rewind({kind: each(torch.Tensor.detach, tensors) for kind, tensors in context.passed.items()})
    return other


def leaves(tree: Any) -> list[Tensor]:
    """The tensors in a state."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def each(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same state with every tensor changed."""
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def token_changed(tensor: Tensor, token: int) -> Tensor:
    """The same tensor `(batch, tokens, ...)` with one token replaced in every row."""
    other = tensor.detach().clone()
    other[:, token] = noise_like(other[:, token])
    return other


def projected(tree: Any) -> Tensor:
    """One number that every entry of every tensor has its own share in."""
    total = sum((leaf * noise_like(leaf, seed)).sum() for seed, leaf in enumerate(leaves(tree)))
    assert isinstance(total, Tensor)
    return total


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters outside connections, entrances, exits and parts within sublayers: what every scheme has."""
    scheme_parts = (".connection.", ".inside.", "head.logits.", "stack.entrance.", "stack.exit.")
    return {path: p for path, p in module.named_parameters() if not any(part in path for part in scheme_parts)}


@torch.no_grad()
def initial_factors(model: nn.Module, yardstick: nn.Module) -> dict[str, float]:
    """The factor between matrices and the yardstick's by kind, `{"o_proj": 0.5, ...}`; all of a kind must agree."""
    other, found = dict(yardstick.named_parameters()), {}
    for path, parameter in model.named_parameters():
        if ".sublayer" in path and parameter.dim() == 2:
            factor = float((parameter * other[path]).sum() / other[path].square().sum())
            assert abs(found.setdefault(path.split(".")[-2], factor) - factor) < 1e-6, path
            torch.testing.assert_close(parameter, factor * other[path])
    return found
