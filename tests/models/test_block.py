"""`TransformerBlock` against `torch.nn.TransformerEncoderLayer(norm_first=True)` with the same weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from addnorm import TransformerBlock, UserError
from addnorm.kernels import native
from oracles.ties import Pair, differences, randomise_, tied, tied_fused

BATCH, TOKENS, WIDTH, HEADS = 3, 6, 16, 4
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # what the project promises; measured: 100 times less


def block(dtype: torch.dtype = torch.float64) -> TransformerBlock:
    made = TransformerBlock(WIDTH, HEADS, dropout=0.0).to(dtype)
    randomise_(made)
    return made


def vectors(dtype: torch.dtype = torch.float64, tokens: int = TOKENS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, tokens, WIDTH, dtype=torch.float64, generator=generator).to(dtype)


def against_torch(dtype: torch.dtype, mask: Tensor | None, **theirs_masks: Tensor) -> None:
    ours = block(dtype)
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="relu", batch_first=True, norm_first=True, dtype=dtype
    )
    attention = theirs.self_attn
    projections = (ours.attention.q_proj, ours.attention.k_proj, ours.attention.v_proj)
    pair = Pair(
        ours=ours,
        theirs=theirs,
        ties=tied(ours.attention_norm, theirs.norm1)
        + tied_fused(projections, attention.in_proj_weight, attention.in_proj_bias)
        + tied(ours.attention.o_proj, attention.out_proj)
        + tied(ours.feedforward_norm, theirs.norm2)
        + tied(ours.feedforward.fc1, theirs.linear1)
        + tied(ours.feedforward.fc2, theirs.linear2),
        inputs=(vectors(dtype),),
        run_ours=lambda src: ours(src, mask),
        run_theirs=lambda src: theirs(src, **theirs_masks),
    )
    found = differences(pair)
    assert max(found.value, found.gradient) < TOLERANCE[dtype]


both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@both_precisions
def test_it_equals_torch_without_a_mask(dtype):
    against_torch(dtype, None)


@both_precisions
def test_it_equals_torch_with_the_opposite_boolean_mask(dtype):
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    against_torch(dtype, causal, src_mask=~causal)


@both_precisions
def test_it_equals_torch_with_the_same_additive_mask(dtype):
    mask = nn.Transformer.generate_square_subsequent_mask(TOKENS, dtype=dtype)
    against_torch(dtype, mask, src_mask=mask)


@both_precisions
def test_it_equals_torch_with_padding(dtype):
    keep = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    keep[0, 2:], keep[2, 5:] = False, False
    against_torch(dtype, keep[:, None], src_key_padding_mask=~keep)


@both_precisions
def test_it_equals_torch_with_causality_and_padding(dtype):
    causal, keep = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(), torch.ones(BATCH, TOKENS, dtype=torch.bool)
    keep[1, 3:] = False
    against_torch(dtype, causal & keep[:, None], src_mask=~causal, src_key_padding_mask=~keep)


@both_precisions
def test_it_equals_torch_with_a_mask_for_each_head(dtype):
    mask = torch.rand(BATCH, HEADS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[..., 0] = True
    against_torch(dtype, mask, src_mask=~mask.flatten(0, 1))


def test_a_row_that_may_attend_to_nothing_gives_no_nan_where_torch_gives_nan():
    made, x = block(), vectors().requires_grad_()
    output = made(x, torch.zeros(TOKENS, TOKENS, dtype=torch.bool))
    output.sum().backward()
    assert output.isfinite().all()
    assert x.grad.isfinite().all()


def test_its_gradients_are_those_of_finite_differences():
    made = TransformerBlock(4, 2, dropout=0.0).double()
    randomise_(made)
    made.feedforward.activation = "gelu"  # ReLU has a kink
    names = [name for name, _ in made.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in made.parameters()]
    mask = torch.ones(3, 3, dtype=torch.bool).tril()

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (x, mask))

    x = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *values))


def test_dropout_is_on_by_default_in_training_and_off_in_evaluation():
    made, x = TransformerBlock(WIDTH, HEADS), vectors(torch.float32)
    torch.manual_seed(0)
    assert not torch.equal(made(x), made(x))
    made.eval()
    assert torch.equal(made(x), made(x))


def test_dropout_falls_on_both_sublayers_outputs():
    made, x = TransformerBlock(WIDTH, HEADS, dropout=0.5).double(), vectors(tokens=200)
    randomise_(made)
    torch.manual_seed(0)
    seen = {}
    made.attention.register_forward_hook(lambda _, __, output: seen.update(attention=output))
    made.feedforward.register_forward_hook(lambda _, __, output: seen.update(feedforward=output))
    made(x)
    for output in seen.values():
        # 9600 features: a standard error of 0.005.
        assert abs((output == 0).double().mean() - 0.5) < 0.025


def test_it_is_four_times_as_wide_inside_and_has_torch_s_number_of_parameters():
    theirs = nn.TransformerEncoderLayer(64, 8, 256)
    assert sum(p.numel() for p in TransformerBlock(64, 8).parameters()) == sum(p.numel() for p in theirs.parameters())


def test_it_survives_copying_and_the_state_dict():
    made, other = block(), TransformerBlock(WIDTH, HEADS, dropout=0.0).double()
    other.load_state_dict(made.state_dict())
    assert torch.equal(copy.deepcopy(made)(vectors()), other(vectors()))


def test_it_compiles_whole_with_a_mask():
    made, mask = block(), torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    with native.switched(False):  # C++ rounds elsewhere
        assert torch.equal(compiled(vectors(), mask), made(vectors(), mask))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TransformerBlock(512, 6), "num_heads=6 does not divide d_model=512; use 4 or 8."),
        (lambda: TransformerBlock(0, 1), "d_model=0 is not allowed; use 1 or more."),
        (lambda: TransformerBlock(8, 2, dropout=1.0), "dropout=1.0 is not allowed; use a probability"),
        (lambda: block()(vectors()[..., :8]), "give (batch, tokens, 16)"),
        (lambda: block()(vectors()[0]), "give (batch, tokens, 16)"),
        (lambda: block()(vectors(), torch.ones(5, 5, dtype=torch.bool)), "the attention mask has shape (5, 5)"),
        (lambda: block()(vectors(), torch.ones(6, 6, dtype=torch.long)), "the attention mask has dtype torch.int64"),
    ],
)
def test_bad_input_is_told_in_one_line(make, told):
    with pytest.raises(UserError) as error:
        make()
    assert told in str(error.value)
    assert "\n" not in str(error.value)
