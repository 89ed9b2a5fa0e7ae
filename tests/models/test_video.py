"""The space-time Transformer: causal in time, free within a frame, the same with a cache."""

from __future__ import annotations

import pytest
import torch

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.layers.cache import KVCache
from addnorm.models.video import VideoTransformer
from oracles.ties import randomise_

SHAPE = {"height": 16, "width": 8, "patch": 4, "margin": 2, "reach": 2, "d_model": 16, "num_heads": 2, "num_layers": 2}
CLOSE = {"rtol": 0, "atol": 1e-11}  # float64; kernels sum the same products in another order
SCHEMES = [
    "pre-norm",
    "post-norm",
    "deep-norm",
    "mhc",
    "attention-residuals",
    "value-residual",
    "dca",
    "by-layer(first=post-norm, rest=pre-norm)",
]
HEADS = ["motion", "change", "pixels"]


def body(scheme: str = "pre-norm", **changes: object) -> VideoTransformer:
    """In float64 and evaluation, with parameters off their special values."""
    model = VideoTransformer(schemes.parse(scheme), calibration="later", **(SHAPE | changes)).double().eval()
    randomise_(model)
    return model


def video(batch: int = 2, frames: int = 5, seed: int = 0, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, channels, 16, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_future_does_not_leak(scheme):
    model, frames = body(scheme), video()
    before, other = model(frames), frames.clone()
    other[:, 3:] = 1 - other[:, 3:]
    after = model(other)
    assert torch.equal(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3], before[:, 3])


@pytest.mark.parametrize("head", HEADS)
def test_no_gradient_reaches_the_future(head):
    model, frames = body(head=head), video().requires_grad_()
    model(frames)[:, 2].sum().backward()
    assert frames.grad is not None
    assert (frames.grad[:, 3:] == 0).all() and (frames.grad[:, :3] != 0).flatten(2).any(-1).all()


def test_every_patch_sees_its_whole_frame_and_the_frames_before():
    model, frames = body(head="pixels", margin=0, reach=0), video(1)
    before = model(frames)[0, -1]
    for t in range(5):
        other = frames.clone()
        other[0, t, 0, :4, :4] = 1 - other[0, t, 0, :4, :4]  # the first patch of frame t
        assert ((model(other)[0, -1] - before).abs() > 1e-9).all(), t


def test_videos_of_a_batch_are_apart():
    model, frames = body(), video(3)
    torch.testing.assert_close(model(frames)[1:2], model(frames[1:2]), **CLOSE)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_rollout_is_teacher_forcing_on_its_own_frames(scheme):
    model, given = body(scheme), video(frames=3)
    unrolled = model.unrolled(given, 4)
    continued = model.continued(given, 4)
    assert torch.equal(unrolled[:, -4:], continued)
    forced = model(torch.cat([given, continued], dim=1)[:, :-1])
    torch.testing.assert_close(unrolled, forced, **CLOSE)


@pytest.mark.parametrize("position", ["rotary", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("attention", [{}, {"attention": "linear"}, {"attention": "sliding-window", "window": 2}])
def test_frames_through_a_cache_get_what_they_get_together(position, attention):
    model, frames = body(position=position, **attention), video()
    cache, whole = KVCache(), model(frames)
    parts = [model(frames[:, :2], cache)]
    parts.extend(model(frames[:, t : t + 1], cache, frames[:, t - 1]) for t in range(2, 5))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)


def test_the_gradient_of_a_rollout_goes_through_its_frames():
    model, given = body(), video(1, 3).requires_grad_()
    model.continued(given, 3)[:, -1].sum().backward()
    assert given.grad is not None and (given.grad != 0).flatten(2).any(-1).all()


@pytest.mark.parametrize("arrangement", ["sequential", "parallel", "composed"])
def test_every_parameter_learns(arrangement):
    model = body(arrangement=arrangement)
    model(video()).square().sum().backward()
    for name, parameter in model.named_parameters():
        # Without biases on the softmax's scores nothing moves: a key's bias shifts all scores of a query alike.
        if not name.endswith("k_proj.bias"):
            assert parameter.grad is not None and parameter.grad.abs().max() > 1e-12, name


def test_what_attentions_pass_on_stays_on_its_axis():
    # As many frames as patches of a frame: values of the wrong axis would fit, and be wrong in silence.
    model, frames = body("value-residual"), video(2, 8)
    before, other = model(frames), frames.clone()
    other[:, 5:] = 1 - other[:, 5:]
    assert torch.equal(model(other)[:, :5], before[:, :5])


def test_a_layer_is_three_sublayers_and_both_attentions_are_attentions_to_a_scheme():
    sites = body().stack.sites
    assert [site.kind for site in sites[:3]] == ["attention", "attention", "feedforward"]
    assert [(site.layer, site.opens_layer, site.closes_layer) for site in sites[:3]] == [
        (0, True, False),
        (0, False, False),
        (0, False, True),
    ]


def test_colour_and_any_number_of_frames():
    model = body(channels=3)
    for frames in (1, 2, 7):
        predicted = model(video(frames=frames, channels=3))
        assert predicted.shape == (2, frames, 3, 16, 8)
        assert predicted.min() >= 0 and predicted.max() <= 1


def test_a_scheme_that_needs_a_batch_gets_it():
    scheme = schemes.parse("admin(growth=profile)")
    with pytest.raises(UserError, match="a batch of videos"):
        VideoTransformer(scheme, **SHAPE)
    model = VideoTransformer(scheme, calibration=video().float(), **SHAPE)
    assert model(video().float()).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 3}, "patch=3 does not divide frames of 16 x 8"),
        ({"head": "moton"}, "did you mean 'motion'"),
        ({"motions": 0}, "motions=0 is not allowed"),
        ({"reach": -1}, "reach=-1 is not allowed"),
        ({"depth": 3}, "model field .depth. is unknown"),
    ],
)
def test_a_bad_shape_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        body(**changes)


def test_what_is_no_video_of_the_size_is_refused():
    model = body()
    for wrong in (video()[:, 0], video(channels=3), video().mul(255).byte()):
        with pytest.raises(UserError, match="a video of shape"):
            model(wrong)
