"""What is carried from site to site: a tensor, or a record whose fields have names."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from addnorm import schemes
from addnorm.testing.small_models import blocks, embedded, small, surroundings, tokens

BARE = {"attention-residuals", "block-attention-residuals"}  # nothing but the sources, which are all alike


@torch.no_grad()
def carried(name: str) -> list[Any]:
    """All states and skips of a small model."""
    model, context = small(schemes.parse(name)), surroundings(tokens())
    found = [model.stack.entrance(embedded(model, tokens()))]
    for block in blocks(model):
        x, skip = block.connection.read(found[-1])
        found += [skip, block.connection.write(skip, block.update(x, context))]
    return found


@pytest.mark.parametrize("name", [name for name in schemes.names() if name not in BARE])
def test_states_and_skips_are_tensors_or_records(name: str) -> None:
    for state in carried(name):
        assert state is None or isinstance(state, Tensor) or hasattr(state, "_fields"), state


@pytest.mark.parametrize("name", schemes.names())
def test_whoever_walks_a_state_gets_the_same_record_back(name: str) -> None:
    """As checkpointing, functional transforms, hooks that cast and copies do."""
    for state in carried(name):
        leaves, form = tree_flatten(state)
        for other in (tree_map(lambda leaf: leaf, state), tree_unflatten(leaves, form), copy.deepcopy(state)):
            assert type(other) is type(state)
            again, same = tree_flatten(other)
            assert same == form
            assert all(one is two or torch.equal(one, two) for one, two in zip(leaves, again, strict=True))
