"""nGPT: its equation, the sphere that states and weights stay on, and how its factors are stored."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from addnorm import Encoder, EncoderDecoder, Transformer, UserError
from addnorm.config import RunConfig
from addnorm.schemes.n_gpt import NGPT
from addnorm.testing.small_models import moved, small, states, tokens
from addnorm.training.load import load_model
from addnorm.training.optimizer import Optimizer, rules_of_schemes
from addnorm.training.run import train
from inside_transcription import assert_inside_agrees
from oracles.inside_equations import n_gpt

SHAPE = {"vocab_size": 11, "d_model": 16, "num_heads": 4, "num_layers": 2}
# 1e-5: float32 roots of sums of 16 to 64 squares.
UNIT = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_it_is_its_n_gpt(activation):
    assert_inside_agrees(NGPT(), n_gpt(activation), activation=activation)


def test_every_state_is_on_the_unit_sphere():
    for state in states(moved(NGPT()), tokens()):
        torch.testing.assert_close(state.norm(dim=-1), torch.ones(3, 6), **UNIT)


def test_the_sign_of_alpha_does_not_matter():
    model = small(NGPT())
    before = model(tokens())
    with torch.no_grad():
        model.stack.blocks[0].connection.alpha.parameter.neg_()
    assert torch.equal(model(tokens()), before)


def test_factors_start_as_in_the_paper_and_are_stored_as_one_over_the_root_of_the_width():
    model = Transformer(NGPT(), activation="swiglu", **SHAPE)
    stored = {path: p for path, p in model.named_parameters() if path.endswith(".parameter")}
    # 2 alphas and 1 s_qk a layer are stored as 1/4, as is s_z; s_u and s_v as one.
    assert sorted(p.unique().item() for p in stored.values()) == [0.25] * (2 * 3 + 1) + [1.0] * (2 * 2)
    alpha = model.stack.blocks[0].connection.alpha
    torch.testing.assert_close(alpha(), torch.full((16,), 0.05))
    torch.testing.assert_close(model.head.logits.scale(), torch.ones(11))


def test_logits_are_scaled_cosines():
    model = small(NGPT(), tie_embeddings=False)
    hidden = states(model, tokens())[-1]
    cosines = F.cosine_similarity(hidden[..., None, :], model.head.own.weight, dim=-1)
    torch.testing.assert_close(model(tokens()), cosines)


@pytest.mark.parametrize("arrangement", ["sequential", "parallel", "composed"])
def test_weights_are_on_the_sphere_at_the_start(arrangement):
    model = Transformer(NGPT(), arrangement=arrangement, activation="swiglu", tie_embeddings=False, **SHAPE)
    assert_on_sphere(model, {"tokens", "own", "q_proj", "k_proj", "v_proj", "fc1", "gate", "o_proj", "fc2"})


def test_weights_of_encoders_and_cross_attentions_are_too():
    attention = {"q_proj", "k_proj", "v_proj", "fc1", "o_proj", "fc2"}
    assert_on_sphere(Encoder(NGPT(), **SHAPE), {"tokens"} | attention)
    assert_on_sphere(EncoderDecoder(NGPT(), **SHAPE), {"tokens"} | attention)


def test_weights_are_back_on_the_sphere_after_a_step():
    model = Transformer(NGPT(), **SHAPE)
    optimizer = Optimizer(model, RunConfig(weight_decay=0.1))
    F.cross_entropy(model(tokens()).flatten(0, 1), tokens(seed=4).flatten()).backward()
    optimizer.step(0.01)
    assert (model.embedding.tokens.weight.norm(dim=-1) - 1).abs().max() > 1e-3
    model.after_step_()
    assert_on_sphere(model, {"tokens", "q_proj", "k_proj", "v_proj", "fc1", "o_proj", "fc2"})


def test_training_keeps_weights_on_the_sphere(tmp_path):
    config = RunConfig(scheme="n-gpt", tokens=2_000, d_model=16, num_layers=1, evaluations=1, evaluation_tokens=512)
    assert train(config, tmp_path / "run")["status"] == "finished"
    model, _, _ = load_model(tmp_path / "run")
    assert_on_sphere(model, {"tokens", "q_proj", "k_proj", "v_proj", "fc1", "o_proj", "fc2"})


def test_nothing_decays():
    rules = rules_of_schemes(Transformer(NGPT(), **SHAPE))
    assert {rule.weight_decay for rule in rules.values()} == {0.0}


def test_a_step_of_zero_is_refused():
    with pytest.raises(UserError, match="alpha=0"):
        NGPT(alpha=0.0)


def assert_on_sphere(model: torch.nn.Module, expected: set[str]) -> None:
    seen = set()
    for path, weight in model.named_parameters():
        if weight.dim() == 2 and ".inside." not in path:
            kind = path.split(".")[-2]
            lengths = weight.norm(dim=0 if kind in ("o_proj", "fc2") else 1)
            torch.testing.assert_close(lengths, torch.ones_like(lengths), **UNIT)
            seen.add(kind)
    assert seen == expected
