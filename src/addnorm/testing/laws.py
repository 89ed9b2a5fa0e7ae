"""What every residual scheme must compute.

Each law takes a scheme and none names one. More laws: `laws_of_form.py` and its neighbours.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.kernels import native
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.models.decoder import Transformer
from addnorm.probes.signal import SignalFlow
from addnorm.residual import Connection, Scheme, State
from addnorm.stack import Stack, sites
from addnorm.testing.small_models import (
    BATCH,
    TOKENS,
    VOCAB,
    blocks,
    each,
    embedded,
    leaves,
    left_behind,
    moved,
    noise_like,
    own_parameters,
    projected,
    small,
    states,
    surroundings,
    token_changed,
    tokens,
)

# --- what it computes


def it_keeps_the_shape(scheme: Scheme) -> None:
    """Logits for every token of every row; any leading dimensions in a stack."""
    model = moved(scheme)
    for batch, length in ((1, 1), (BATCH, TOKENS)):
        logits = model(tokens(batch, length))
        assert logits.shape == (batch, length, VOCAB)
        assert logits.isfinite().all()
    stack = Stack(scheme, [FeedForward(8, inside=scheme.inside(site)) for site in sites(4)], 8).eval()
    for shape in ((8,), (5, 8), (2, 3, 5, 8)):
        assert stack(torch.ones(shape)).shape == shape


def the_exit_reads_any_depth(scheme: Scheme) -> None:
    """One vector a token from the first state, from the last and from all between."""
    model = moved(scheme)
    for state in states(model, tokens()):
        for hidden in (model.stack.exit(state), model.stack.exit.collapse(state)):
            assert hidden.shape == (BATCH, TOKENS, 16)
            assert hidden.isfinite().all()


def it_starts_as_it_claims(scheme: Scheme) -> None:
    """The claimed scheme's value and gradients before training, in evaluation; nothing to check without a claim.

    With the norms' own eps, which weighs most in a deep stack whose stream starts at an RMS of 0.02.
    """
    claimed = scheme.starts_as()
    if claimed is None:
        return
    for layers, init in ((2, "xavier"), (8, "normal")):
        loss, grads = _start(scheme, num_layers=layers, init=init)
        claimed_loss, claimed_grads = _start(claimed, num_layers=layers, init=init)
        # Mixing coefficients may carry an eps of 1e-6 against division by zero, once a sublayer.
        allowed = 2.5e-6 * 2 * layers
        torch.testing.assert_close(loss, claimed_loss, rtol=allowed, atol=1e-7)
        assert grads.keys() == claimed_grads.keys()
        for path, grad in grads.items():
            largest = claimed_grads[path].abs().max().item()
            torch.testing.assert_close(
                grad,
                claimed_grads[path],
                rtol=allowed,
                atol=allowed * largest + 1e-12,
                msg=f"{layers} layers, {init}: {path}",
            )


def _start(scheme: Scheme, **shape: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradients of what every scheme has."""
    model = small(scheme, **shape).double()
    loss = F.cross_entropy(model(tokens()).flatten(0, 1), tokens(seed=4).flatten())
    loss.backward()
    return loss, {path: p.grad for path, p in own_parameters(model).items() if p.grad is not None}


def cached_decoding_equals_the_full_forward(scheme: Scheme) -> None:
    """Token by token with a cache, and all at once."""
    model, ids, cache = moved(scheme).double(), tokens(), KVCache()
    steps = [model(ids[:, :2], cache=cache)] + [model(ids[:, t : t + 1], cache=cache) for t in range(2, TOKENS)]
    # 1e-10: float64 sums of up to 24 terms, taken in another order.
    torch.testing.assert_close(torch.cat(steps, dim=1), model(ids), rtol=1e-10, atol=1e-10)


# --- who sees whom


def the_future_does_not_leak(scheme: Scheme) -> None:
    """Another last token changes no earlier logit by a single bit."""
    model, ids = moved(scheme), tokens()
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    before, after = model(ids), model(other)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def no_gradient_comes_from_the_past(scheme: Scheme) -> None:
    """A token's output sends no gradient to later tokens."""
    model, ids = moved(scheme), tokens()
    embedding = embedded(model, ids).detach().requires_grad_()
    projected(model.stack(embedding, surroundings(ids))[:, 2]).backward()
    assert embedding.grad is not None
    assert (embedding.grad[:, 3:] == 0).all()
    assert (embedding.grad[:, :3].abs().amax(-1) > 0).all()


def rows_of_a_batch_are_independent(scheme: Scheme) -> None:
    """Another first row changes no other row by a single bit, nor sends it a gradient."""
    model, ids = moved(scheme), tokens()
    other = ids.clone()
    other[0] = (other[0] + 1) % VOCAB
    assert torch.equal(model(ids)[1:], model(other)[1:])
    embedding = embedded(model, ids).detach().requires_grad_()
    projected(model.stack(embedding, surroundings(ids))[0]).backward()
    assert embedding.grad is not None
    assert (embedding.grad[1:] == 0).all()


def a_connection_never_mixes_tokens(scheme: Scheme) -> None:
    """A changed token in the state or in the update changes that token alone, at every site, in read and in write."""
    model, ids, token = moved(scheme), tokens(), 2
    others = [t for t in range(TOKENS) if t != token]
    for block, state in zip(blocks(model), states(model, ids), strict=False):
        update = noise_like(embedded(model, ids))
        outcomes = []
        for tree, new in (
            (state, update),
            (each(lambda x: token_changed(x, token), state), token_changed(update, token)),
        ):
            x, skip = block.connection.read(tree)
            outcomes.append((leaves(x), leaves(block.connection.write(skip, new))))
        for ones, twos in zip(*outcomes, strict=True):
            pairs = list(zip(ones, twos, strict=True))
            assert all(torch.equal(one[:, others], two[:, others]) for one, two in pairs)
            # Not every one of them: a gate that all tokens share may travel in the state.
            assert any(not torch.equal(one[:, token], two[:, token]) for one, two in pairs)


# --- how it learns


def every_parameter_learns(scheme: Scheme) -> None:
    """Moved off its initial value each parameter has a gradient: in the model, or (in a connection) at its site.

    Connections are asked one by one, from a state that is moved too: a doubly stochastic mixture, for one, has no
    gradient where all streams are equal, at the entrance.
    """
    model, ids = moved(scheme).double(), tokens()
    projected(model(ids)).backward()
    for path, parameter in model.named_parameters():
        if ".connection." not in path:
            _assert_learns(path, parameter)
    context = surroundings(ids)
    for site, (block, state) in enumerate(zip(blocks(model), states(model, ids, context), strict=False)):
        block.zero_grad()
        genuine = each(lambda x: x.detach() + noise_like(x), state)
        projected(block(genuine, left_behind(context))).backward()
        for path, parameter in block.connection.named_parameters():
            _assert_learns(f"blocks.{site}.connection.{path}", parameter)


def _assert_learns(path: str, parameter: nn.Parameter) -> None:
    assert parameter.grad is not None, f"{path} is not in the graph"
    # 1e-9: what rounding leaves of a gradient that is zero in exact arithmetic is near 1e-16 in float64.
    assert parameter.grad.abs().max() > 1e-9, f"{path} is dead"


def read_and_write_have_the_right_gradient(scheme: Scheme) -> None:
    """Numerical against analytical derivatives in float64, of every connection.

    At one of them at least they differ, and must, where a scheme says that it stops a gradient on purpose.
    """
    model, ids = moved(scheme, d_model=8).double(), tokens(1, 2)
    found = states(model, ids)
    exact = all(
        _gradient_is_exact(block.connection, found[site], noise_like(embedded(model, ids)), scheme.exact_gradient)
        for site, block in enumerate(blocks(model))
    )
    assert exact == scheme.exact_gradient, "it says that it stops a gradient, and stops none"


def _gradient_is_exact(connection: Connection, state: State, update: Tensor, expected: bool) -> bool:
    """Whether the derivatives agree; where they are expected to, an error says where they do not."""
    state = each(lambda x: x.detach() + noise_like(x), state)
    inputs = [leaf.detach().requires_grad_() for leaf in leaves(state)]

    def outcome(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors[: len(inputs)])
        x, skip = connection.read(each(lambda _: next(given), state))
        return *leaves(x), *leaves(connection.write(skip, tensors[len(inputs)]))

    given = (*inputs, update.requires_grad_(), *connection.parameters())
    return torch.autograd.gradcheck(outcome, given, fast_mode=True, raise_exception=expected)


def a_stack_computes_what_read_and_write_say(scheme: Scheme) -> None:
    """By whatever kernels, the hidden vectors and all gradients are those of the equations, site after site."""
    outcomes = []
    for by_kernels in (True, False):
        model, ids = moved(scheme).double(), tokens()
        state, context = embedded(model, ids), surroundings(ids)
        with native.switched(by_kernels):
            hidden = model.stack(state, context) if by_kernels else _by_equations(model, state, context)
            projected(hidden).backward()
        outcomes.append([hidden.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, expected in zip(*outcomes, strict=True):
        # float64 in another order of sums, through four sites.
        torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def _by_equations(model: Transformer, embedding: Tensor, context: Context) -> Tensor:
    state = model.stack.entrance(embedding)
    for block in blocks(model):
        x, skip = block.connection.read(state)
        state = block.connection.write(skip, block.sublayer(x, context))
    return model.stack.exit(state)


def checkpointing_changes_nothing(scheme: Scheme) -> None:
    """Loss and every gradient are bit-equal with inner activations recomputed, in training."""
    results = []
    for checkpointing in (False, True):
        model = moved(scheme).train()
        model.stack.checkpointing = checkpointing
        torch.manual_seed(0)
        loss = projected(model(tokens()))
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def rebuilding_changes_nothing(scheme: Scheme) -> None:
    """Loss and every gradient are bit-equal with norms and activations made again in backward, in training."""
    results = []
    for rebuilding in (False, True):
        model = moved(scheme).train()
        model.stack.rebuilding = rebuilding
        torch.manual_seed(0)
        loss = projected(model(tokens()))
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
    for plain, rebuilt in zip(*results, strict=True):
        assert torch.equal(plain, rebuilt)


def a_probe_changes_no_bit(scheme: Scheme) -> None:
    """Loss and every gradient are bit-equal while the signal flow is measured, and the measurement is there."""
    results, depth = [], 4
    for probed in (False, True):
        model = moved(scheme)
        flow = SignalFlow(model.stack)
        with flow if probed else nullcontext():
            loss = projected(model(tokens()))
            loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
    for plain, watched in zip(*results, strict=True):
        assert torch.equal(plain, watched)
    measured = flow.forward_and_backward()
    assert len(measured["read_rms"]) == len(measured["update_rms"]) == len(measured["weight_grad_norm"]) == depth
    assert len(measured["state_rms"]) == len(measured["state_grad_norm"]) == depth + 1
    assert all(number > 0 for numbers in measured.values() for number in numbers)
