"""By-layer and Mix-LN: which layer has which scheme, and that their states fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError, schemes
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.admin import Admin
from addnorm.schemes.by_layer import ByLayer
from addnorm.schemes.complete_p import CompleteP
from addnorm.schemes.deep_norm import DeepNorm, deep_norm_constants
from addnorm.schemes.mix_norm import MixNorm
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import small, tokens
from transcription import Parts, assert_agrees, norm


def mixed(parts: Parts) -> Tensor:
    x = parts.x
    for i, (F, p) in enumerate(zip(parts.F, parts.at, strict=True)):
        x = norm(x + F(x), p, "norm") if i < 2 else x + F(norm(x, p, "norm"))
    return norm(x, parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("name", ["mix-norm", "by-layer"])
def test_half_of_two_layers_are_post_norm(name, kind):
    texts = {
        "mix-norm": f"mix-norm(share=0.5, norm={kind})",
        "by-layer": f"by-layer(first=post-norm(norm={kind}), share=0.5, rest=pre-norm(norm={kind}))",
    }
    assert_agrees(schemes.parse(texts[name]), mixed)


def post_layers(scheme: Scheme, layers: int) -> list[int]:
    stack = Stack(scheme, [nn.Identity() for _ in range(2 * layers)], 8)
    return [i // 2 for i, block in enumerate(stack.blocks) if "Post" in type(block.connection).__name__]


@pytest.mark.parametrize(("layers", "expected"), [(12, 3), (13, 3), (4, 1), (3, 0)])
def test_a_quarter_of_the_layers_rounded_down_are_post_norm_by_default(layers, expected):
    for scheme in (MixNorm(), ByLayer()):
        assert post_layers(scheme, layers) == [layer for layer in range(expected) for _ in range(2)]


def test_rounding_of_the_share_loses_no_layer():
    assert post_layers(MixNorm(share=0.7), 10)[-1] == 6
    assert post_layers(MixNorm(share=0.29), 100)[-1] == 28


def test_ranges_nest():
    scheme = schemes.parse(
        "by-layer(first=post-norm, share=0.25, rest=by-layer(first=deep-norm, share=0.5, rest=keel))"
    )
    kinds = [type(block.connection).__name__ for block in Stack(scheme, [nn.Identity()] * 16, 8).blocks]
    assert kinds == ["PostNormConnection"] * 8 + ["PrePostNormConnection"] * 8
    alphas = [block.connection.alpha for block in Stack(scheme, [nn.Identity()] * 16, 8).blocks]
    assert alphas == [1.0] * 4 + [2.0] * 4 + [16.0] * 8
    assert schemes.parse(schemes.format(scheme)) == scheme


def test_each_layer_has_its_own_scheme_s_initial_values_and_rules():
    scheme = ByLayer(first=DeepNorm(), share=0.5, rest=CompleteP(base_layers=1))
    model, plain = small(scheme), small(PreNorm())
    _, beta = deep_norm_constants(model.stack.sites[0])
    for i, factor in ((0, beta), (2, 1.0)):
        ours, drawn = (one.stack.blocks[i].sublayer.o_proj.weight for one in (model, plain))
        torch.testing.assert_close(ours, factor * drawn)
    assert [scheme.optimizer_rule(site).eps for site in sites(4)] == [1.0, 1.0, 0.5, 0.5]
    assert scheme.optimizer_rule(None).eps == 1.0


def test_a_scheme_that_needs_a_batch_needs_it_here_too():
    scheme = ByLayer(first=Admin(growth="profile"), share=0.5)
    model = small(scheme, calibration="later")
    with pytest.raises(UserError, match="calibrate_"):
        model(tokens())
    model.calibrate_(tokens())
    assert model(tokens()).isfinite().all()


class Doubled(Connection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state.mean(-2), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update.unsqueeze(-2)


class Expand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, x], -2)


class TwoStreams(Scheme):
    diagram = "streams:2 fork mix:mean sublayer add"

    def connection(self, d_model: int, site: Site) -> Connection:
        return Doubled()

    def entrance(self, d_model: int) -> nn.Module:
        return Expand()

    def exit(self, d_model: int) -> Exit:
        raise NotImplementedError


def test_states_that_do_not_fit_are_refused_with_their_shapes():
    with pytest.raises(UserError, match=r"PreNorm carries \(d_model\), TwoStreams \(2, d_model\)"):
        ByLayer(first=PreNorm(), rest=TwoStreams())
    assert ByLayer(first=TwoStreams(), rest=TwoStreams()).share == 0.25


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("pre-norm", "unet-skips"),  # a tensor where a record is awaited
        ("pre-norm", "laurel"),
        ("b2t", "residual-dual"),  # the bottom of a layer is no sum of updates
        ("residual-lambdas", "siamese-norm"),
        ("dense-former", "dca"),
    ],
)
def test_states_of_equal_shapes_that_mean_other_things_are_refused(first, rest):
    for one, two in ((first, rest), (rest, first)):
        with pytest.raises(UserError, match="must carry the same state"):
            schemes.parse(f"by-layer(first={one}, rest={two})")


def test_schemes_with_the_same_record_follow_each_other():
    model = small(schemes.parse("by-layer(first=dense-former(norm=rms), share=0.5, rest=mudd)"))
    assert model(tokens()).isfinite().all()


def test_the_check_of_the_states_draws_no_random_number():
    state = torch.get_rng_state()
    ByLayer(first=PostNorm(), rest=schemes.parse("highway(norm=layer)"))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_scheme_or_no_share_is_refused():
    with pytest.raises(UserError, match="first=pre: scheme 'pre' is unknown; did you mean 'pre-norm'"):
        schemes.parse("by-layer(first=pre)")
    for scheme in (ByLayer, MixNorm):
        with pytest.raises(UserError, match="share=1.5"):
            scheme(share=1.5)
