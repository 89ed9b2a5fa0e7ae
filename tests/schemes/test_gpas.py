"""GPAS: a factor in the forward pass that the backward pass does not have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm import Stack, UserError, schemes
from addnorm.schemes.admin import Admin
from addnorm.schemes.complete_p import CompleteP
from addnorm.schemes.deep_norm import DeepNorm
from addnorm.schemes.gpas import Gpas
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import small, tokens
from transcription import Parts, assert_agrees, norm, real_sublayers


class Scaled(torch.autograd.Function):
    """The factor forward, the identity backward, and the gate's gradient by the chain rule: written out."""

    @staticmethod
    def forward(ctx, x, gate):
        ctx.save_for_backward(x, gate)
        sigmoid = 1 / (1 + torch.exp(-gate))
        return x * (1 - gate * sigmoid)

    @staticmethod
    def backward(ctx, grad):
        x, gate = ctx.saved_tensors
        sigmoid = 1 / (1 + torch.exp(-gate))
        slope = sigmoid + gate * sigmoid * (1 - sigmoid)
        return grad, -(grad * x).sum().reshape(gate.shape) * slope


def after_the_sum(parts: Parts) -> Tensor:
    x = parts.x
    for G, p in zip(parts.F, parts.at, strict=True):
        x = Scaled.apply(x + G(norm(x, p, "inner.norm")), p["gate"])
    return norm(x, parts.exit, "norm")


def on_the_skip(parts: Parts) -> Tensor:
    x = parts.x
    for G, p in zip(parts.F, parts.at, strict=True):
        x = norm(Scaled.apply(x, p["gate"]) + G(x), p, "inner.norm")
    return x


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(
    ("inner", "place", "equation"), [(PreNorm, "sum", after_the_sum), (PostNorm, "skip", on_the_skip)]
)
def test_it_is_its_equation(inner, place, equation, kind):
    assert_agrees(Gpas(inner=inner(norm=kind), place=place), equation)


def test_forward_has_the_factor_and_backward_has_not():
    connection = Stack(Gpas(), real_sublayers(1), 12).blocks[0].connection
    with torch.no_grad():
        connection.gate.fill_(0.7)
    skip = torch.randn(3, 12, requires_grad=True)
    out = connection.write(skip, torch.zeros(3, 12))
    torch.testing.assert_close(out, skip * (1 - F.silu(torch.tensor(0.7))))
    weights = torch.randn(3, 12)
    (out * weights).sum().backward()
    assert torch.equal(skip.grad, weights)


@pytest.mark.parametrize("text", ["pre-norm", "sandwich-norm", "layer-norm-scaling", "mix-norm(share=0.5)"])
def test_at_first_it_is_any_inner_scheme_bit_for_bit(text):
    inner = schemes.parse(text)
    assert torch.equal(small(Gpas(inner=inner))(tokens()), small(inner)(tokens()))


def test_what_the_inner_scheme_asks_for_is_done():
    deep, inner = small(Gpas(inner=DeepNorm(), place="skip")), small(DeepNorm())
    assert torch.equal(deep.stack.blocks[1].sublayer.fc1.weight, inner.stack.blocks[1].sublayer.fc1.weight)
    model = small(Gpas(inner=Admin(growth="profile"), place="skip"), calibration=tokens())
    assert model(tokens()).isfinite().all()
    scheme, site = Gpas(inner=CompleteP(base_layers=1)), sites(4)[0]
    assert scheme.optimizer_rule(site).eps == scheme.optimizer_rule(site, "inner.norm.weight").eps == 0.5
    assert scheme.optimizer_rule(site, "gate").eps == scheme.optimizer_rule(None).eps == 1


def test_the_drawing_shows_where_the_factor_is():
    assert Gpas().diagram == "fork box:n sublayer add scale:1-silu(g)"
    assert Gpas(inner=PostNorm(), place="skip").diagram == "fork skip:1-silu(g) sublayer add box:n"


def test_what_is_no_scheme_or_no_place_or_no_single_skip_is_refused():
    with pytest.raises(UserError, match="inner=pre"):
        schemes.parse("gpas(inner=pre)")
    with pytest.raises(UserError, match="place"):
        Gpas(place="everywhere")
    with pytest.raises(UserError, match="place=sum"):
        Stack(Gpas(inner=schemes.parse("highway"), place="skip"), real_sublayers(1), 12)(torch.randn(1, 2, 12))
