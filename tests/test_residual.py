"""Sites, and a stack of any modules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn

from addnorm import Site, Stack, UserError, schemes
from addnorm.layers.arrange import Composed, Parallel
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.inside import Inside
from addnorm.schemes.deep_norm import DeepNorm
from addnorm.schemes.gpt2_init import Gpt2Init
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites


@given(layers=some.integers(1, 30), per_layer=some.integers(1, 5))
def test_sites_count_sublayers_and_layers_from_the_entrance(layers, per_layer):
    found = sites(layers * per_layer, per_layer)
    assert [site.index for site in found] == list(range(layers * per_layer))
    assert [site.layer for site in found] == [layer for layer in range(layers) for _ in range(per_layer)]
    assert {(site.depth, site.num_layers) for site in found} == {(layers * per_layer, layers)}
    assert sum(site.opens_layer for site in found) == sum(site.closes_layer for site in found) == layers
    assert found[0].opens_layer and found[-1].closes_layer


@given(depth=some.integers(1, 30), per_layer=some.integers(1, 5))
def test_sublayers_that_do_not_fill_layers_are_a_layer_each(depth, per_layer):
    num_layers = depth // per_layer if depth % per_layer == 0 else depth
    assert {site.num_layers for site in sites(depth, per_layer)} == {num_layers}


def test_sites_repeat_their_kinds_and_hand_on_the_rest():
    kinds = ("attention", "cross-attention", "feedforward")
    found = sites(6, 3, kinds, side="encoder", other_layers=4)
    assert [site.kind for site in found] == [*kinds, *kinds]
    assert {(site.side, site.other_layers) for site in found} == {("encoder", 4)}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((4, 4, 0, 2), "site index 4 is outside a stack of 4 sublayers"),
        ((-1, 4, 0, 2), "site index -1 is outside"),
        ((0, 4, 2, 2), "layer 2 is outside a stack of 2 layers"),
        ((0, 4, -1, 2), "layer -1 is outside"),
        ((0, 2, 2, 3), "3 layers of 2 sublayers"),
    ],
)
def test_a_site_outside_its_stack_is_refused(numbers, message):
    with pytest.raises(UserError, match=message):
        Site(**dict(zip(("index", "depth", "layer", "num_layers"), numbers, strict=True)))


@pytest.mark.parametrize("arguments", [(0,), (-2,), (4, 0)])
def test_an_empty_stack_is_refused(arguments):
    with pytest.raises(UserError, match="that stack is empty; give at least 1"):
        sites(*arguments)


def test_a_stack_without_sublayers_is_refused():
    with pytest.raises(UserError, match="0 sublayers"):
        Stack(PreNorm(), [], 8)


# --- a stack of the user's modules


class Gru(nn.Module):
    """A user's sublayer with state over tokens and an argument of its own."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gru = nn.GRU(d_model, d_model, batch_first=True)

    def forward(self, x: Tensor, strength: float) -> Tensor:
        return strength * self.gru(x)[0]


@pytest.mark.parametrize("name", schemes.names())
def test_any_modules_take_any_scheme(name):
    torch.manual_seed(0)
    scheme, sublayers = schemes.get(name)(), [Gru(8) for _ in range(4)]
    if any(scheme.inside(site) != Inside() for site in sites(4)):
        with pytest.raises(UserError, match=r"sublayer 0 \(Gru\) is not built for what .* asks for within it"):
            Stack(scheme, sublayers, 8)
        return
    stack = Stack(scheme, sublayers, 8)
    x = torch.randn(3, 5, 8, requires_grad=True)
    hidden = stack(x, 0.5)
    assert hidden.shape == x.shape
    hidden.square().mean().backward()
    assert x.grad.isfinite().all()


def test_what_comes_after_the_embedding_goes_to_every_sublayer():
    seen = []

    class Listens(nn.Module):
        def forward(self, x: Tensor, *context: object) -> Tensor:
            seen.append(context)
            return x

    Stack(PreNorm(), [Listens(), Listens()], 8)(torch.ones(1, 8), "a", 2)
    assert seen == [("a", 2), ("a", 2)]


def test_sites_may_be_given_and_must_be_as_many_as_the_sublayers():
    given_sites = sites(2, 1, ("feedforward",))
    assert Stack(PreNorm(), [nn.Identity(), nn.Identity()], 8, given_sites).sites == given_sites
    with pytest.raises(UserError, match="3 sites came for 2 sublayers; give one site a sublayer"):
        Stack(PreNorm(), [nn.Identity(), nn.Identity()], 8, sites(3))


@pytest.mark.parametrize(
    ("sublayer", "came"),
    [(nn.Linear(8, 1), r"shape \(2, 5, 1\)"), (nn.GRU(8, 8), "a tuple"), (nn.Flatten(), r"shape \(2, 40\)")],
)
def test_a_sublayer_that_returns_another_shape_is_named(sublayer, came):
    stack = Stack(PreNorm(), [sublayer], 8)
    message = rf"sublayer {type(sublayer).__name__} read shape \(2, 5, 8\) and returned {came}; it must"
    with pytest.raises(UserError, match=message):
        stack(torch.randn(2, 5, 8))


# --- rescaling


def factor(linear: nn.Linear, before: Tensor) -> float:
    found = (linear.weight / before).detach()
    torch.testing.assert_close(found, found.mean().expand_as(found))
    return float(found.mean())


def test_a_fresh_sublayer_is_rescaled_once():
    sublayers = [FeedForward(8) for _ in range(4)]
    before = [(one.fc1.weight.detach().clone(), one.fc2.weight.detach().clone()) for one in sublayers]
    Stack(Gpt2Init(), sublayers, 8)
    for one, (inner, outer) in zip(sublayers, before, strict=True):
        assert torch.equal(one.fc1.weight, inner)
        assert factor(one.fc2, outer) == pytest.approx(4**-0.5)


def test_a_sublayer_at_several_sites_is_rescaled_once():
    shared = FeedForward(8)
    before = shared.fc1.weight.detach().clone()
    Stack(DeepNorm(), [shared] * 4, 8)
    assert factor(shared.fc1, before) == pytest.approx(16**-0.25)


def test_sublayers_without_a_value_path_are_left_alone():
    linear = nn.Linear(8, 8)
    before = linear.weight.detach().clone()
    Stack(DeepNorm(), [linear], 8)
    assert torch.equal(linear.weight, before)


def test_arranged_sublayers_hand_on_their_value_paths():
    one, two = FeedForward(8), FeedForward(8)
    assert Parallel([one, two]).value_paths() == [(one.fc1, one.fc2), (two.fc1, two.fc2)]
    assert Composed([one, two]).value_paths() == [(one.fc1, one.fc2, two.fc1, two.fc2)]
    assert Composed([nn.Identity()]).value_paths() == []


def test_rescaling_needs_no_gradient_and_leaves_none():
    stack = Stack(DeepNorm(), [FeedForward(8)], 8)
    assert all(parameter.grad_fn is None and parameter.requires_grad for parameter in stack.parameters())


# --- checkpointing


def test_checkpointing_keeps_fewer_bytes():
    def kept(checkpointing: bool) -> int:
        stack = Stack(PostNorm(), [FeedForward(16) for _ in range(8)], 16)
        stack.checkpointing = checkpointing
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            stack(torch.randn(4, 32, 16, requires_grad=True))
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)
