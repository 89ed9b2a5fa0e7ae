"""The C++ kernel of a site of mHC equals its plain reference, in value and in gradient, wherever it runs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from addnorm import Stack, Transformer
from addnorm.kernels import mhc_site, native
from addnorm.kernels.mhc_read import Numbers
from addnorm.kernels.mhc_site import write_and_read_reference
from addnorm.kernels.mhc_weights import Form, Weights, read_reference
from addnorm.layers.route import Equations, begin
from addnorm.schemes.mhc import MHC
from addnorm.stack import sites
from addnorm.testing.small_models import moved, noise_like, projected, tokens
from agreement import TOLERANCE, assert_agree, outcome

pytestmark = pytest.mark.skipif(native.library("mhc_site") is None, reason="there is no C++ compiler")

FORM = Form(numbers=Numbers(iterations=7, eps=1e-6), norm="layer", norm_eps=1e-5)
# Leading dimensions, streams, width: less than a block, whole blocks, rests; widths that fill no vector.
SIZES = [((7,), 4, 33), ((2, 3), 4, 8), ((1,), 2, 1), ((33,), 3, 3), ((), 4, 16), ((16,), 4, 512), ((5,), 5, 40)]
SCHEME = MHC(alpha=0.9, diagonal=0.5, projection_std=0.3)


def inputs(size: tuple[tuple[int, ...], int, int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Different streams, two updates, and the weights of two sites: far from symmetry and from the identity."""
    lead, n, d = size
    rows = n * n + 2 * n
    shapes = {"streams": (*lead, n, d), "first update": (*lead, d), "second update": (*lead, d)}
    for site in ("first", "second"):
        shapes |= {f"{site} phi": (rows, n * d), f"{site} alpha": (3,), f"{site} bias": (rows,)}
        shapes |= {f"{site} gain": (d,), f"{site} shift": (d,)}
    made = {
        name: noise_like(torch.empty(shape, dtype=dtype), seed) for seed, (name, shape) in enumerate(shapes.items())
    }
    for name in made:
        if name.endswith("phi"):
            made[name] = made[name] * d**-0.5  # logits of the size of 1
    return {name: tensor.requires_grad_() for name, tensor in made.items()}


def weights(given: dict[str, Tensor], site: str, form: Form = FORM) -> Weights:
    learned: dict[str, Any] = {name: given[f"{site} {name}"] for name in ("phi", "alpha", "bias", "gain", "shift")}
    return Weights(**learned, form=form)


def fused(given: dict[str, Tensor], form: Form = FORM) -> tuple[Tensor, ...]:
    """Two sites: both reads, and the state after them."""
    one, held = mhc_site.read(given["streams"], weights(given, "first", form))
    two, held = mhc_site.write_and_read(held, given["first update"], weights(given, "second", form))
    return one, two, mhc_site.write(held, given["second update"])


def apart(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The same without handing over."""
    one, held = mhc_site.read(given["streams"], weights(given, "first"))
    state = mhc_site.write(held, given["first update"])
    two, held = mhc_site.read(state, weights(given, "second"))
    return one, two, mhc_site.write(held, given["second update"])


def reference(given: dict[str, Tensor], form: Form = FORM) -> tuple[Tensor, ...]:
    one, mixed, post = read_reference(given["streams"], weights(given, "first", form))
    state = mixed + post.unsqueeze(-1) * given["first update"].unsqueeze(-2)
    two, mixed, post = read_reference(state, weights(given, "second", form))
    return one, two, mixed + post.unsqueeze(-1) * given["second update"].unsqueeze(-2)


def learnable(given: dict[str, Tensor], form: Form = FORM) -> dict[str, Tensor]:
    unused = {"layer": (), "rms": (), "none": ("gain", "shift")}[form.norm]
    return {name: tensor for name, tensor in given.items() if not name.endswith(unused)}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_equals_its_reference_in_value_and_gradient(size, norm, dtype):
    form = replace(FORM, norm=norm)
    exact = inputs(size)
    given = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in exact.items()}
    if size[2] == 1 and norm == "layer":
        pytest.skip("the norm of one number is zero")
    ours = outcome(lambda: fused(given, form), learnable(given, form))
    theirs = outcome(lambda: reference(exact, form), learnable(exact, form))
    for name, expected in theirs.items():
        error = (ours[name].double() - expected).abs().max() / expected.abs().max().clamp_min(1.0)
        # float32: a chain of two sites, so twice what one operation is allowed.
        assert error <= 2 * TOLERANCE[dtype], f"{name}: {error:.1e}"


@pytest.mark.parametrize("size", [SIZES[0], SIZES[1], SIZES[3]], ids=str)
def test_a_bfloat16_state_is_only_rounded_when_stored(size):
    given = inputs(size, torch.float32)
    narrow = {
        name: tensor.detach().bfloat16().requires_grad_() if "update" in name or name == "streams" else tensor
        for name, tensor in given.items()
    }
    exact = {name: tensor.detach().double().requires_grad_() for name, tensor in narrow.items()}
    ours = outcome(lambda: fused(narrow), narrow)
    theirs = outcome(lambda: reference(exact), exact)
    assert ours["output 2"].dtype == torch.bfloat16
    for name, expected in theirs.items():
        # Each of three states is rounded by 2^-9 of itself, and their gradients are; both sites amplify it.
        torch.testing.assert_close(ours[name].double(), expected, rtol=2**-4, atol=2**-5 * float(expected.abs().max()))


def test_a_bfloat16_update_of_a_float32_state_is_widened_exactly():
    given = inputs(SIZES[0], torch.float32)
    narrow = given | {
        name: given[name].detach().bfloat16().requires_grad_() for name in ("first update", "second update")
    }
    wide = given | {name: narrow[name].detach().float().requires_grad_() for name in ("first update", "second update")}
    ours, theirs = outcome(lambda: fused(narrow), narrow), outcome(lambda: fused(wide), wide)
    for name, expected in theirs.items():
        assert torch.equal(ours[name], expected.to(ours[name].dtype)), name


@pytest.mark.parametrize("narrow", [(1,), (0, 2), (0, 1, 3), (2, 3)], ids=str)
def test_updates_of_different_precisions_are_each_read_as_they_are(narrow):
    """As under autocast, where some sublayers compute in bfloat16 and others do not."""
    outcomes = []
    for back in (False, True):
        torch.manual_seed(0)
        sublayers = [Rounded(i in narrow, back=back) for i in range(5)]
        stack = Stack(SCHEME, sublayers, d_model=8)
        embedding = noise_like(torch.empty(2, 5, 8)).requires_grad_()
        named = {"embedding": embedding} | dict(stack.named_parameters())
        outcomes.append(outcome(lambda stack=stack, embedding=embedding: stack(embedding), named))
    # The same numbers by both ways; a sum may be split elsewhere.
    assert_agree(*outcomes, 1e-5)


class Rounded(nn.Module):
    """A sublayer whose result is rounded to bfloat16, and may be widened again."""

    def __init__(self, narrow: bool, *, back: bool) -> None:
        super().__init__()
        self.narrow, self.back = narrow, back

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        y = torch.tanh(2 * x)
        if not self.narrow:
            return y
        return y.bfloat16().float() if self.back else y.bfloat16()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_handing_over_is_writing_and_reading_bit_for_bit(dtype):
    given = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in inputs(SIZES[0]).items()}
    one, two = outcome(lambda: fused(given), given), outcome(lambda: apart(given), given)
    for name, expected in two.items():
        assert torch.equal(one[name], expected), name


def test_the_write_and_read_reference_is_the_kernel_of_one_boundary():
    given = inputs(SIZES[1])
    _, held = mhc_site.read(given["streams"], weights(given, "first"))
    state, read, mixed, post = write_and_read_reference(held, given["first update"], weights(given, "second"))
    found, after = mhc_site.write_and_read(held, given["first update"], weights(given, "second"))
    for ours, theirs in ((after.state(), state), (found, read), (after.post, post), (after.mixing @ state, mixed)):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)  # float64: only the order of sums differs


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4])
def test_its_gradient_is_the_numerical_one(every):
    given = inputs(((3,), 4, 5))
    names = list(given)
    assert torch.autograd.gradcheck(lambda *t: chain(dict(zip(names, t, strict=True)), every), list(given.values()))


def chain(given: dict[str, Tensor], every: int, length: int = 6, form: Form = FORM) -> tuple[Tensor, ...]:
    """Several sites, the weights and updates of two in turn."""
    x, held = mhc_site.read(given["streams"], weights(given, "first", form))
    found = [x]
    for i in range(1, length):
        one, two = ("second", "first") if i % 2 else ("first", "second")
        x, held = mhc_site.write_and_read(held, found[-1] * given[f"{two} update"], weights(given, one, form), every)
        found.append(x)
    return *found, mhc_site.write(held, given["second update"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("every", [2, 3, 99])
def test_a_state_that_is_made_again_has_the_same_bits(every, dtype):
    given = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in inputs(SIZES[0]).items()}
    one, two = outcome(lambda: chain(given, 1), given), outcome(lambda: chain(given, every), given)
    for name, expected in one.items():
        assert torch.equal(two[name], expected), name


def test_fewer_stored_states_are_fewer_saved_bytes():
    given, sizes = inputs(((64,), 4, 64), torch.float32), []
    for every in (1, 2, 4):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            chain(given, every)
        sizes.append(sum(kept.values()))
    state = 64 * 4 * 64 * 4
    mixing = 64 * (4 * 4) * 4
    # Five writes between six sites: 5 states are stored, 2, and 1. For each that is not, its mixing is; and where the
    # next site keeps it, one number of 4 bytes that stands for it in the graph.
    assert sizes[0] - sizes[1] == 3 * state - 3 * mixing - 2 * 4
    assert sizes[1] - sizes[2] == 1 * state - 1 * mixing - 1 * 4


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2, 99])
@pytest.mark.parametrize("form", [FORM, Form(numbers=FORM.numbers)], ids=["norm inside", "norm outside"])
def test_the_second_derivative_of_a_chain_of_sites_is_right(every, form):
    given = inputs(SIZES[1])

    def results(*tensors: Tensor) -> tuple[Tensor, ...]:
        return chain(dict(zip(given, tensors, strict=True)), every, form=form)

    assert torch.autograd.gradgradcheck(results, tuple(given.values()), fast_mode=True)


def test_two_writes_of_one_skip_both_send_their_gradients():
    given = inputs(SIZES[1])

    def twice(read: Any) -> Tensor:
        return sum((read(given[f"{which} update"]) * (i + 1)).square() for i, which in enumerate(("first", "second")))

    _, held = mhc_site.read(given["streams"], weights(given, "first"))
    ours = outcome(
        lambda: twice(lambda y: mhc_site.write(held, y)), {"streams": given["streams"], "y": given["first update"]}
    )
    _, mixed, post = read_reference(given["streams"], weights(given, "first"))
    theirs = outcome(
        lambda: twice(lambda y: mixed + post.unsqueeze(-1) * y.unsqueeze(-2)),
        {"streams": given["streams"], "y": given["first update"]},
    )
    assert_agree(ours, theirs, TOLERANCE[torch.float64])


def test_backward_can_run_twice():
    given = inputs(SIZES[0])
    total = projected(fused(given))
    one = torch.autograd.grad(total, list(given.values()), retain_graph=True)
    two = torch.autograd.grad(total, list(given.values()))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_backward_leaves_the_incoming_gradient_as_it_is():
    given = inputs(SIZES[0])
    state = fused(given)[2]
    grad = noise_like(state)
    before = grad.clone()
    state.backward(grad)
    assert torch.equal(grad, before)


def test_results_of_a_token_do_not_depend_on_its_place():
    given = inputs(((21,), 4, 24), torch.float32)
    whole = fused(given)
    for start in (0, 5, 20):
        part = given | {name: given[name][start : start + 3] for name in ("streams", "first update", "second update")}
        for one, two in zip(fused(part), whole, strict=True):
            assert torch.equal(one, two[start : start + 3])


def test_threads_change_only_the_order_of_sums():
    given, before = inputs(((50,), 4, 24)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(outcome(lambda: fused(given), given))
    finally:
        torch.set_num_threads(before)
    assert_agree(found[1], found[0], 1e-12)  # float64
    assert all(torch.equal(found[1][name], found[2][name]) for name in found[1])


def test_checkpointing_gives_the_same_bits():
    given = inputs(SIZES[0], torch.float32)
    names = list(given)

    def again(*tensors: Tensor) -> tuple[Tensor, ...]:
        return fused(dict(zip(names, tensors, strict=True)))

    plain = outcome(lambda: fused(given), given)
    repeated = outcome(lambda: checkpoint(again, *given.values(), use_reentrant=False), given)
    assert all(torch.equal(repeated[name], expected) for name, expected in plain.items())


# --- in a model


def losses(model: Transformer, **autocast: Any) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, **({"enabled": False} | autocast)):
        return outcome(lambda: model(tokens()), dict(model.named_parameters()))


@pytest.mark.parametrize("norm", ["layer", "rms", "tanh"])
@pytest.mark.parametrize("streams", [2, 4])
def test_a_model_agrees_with_torch_alone(norm, streams):
    model = moved(replace(SCHEME, norm=norm, streams=streams), num_layers=4).double()
    with native.switched(False):
        theirs = losses(model)
    assert_agree(losses(model), theirs, 1e-10)  # float64, eight sites


def test_a_model_takes_the_kernel():
    connection = SCHEME.connection(8, sites(4)[1])
    streams = noise_like(torch.empty(2, 5, 4, 8))
    assert not isinstance(begin([connection], streams), Equations)
    with native.switched(False):
        assert isinstance(begin([connection], streams), Equations)
    assert isinstance(begin([connection.to("meta")], streams.to("meta")), Equations)


def test_a_model_under_autocast_agrees_with_torch_alone():
    model = moved(SCHEME, num_layers=2)
    with native.switched(False):
        theirs = losses(model, enabled=True)
    ours = losses(model, enabled=True)
    for name, expected in theirs.items():
        # Sublayers compute in bfloat16, whose roundings fall elsewhere when their input differs in the last bit.
        torch.testing.assert_close(ours[name], expected, rtol=2**-4, atol=2**-4 * float(expected.abs().max()))


def test_a_hooked_norm_still_runs():
    connection, seen = SCHEME.connection(8, sites(4)[1]), []
    streams = noise_like(torch.empty(2, 5, 4, 8))
    plain = begin([connection], streams).enter(streams)
    connection.norm.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(begin([connection], streams).enter(streams), plain)
    assert seen


def test_a_norm_of_the_users_own_still_runs():
    connection = SCHEME.connection(8, sites(4)[1])
    connection.norm = nn.Hardtanh()
    streams = 10 * noise_like(torch.empty(2, 5, 4, 8))
    assert begin([connection], streams).enter(streams).abs().max() == 1


def test_a_copy_computes_the_same():
    model = moved(SCHEME)
    one, two = losses(model), losses(copy.deepcopy(model))
    assert all(torch.equal(one[name], two[name]) for name in one)
