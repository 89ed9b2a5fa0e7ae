"""BatchNorm over tokens: padding has no part in it, in training, in evaluation or under checkpointing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from addnorm import Transformer, UserError
from addnorm.layers.batch_norm import BatchNorm
from addnorm.layers.padding import current_padding, padding
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import noise_like, tokens

KEEP = torch.tensor(
    [[True, True, True, True, True], [False, False, True, True, True], [False, True, True, True, False]]
)


def batch() -> Tensor:
    return noise_like(torch.empty(3, 5, 8, dtype=torch.float64)) * 3 + 1


def made() -> BatchNorm:
    norm = BatchNorm(8).double()
    with torch.no_grad():
        norm.weight.add_(noise_like(norm.weight))
        norm.bias.add_(noise_like(norm.bias, 4))
    return norm


def padded_with(x: Tensor, filling: float) -> Tensor:
    return torch.where(KEEP[..., None], x, torch.full_like(x, filling))


def by_formula(norm: BatchNorm, x: Tensor, real: Tensor) -> Tensor:
    mean = real.sum(0) / len(real)
    variance = ((real - mean) ** 2).sum(0) / len(real)
    return (x - mean) / (variance + 1e-5) ** 0.5 * norm.weight + norm.bias


def test_without_padding_it_is_torchs_batch_norm():
    norm, x = made(), batch()
    other = torch.nn.BatchNorm1d(8).double()
    other.load_state_dict(norm.state_dict(), strict=False)
    # 1e-12: float64, the same operation.
    torch.testing.assert_close(norm(x), other(x.transpose(1, 2)).transpose(1, 2), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, other.running_mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, other.running_var, rtol=0, atol=1e-12)


def test_real_tokens_are_normalised_by_the_statistics_of_real_tokens():
    norm, x = made(), batch()
    with padding(KEEP):
        normed = norm(x)
    torch.testing.assert_close(normed[KEEP], by_formula(norm, x[KEEP], x[KEEP]), rtol=0, atol=1e-12)  # float64


@pytest.mark.parametrize("filling", [0.0, 1e6, float("nan")])
def test_what_stands_in_the_padding_changes_no_bit_of_output_gradient_or_statistics(filling):
    outcomes = []
    for x in (batch(), padded_with(batch(), filling)):
        norm, leaf = made(), x.requires_grad_()
        with padding(KEEP):
            normed = norm(leaf)
        (normed * noise_like(normed, 5))[KEEP].sum().backward()
        outcomes.append([normed[KEEP], leaf.grad[KEEP], norm.weight.grad, norm.running_mean, norm.running_var])
        assert (leaf.grad[~KEEP] == 0).all()
    for one, two in zip(*outcomes, strict=True):
        assert torch.equal(one, two)


def test_a_padded_row_equals_the_same_tokens_without_padding():
    x = batch()[:1]
    keep = torch.tensor([[True, True, True, False, False]])
    norm, short = made(), made()
    with padding(keep):
        normed = norm(x)
    torch.testing.assert_close(normed[:, :3], short(x[:, :3]), rtol=0, atol=1e-12)  # float64
    torch.testing.assert_close(norm.running_var, short.running_var, rtol=0, atol=1e-12)


def test_running_statistics_move_towards_the_real_tokens_by_the_momentum():
    norm, x = made(), batch()
    with padding(KEEP):
        norm(x)
    real = x[KEEP]
    # The unbiased variance, as torch keeps it.
    torch.testing.assert_close(norm.running_mean, 0.1 * real.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * real.var(0))


def test_evaluation_uses_the_running_statistics_and_each_token_alone():
    norm, x = made(), batch()
    for _ in range(3):
        norm(x)
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    expected = (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    with padding(KEEP):
        normed = norm(x)
    torch.testing.assert_close(normed, expected, rtol=0, atol=1e-12)  # float64
    assert torch.equal(norm(x[:1, :1]), normed[:1, :1])
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_the_padding_is_forgotten_afterwards_also_after_an_error():
    with pytest.raises(RuntimeError), padding(KEEP):
        assert current_padding() is KEEP
        raise RuntimeError
    assert current_padding() is None


def test_one_real_token_has_no_variance_and_is_refused():
    keep = torch.zeros(3, 5, dtype=torch.bool)
    keep[0, 0] = True
    with padding(keep), pytest.raises(UserError, match="batch norm saw 1 real token in training"):
        made()(batch())


@pytest.mark.parametrize("scheme", [PreNorm(norm="batch"), PostNorm(norm="batch")])
def test_padding_on_the_left_changes_nothing_for_a_model(scheme):
    size = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": 2}
    ids = tokens(2, 6)
    longer = torch.cat((torch.zeros(2, 2, dtype=torch.long), ids), dim=1)
    keep = torch.cat((torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool)), dim=1)
    plain, padded = (Transformer(scheme, **size).double().train() for _ in range(2))
    # 1e-10: float64, and rotary positions that are shifted by two.
    torch.testing.assert_close(padded(longer, keep)[:, 2:], plain(ids), rtol=0, atol=1e-10)
    for one, two in zip(padded.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scheme", [PreNorm(norm="batch"), PostNorm(norm="batch")])
@pytest.mark.parametrize("keep", [None, KEEP])
def test_checkpointing_changes_neither_gradients_nor_running_statistics(scheme, keep):
    outcomes = []
    for checkpointing in (False, True):
        model = Transformer(scheme, vocab_size=11, d_model=8, num_heads=2, num_layers=2).train()
        model.stack.checkpointing = checkpointing
        logits = model(tokens(3, 5), keep)
        real = logits if keep is None else logits[keep]
        (real * noise_like(real)).sum().backward()
        outcomes.append([logits, *(p.grad for p in model.parameters()), *model.buffers()])
    for plain, recomputed in zip(*outcomes, strict=True):
        assert torch.equal(plain, recomputed)
