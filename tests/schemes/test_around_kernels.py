"""A scheme around another one that has a kernel: the kernel still runs, and what is done around it is done."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, schemes
from addnorm.kernels import native
from addnorm.layers.route import Equations, begin
from addnorm.schemes.mhc import MHCConnection
from addnorm.stack import sites
from addnorm.testing import laws
from addnorm.testing.small_models import noise_like
from agreement import assert_agree, outcome

AROUND = [
    "stochastic-depth(inner=mhc, p_max=0.5)",
    "stochastic-depth(inner=attention-residuals)",
    "stochastic-depth(inner=stochastic-depth(inner=mhc))",
    "gpas(inner=mhc)",
    "backout(inner=mhc)",
    "backout(inner=stochastic-depth(inner=pre-norm))",
]
needs_compiler = pytest.mark.skipif(native.library("mhc_site") is None, reason="there is no C++ compiler")


@pytest.mark.parametrize(
    "law",
    [laws.a_stack_computes_what_read_and_write_say, laws.checkpointing_changes_nothing, laws.a_probe_changes_no_bit],
)
@pytest.mark.parametrize("text", AROUND)
def test_it_keeps_the_laws_of_kernels(text, law):
    law(schemes.parse(text))


@needs_compiler
@pytest.mark.parametrize("text", [text for text in AROUND if "mhc" in text])
def test_the_inner_connection_takes_its_kernel(text):
    scheme = schemes.parse(text)
    state = scheme.entrance(8)(torch.randn(2, 5, 8))
    connection = scheme.connection(8, sites(4)[1])
    assert not isinstance(begin([connection], state), Equations)
    with native.switched(False):
        assert isinstance(begin([connection], state), Equations)


class Rounded(nn.Module):
    """A sublayer whose result may be rounded to bfloat16, which no kernel takes among wider ones before it."""

    def __init__(self, narrow: bool) -> None:
        super().__init__()
        self.narrow = narrow

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        return torch.tanh(2 * x).bfloat16() if self.narrow else torch.tanh(2 * x)


@needs_compiler
def test_who_is_left_out_is_drawn_once_a_site_even_where_a_kernel_refuses_the_update():
    """A mask of float32 widens an update, and the kernel has read narrow ones: the route ends, the mask stays."""
    outcomes = []
    for by_kernels in (True, False):
        torch.manual_seed(0)
        stack = Stack(schemes.parse(AROUND[0]), [Rounded(i < 2) for i in range(4)], d_model=8).train()
        embedding = noise_like(torch.empty(6, 5, 8)).requires_grad_()
        torch.manual_seed(1)
        with native.switched(by_kernels):
            outcomes.append(outcome(lambda stack=stack, x=embedding: stack(x), {"embedding": embedding}))
    assert_agree(*outcomes, 1e-5)  # float32 through four sites; another mask changes everything


@needs_compiler
def test_who_derives_or_patches_a_connection_is_taken_at_their_word(monkeypatch):
    class Derived(MHCConnection):
        def write(self, skip: tuple[Tensor, Tensor], update: Tensor) -> Tensor:
            return super().write(skip, 2 * update)

    scheme, site, streams = schemes.parse("mhc"), sites(4)[1], torch.randn(2, 4, 8)
    assert isinstance(begin([Derived(8, site, scheme)], streams), Equations)
    patched = MHCConnection(8, site, scheme)
    monkeypatch.setattr(patched, "read", lambda state: (state[..., 0, :], state))
    assert isinstance(begin([patched], streams), Equations)
    wrapped = schemes.parse("stochastic-depth(inner=mhc)").connection(8, site)
    wrapped.inner = Derived(8, site, scheme)
    assert isinstance(begin([wrapped], streams), Equations)
