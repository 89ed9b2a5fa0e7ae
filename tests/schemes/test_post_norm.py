"""Post-LN with BERT's norm on the embedding, and the eps of its norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from addnorm import Stack, UserError, schemes

BERT = "post-norm(entrance_norm=layer, eps=1e-12)"


def constant() -> nn.Linear:
    """A sublayer that writes zero."""
    linear = nn.Linear(6, 6)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


@pytest.mark.parametrize(("text", "norms"), [(BERT, 3), ("post-norm", 2)])
def test_the_embedding_is_normalised_where_it_is_asked_for(text, norms):
    stack = Stack(schemes.parse(text), [constant(), constant()], 6)
    assert sum(isinstance(module, nn.LayerNorm) for module in stack.modules()) == norms
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    state = stack.entrance(x)
    expected = torch.nn.functional.layer_norm(x, (6,), eps=1e-12) if norms == 3 else x
    torch.testing.assert_close(state, expected, rtol=0, atol=1e-6)  # of numbers of order 1, in float32


@pytest.mark.parametrize("text", [BERT, "pre-norm(eps=1e-12)", "pre-norm(norm=rms, eps=1e-12)", "gpt2-init(eps=1e-12)"])
def test_every_norm_has_the_eps(text):
    stack = Stack(schemes.parse(text), [constant(), constant()], 6)
    found = [module.eps for module in stack.modules() if hasattr(module, "eps")]
    assert found == [1e-12] * 3
    assert schemes.parse(schemes.format(schemes.parse(text))) == schemes.parse(text)


@pytest.mark.parametrize("name", ["post-norm", "pre-norm", "gpt2-init"])
@pytest.mark.parametrize("eps", ["0", "-1e-05", "small", "True"])
def test_an_eps_that_is_no_positive_number_is_refused(name, eps):
    with pytest.raises(UserError, match=f"eps={eps} is not allowed; use a finite number above 0"):
        schemes.parse(f"{name}(eps={eps})")


def test_an_unknown_entrance_norm_is_named():
    with pytest.raises(UserError, match="entrance_norm 'leyer' is unknown; did you mean 'layer'"):
        schemes.parse("post-norm(entrance_norm=leyer)")
