from __future__ import annotations

from typing import Any

import pytest
import torch

import addnorm
from addnorm.errors import UserError
from addnorm.models.span import SpanModel

SHAPE: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "num_heads": 2, "num_layers": 3, "segments": 2}


def model(**changes: Any) -> SpanModel:
    return SpanModel(addnorm.schemes.get("pre-norm")(), **(SHAPE | changes))


def test_padding_changes_no_logit_of_a_real_token():
    torch.manual_seed(0)
    tokens, span = torch.randint(1, 50, (2, 6)), model().eval()
    padded = torch.cat([tokens, torch.zeros(2, 3, dtype=torch.long)], dim=1)
    # float32: the softmax over masked keys sums in another order
    torch.testing.assert_close(span(padded, padded != 0)[:, :6], span(tokens), rtol=1e-5, atol=1e-6)


def test_segments_are_heard_where_the_shape_has_them_and_ignored_elsewhere():
    tokens = torch.randint(1, 50, (1, 5))
    segments = torch.tensor([[0, 0, 1, 1, 1]])
    with_them, without = model().eval(), model(segments=0).eval()
    assert not torch.equal(with_them(tokens, segments=segments), with_them(tokens))
    assert torch.equal(without(tokens, segments=segments), without(tokens))


def test_frozen_layers_and_the_embedding_get_no_gradient_and_all_else_does():
    span = model(frozen=2)
    span(torch.randint(1, 50, (2, 5))).square().sum().backward()
    learned = {name for name, parameter in span.named_parameters() if parameter.grad is not None}
    frozen = {name for name, parameter in span.named_parameters() if not parameter.requires_grad}
    assert not learned & frozen
    assert "body.embedding.tokens.weight" in frozen and "head.weight" in learned
    blocks = {number: f"body.stack.blocks.{number}." for number in range(6)}
    assert all(any(name.startswith(blocks[number]) for name in frozen) for number in range(4))
    assert not any(name.startswith((blocks[4], blocks[5])) for name in frozen)


def test_a_scheme_that_needs_a_calibration_says_so():
    with pytest.raises(UserError, match="calibration"):
        SpanModel(addnorm.schemes.parse("admin(growth=profile)"), **SHAPE)
    SpanModel(addnorm.schemes.parse("admin(growth=profile)"), calibration=torch.randint(1, 50, (2, 5)), **SHAPE)
