"""What all bodies share: fresh weights by seed, builds without memory, calibration in a forward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from addnorm import Encoder, EncoderDecoder, Scheme, Transformer, UserError, schemes
from addnorm.layers.patches import PatchGrid
from addnorm.layers.sublayer import stream_weights
from addnorm.models.body import Body
from addnorm.models.classifier import TextClassifier
from addnorm.models.diffusion import DiffusionTransformer
from addnorm.models.patch_decoder import PatchDecoder
from addnorm.models.span import SpanModel
from addnorm.models.video import VideoTransformer
from addnorm.models.vision import VisionTransformer
from models.bodies import ids

SIZE: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 2}
TEXT: dict[str, Any] = SIZE | {"vocab_size": 13}
GRID = PatchGrid(height=8, width=8, channels=1, patch=4)
PIXELS = torch.linspace(-1, 1, 192).view(3, 8, 8, 1)
LABELS = torch.tensor([0, 1, 2])
Build = Callable[..., Body]
# How each is built, and what its forward takes.
BODIES: dict[str, tuple[Build, tuple[torch.Tensor, ...]]] = {
    "decoder": (lambda scheme, **given: Transformer(scheme, **TEXT, **given), (ids(),)),
    "decoder with its own head": (
        lambda scheme, **given: Transformer(scheme, **TEXT, tie_embeddings=False, **given),
        (ids(),),
    ),
    "encoder": (lambda scheme, **given: Encoder(scheme, **TEXT, segments=2, **given), (ids(),)),
    "encoder-decoder": (
        lambda scheme, **given: EncoderDecoder(scheme, **TEXT, encoder_layers=1, **given),
        (ids(), ids(tokens=5)),
    ),
    "classifier": (
        lambda scheme, **given: TextClassifier(scheme, outputs=3, **TEXT, **given),
        (ids(), torch.ones_like(ids(), dtype=torch.bool)),
    ),
    "span": (lambda scheme, **given: SpanModel(scheme, **TEXT, **given), (ids(),)),
    "vision": (lambda scheme, **given: VisionTransformer(scheme, grid=GRID, **TEXT, **given), (PIXELS,)),
    "video": (
        lambda scheme, **given: VideoTransformer(scheme, height=16, width=8, **SIZE, **given),
        (torch.linspace(0, 1, 768).view(2, 3, 1, 16, 8),),
    ),
    "diffusion": (
        lambda scheme, **given: DiffusionTransformer(scheme, grid=GRID, head="levels", **TEXT, **given),
        (PIXELS, torch.tensor([0.1, 0.5, 0.9]), LABELS),
    ),
    "patch decoder": (
        lambda scheme, **given: PatchDecoder(scheme, grid=GRID, classes=3, **TEXT, **given),
        ((6 * PIXELS + 6).long(), LABELS),
    ),
}
each_body = pytest.mark.parametrize(("build", "given"), BODIES.values(), ids=BODIES)
PROFILE = schemes.parse("admin(growth=profile)")


@each_body
@pytest.mark.parametrize("scheme", ["pre-norm", "mhc(projection_std=0.1)", "deep-norm"])
def test_a_copy_and_a_build_without_memory_are_the_same_model(build: Build, given: Any, scheme: str) -> None:
    direct = build(schemes.parse(scheme), seed=3).eval()
    with torch.device("meta"):
        empty = build(schemes.parse(scheme))
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    empty.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in (*empty.parameters(), *empty.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))  # to_empty may find zeros in memory
    empty.initialise_(3)
    for other in (copy.deepcopy(direct), empty):
        for (name, one), (_, two) in zip(direct.state_dict().items(), other.state_dict().items(), strict=True):
            assert torch.equal(one, two), name
        assert torch.equal(other(*given), direct(*given))


@each_body
def test_another_seed_gives_other_weights(build: Build, given: Any) -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in build(schemes.parse("pre-norm"), seed=seed).parameters()])

    assert torch.equal(weights(0), weights(0))
    # What is not drawn is a bias, a gain or a table that starts at a constant.
    assert (weights(0) != weights(1)).float().mean() > 0.8


@each_body
def test_a_scheme_that_needs_a_batch_gets_it_in_every_stack(build: Build, given: Any) -> None:
    with pytest.raises(UserError, match="pass calibration="):
        build(PROFILE)
    batch = given[:1] if build is BODIES["classifier"][0] else given
    model = build(PROFILE, calibration=batch if len(batch) > 1 else batch[0])
    for stack, _ in model.stacks():
        omegas = [float(p.detach()[0]) for name, p in stack.named_parameters() if name.endswith("omega")]
        assert omegas[0] == 1 and omegas == sorted(set(omegas))
        assert not stack._forward_pre_hooks
    assert model.training
    assert model(*given).isfinite().all()


def test_a_batch_that_forward_does_not_take_is_refused_with_what_is_taken() -> None:
    model = Transformer(PROFILE, calibration="later", **TEXT)
    with pytest.raises(UserError, match="a Transformer is calibrated on a batch of token ids: missing a required"):
        model.calibrate_()


@each_body
def test_the_scheme_brings_the_weights_of_every_stack_back(build: Build, given: Any) -> None:
    """nGPT's matrices have rows or columns of length one (arXiv:2410.01131), before and after."""
    model = build(schemes.parse("n-gpt"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for stack, tables in model.stacks():
            for weight in (*tables, *_projections(stack)):
                weight.mul_(3.0)
    model.after_step_()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name], atol=1e-6, rtol=1e-5)  # one division, rounded


def _projections(stack: torch.nn.Module) -> list[torch.Tensor]:
    weights: Any = [stream_weights(block.sublayer) for block in stack.blocks]  # pyrefly: ignore
    return [weight for groups in weights for group in groups for weight in group]


@each_body
def test_an_example_is_what_forward_takes(build: Build, given: Any) -> None:
    model = build(schemes.parse("pre-norm")).eval()
    example = model.example()
    assert [each.dtype for each in example] == [each.dtype for each in given]
    assert [each.dim() for each in example] == [each.dim() for each in given]
    assert model(*example).isfinite().all() and len(model(*example)) == 1


def test_every_body_of_the_package_is_tried_here() -> None:
    def kinds(kind: type[Body]) -> set[type[Body]]:
        return {kind, *(below for each in kind.__subclasses__() for below in kinds(each))}

    tried = {type(build(schemes.parse("pre-norm"))) for build, _ in BODIES.values()}
    assert {kind for kind in kinds(Body) if "forward" in vars(kind) and kind.__module__.startswith("addnorm")} == tried


def test_a_scheme_is_at_hand_in_every_body() -> None:
    scheme: Scheme = schemes.parse("pre-norm")
    assert all(build(scheme).scheme is scheme for build, _ in BODIES.values())
