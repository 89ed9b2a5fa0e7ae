"""Whole sublayers in one call give what their formulas give, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm.kernels import native, whole_attention, whole_feedforward
from addnorm.kernels.derivatives import is_traced
from addnorm.kernels.native import library
from addnorm.kernels.rebuild import rebuilding
from addnorm.kernels.whole import FEWEST, WIDEST
from addnorm.kernels.whole_attention import Mixing, whole_attention_reference
from addnorm.kernels.whole_feedforward import ACTIVATIONS, whole_feedforward_reference
from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.position import frequencies
from addnorm.testing.small_models import noise_like

pytestmark = pytest.mark.skipif(library("whole_attention") is None, reason="no C++ compiler")
# Relative to the largest entry, of sums over up to 512 numbers.
NEAR = {torch.float32: 3e-6, torch.float64: 1e-14}
PRECISIONS = pytest.mark.parametrize("dtype", NEAR, ids=str)


def noise(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return noise_like(torch.empty(shape, dtype=torch.float64), seed) * scale


def learned(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [noise(*shape, scale=shape[-1] ** -0.5, seed=place) for place, shape in enumerate(shapes)]


def value_and_gradients(function, tensors: list[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    own = [one if one is None else one.to(dtype).requires_grad_() for one in tensors]
    result = function(*own)
    given = [one for one in own if one is not None]
    return [result.detach(), *torch.autograd.grad(result, given, noise_like(result))]


def assert_near(ours: list[Tensor], exact: list[Tensor], dtype: torch.dtype) -> None:
    for one, two in zip(ours, exact, strict=True):
        assert one.dtype == dtype and one.shape == two.shape
        assert (one.double() - two).abs().max() <= NEAR[dtype] * two.abs().max().clamp(min=1e-3)


@PRECISIONS
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("tokens", "width", "inner"), [(FEWEST, 8, 32), (77, 20, 83), (130, 128, 512), (65, 1, 3)])
@pytest.mark.parametrize("biases", [True, False])
def test_a_feedforward_is_its_formula(dtype, activation, tokens, width, inner, biases):
    w1, w2, b1, b2 = learned((inner, width), (width, inner), (inner,), (width,))
    tensors = [noise(tokens, width, scale=2.0), w1, b1 if biases else None, w2, b2 if biases else None]

    def ours(x, w1, b1, w2, b2):
        assert whole_feedforward.fits(x, (w1, b1), (w2, b2), activation)
        return whole_feedforward.whole_feedforward(x, (w1, b1), (w2, b2), activation)

    def formula(x, w1, b1, w2, b2):
        return whole_feedforward_reference(x, (w1, b1), (w2, b2), activation)

    exact = value_and_gradients(formula, tensors, torch.float64)
    assert_near(value_and_gradients(ours, tensors, dtype), exact, dtype)
    with rebuilding():
        assert_near(value_and_gradients(ours, tensors, dtype), exact, dtype)


def attention_case(batch: int, tokens: int, width: int, biases: bool) -> list[Tensor | None]:
    weights = learned(*[(width, width)] * 4)
    found = [noise(width, scale=0.5, seed=place) for place in range(4)] if biases else [None] * 4
    return [noise(batch, tokens, width), *weights, *found]


def mixing_of(heads: int, tokens: int, width: int, dtype: torch.dtype, *, causal: bool, turned: bool, keep) -> Mixing:
    rates = frequencies(width // heads, torch.device("cpu"), torch.float64)
    angles = torch.arange(tokens)[:, None].double() * rates
    return Mixing(heads, causal, (angles.cos().to(dtype), angles.sin().to(dtype)) if turned else None, keep)


@PRECISIONS
@pytest.mark.parametrize(("batch", "tokens", "width", "heads"), [(2, 40, 16, 4), (3, 37, 24, 2), (1, 70, 128, 2)])
@pytest.mark.parametrize(
    ("causal", "turned", "padded"), [(True, True, False), (False, False, True), (True, False, True)]
)
def test_an_attention_is_its_formula(dtype, batch, tokens, width, heads, causal, turned, padded):
    keep = (torch.arange(batch * tokens).view(batch, tokens) % 5 > 0) if padded else None
    if keep is not None:
        keep[0] = False  # a row that may attend to nothing
    tensors = attention_case(batch, tokens, width, biases=turned)

    def run(function, precision):
        def of(x, *parts):
            mixing = mixing_of(heads, tokens, width, precision, causal=causal, turned=turned, keep=keep)
            return function(x, list(zip(parts[:4], parts[4:], strict=True)), mixing)

        return value_and_gradients(of, tensors, precision)

    ours = run(whole_attention.whole_attention, dtype)
    assert_near(ours, run(whole_attention_reference, torch.float64), dtype)
    if keep is not None and not turned:
        assert not ours[0][0].any(), "nothing to attend to, no bias: zero"


def layers(dtype: torch.dtype = torch.float32) -> list[nn.Module]:
    torch.manual_seed(0)
    made = [Attention(16, 4, AttentionOptions(rotary=True)), FeedForward(16), FeedForward(16, activation="relu")]
    return [layer.to(dtype) for layer in made]


@PRECISIONS
def test_a_token_does_not_depend_on_what_else_is_computed_with_it(dtype):
    x = noise(3, 40, 16).to(dtype)
    for layer in layers(dtype):
        whole = layer(x, Context(causal=True))
        assert torch.equal(layer(x[1:2], Context(causal=True)), whole[1:2]), "rows of the batch"
        assert torch.equal(layer(x[:, :23], Context(causal=True)), whole[:, :23]), "later tokens"


def test_the_number_of_threads_changes_no_bit():
    before, found = torch.get_num_threads(), []
    x = noise(4, 40, 16).float()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for layer in layers():
                layer.zero_grad()
                layer(x, Context(causal=True)).square().sum().backward()
                found.append([parameter.grad for parameter in layer.parameters()])
    finally:
        torch.set_num_threads(before)
    for place in range(3):
        for one, two, three in zip(*found[place::3], strict=True):
            assert torch.equal(one, two) and torch.equal(one, three)


def test_second_derivatives_are_those_of_the_formula():
    for layer in layers(torch.float64)[:2]:
        x = noise(2, 9, 16).requires_grad_()
        first = layer.fc1.weight if isinstance(layer, FeedForward) else layer.q_proj.weight

        def twice(layer=layer, x=x, first=first):
            (slope,) = torch.autograd.grad(layer(x, Context(causal=True)).pow(3).sum(), first, create_graph=True)
            return torch.autograd.grad(slope.square().sum(), [x, first])

        ours = twice()
        if isinstance(layer, Attention):  # torch's own fused attention has no second derivative
            plain = Attention(16, 4, AttentionOptions(rotary=True, kernel="plain")).double()
            plain.load_state_dict(layer.state_dict())
            theirs = twice(plain, x, plain.q_proj.weight)
        else:
            with native.switched(False):
                theirs = twice()
        for one, two in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_what_is_not_a_number_stays_so():
    for layer in layers():
        x = noise(2, 40, 16).float()
        x[0, 5] = torch.nan
        y = layer(x, Context(causal=True))
        assert y[0, 5].isnan().all() and y[0, :5].isfinite().all() and y[1].isfinite().all()
    keep = torch.ones(2, 40, dtype=torch.bool)
    keep[0, 5] = False
    seen = layers()[0](x, Context(keep=keep))
    assert seen[0, :5].isfinite().all() and seen[0, 6:].isfinite().all(), "padding is nothing"
    x[0, 5] = torch.inf
    assert not layers()[1](x)[0, 5].isfinite().all()


@pytest.mark.parametrize("case", ["hook", "wide", "few", "autocast", "bfloat16", "mixed", "transposed", "other"])
def test_what_the_kernels_are_not_for_takes_the_parts(case, monkeypatch):
    called = []
    for module in (whole_attention, whole_feedforward):
        monkeypatch.setattr(module, module.NAME, lambda *_: called.append(1))
    width = 2 * WIDEST if case == "wide" else 16
    attention, feed = Attention(width, 4), FeedForward(width)
    x = noise(1, FEWEST - 1 if case == "few" else 40, width).float()
    if case == "hook":
        attention.v_proj.register_forward_hook(lambda *_: None)
        feed.fc1.register_forward_hook(lambda *_: None)
    if case == "bfloat16":
        attention, feed, x = attention.bfloat16(), feed.bfloat16(), x.bfloat16()
    if case == "mixed":
        attention.q_proj.double()
        feed.fc1.double()
        with pytest.raises(RuntimeError):
            feed(x)
        return
    if case == "transposed":
        for layer in (attention.q_proj, feed.fc1):
            layer.weight.data = layer.weight.data.t().contiguous().t()
    if case == "other":
        attention, feed = Attention(16, 4, AttentionOptions(kernel="plain")), FeedForward(16, activation="swiglu")
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        attention(x)
        feed(x)
    assert not called


def test_frozen_weights_get_no_gradient_and_the_others_theirs():
    for layer in layers():
        first = next(layer.parameters()).requires_grad_(False)
        layer(noise(2, 40, 16).float(), Context(causal=True)).sum().backward()
        assert first.grad is None and all(one.grad is not None for one in list(layer.parameters())[1:])


@PRECISIONS
@pytest.mark.parametrize("size", [1e3, 1e6, 1e10])
def test_large_scores_keep_their_differences(dtype, size):
    tensors = attention_case(1, 20, 16, biases=True)
    tensors[0] = tensors[0].sign() * size

    def of(function, x, *parts):
        mixing = Mixing(2, True, None, None)
        return function(x, list(zip(parts[:4], parts[4:], strict=True)), mixing)

    ours = value_and_gradients(lambda *given: of(whole_attention.whole_attention, *given), tensors, dtype)
    theirs = value_and_gradients(lambda *given: of(whole_attention_reference, *given), tensors, dtype)
    assert all(one.isfinite().all() for one in ours)
    # Scores of 1e10 and more differ by more than a softmax can tell from a choice: both choose alike.
    assert (ours[0] - theirs[0]).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-13) * theirs[0].abs().max()


def test_functional_transforms_take_the_formula():
    feed = layers(torch.float64)[1]
    x, tangent = noise(2, 40, 16), noise(2, 40, 16, seed=1)
    assert not is_traced()
    _, slope = torch.func.jvp(feed, (x,), (tangent,))
    step = 1e-6
    assert torch.allclose(slope, (feed(x + step * tangent) - feed(x - step * tangent)) / (2 * step), atol=1e-7)
