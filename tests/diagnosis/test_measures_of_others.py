"""Decomposition and measures of models by many makers, from the trunks that are found in them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import addnorm
from addnorm.diagnosis.measures import FROM_THE_TRACE, MEASURES, measure
from addnorm.diagnosis.measures.logit_attribution import attribute
from addnorm.diagnosis.measures.logit_lens import logit_lens
from addnorm.diagnosis.running import call
from addnorm.diagnosis.subject import Series, Subject
from addnorm.diagnosis.tracer import logits_of, trace
from diagnosis.models_of_others import MODELS

# Relative: of the float32 arithmetic of a dozen writes.
EXACT = 1e-6
BY_FEATURES = ("qwen4_exp", "gemma3n")
"""Their last state's streams become one by a gate a feature, and by a map a stream: no weighing of vectors."""


def subjects(name: str) -> list[Subject]:
    """Of each trunk, with a loss of no meaning."""
    model, batch = MODELS[name]()
    model.eval()

    def loss(output: Any) -> torch.Tensor:
        return logits_of(output).float().square().mean()

    run = [lambda: call(model, batch)]
    return [
        Subject(trace=one, model=model, run=run[0], loss=lambda: loss(run[0]()))
        for one in trace(model, batch, loss=loss)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_sum_up_to_the_last_state_of_anybodys_model(name: str) -> None:
    for case in subjects(name):
        found = case.decomposition
        assert found is not None
        assert max(found.sites) <= EXACT
        assert found.state_error <= EXACT
        if name in BY_FEATURES:
            assert found.end > 0.01 and found.weights is None
            assert torch.allclose(found.parts.sum(0) + found.biases + found.remainder, found.total, atol=1e-9)
        else:
            assert found.error <= EXACT


@pytest.mark.parametrize(
    "name", ["llama", "bert", "t5", "x-transformers", "by hand", "deepseek_v4", "gemma3n", "inkling2"]
)
def test_all_measures_run_on_anybodys_model(name: str) -> None:
    for case in subjects(name):
        found = {series.name: series for series in measure(case, FROM_THE_TRACE if name == "t5" else MEASURES)}
        depth = len(case.trace.writes)
        lengths = {"state": depth + 1, "sublayer": depth, "block": len(case.blocks()), "source": depth + 1}
        for series in found.values():
            assert len(series.values) == lengths.get(series.along, len(series.values)), series.name
        assert all(math.isfinite(value) for value in found["state rms"].values)
        assert ("stream similarity" in found) == (case.trace.trunk.layout == "streams")
        assert ("depth weights" in found) == (case.trace.trunk.layout == "depth attention")


@pytest.mark.parametrize("name", ["llama", "gemma2", "deepseek_v4", "hy_v4", "qwen4_exp", "gemma3n", "inkling2"])
def test_the_lens_ends_in_what_the_model_says(name: str) -> None:
    (case,) = subjects(name)
    found = {series.name: series.values for series in logit_lens(case)}
    assert found["lens divergence"][-1] == pytest.approx(0, abs=1e-5)  # float32 logits
    assert found["lens agreement"][-1] == 1
    assert found["lens divergence"][0] > 1e-7  # fresh weights of 0.02 predict all tokens nearly alike


@pytest.mark.parametrize("name", ["llama", "cohere", "deepseek_v4", "hy_v4", "inkling2"])
def test_the_shares_in_a_logit_sum_up_to_it(name: str) -> None:
    """RMSNorms, and a LayerNorm without a shift: nothing but the parts moves a logit."""
    (case,) = subjects(name)
    found = attribute(case)
    assert found is not None
    assert float(found.rest.abs().max()) <= 1e-5 * float(found.margin.abs().max())  # float32 logits


def test_deepseek_v4_ends_sinkhorn_on_what_are_rows_here_and_hy_v4_mixes_nothing() -> None:
    found = {}
    for name in ("deepseek_v4", "hy_v4"):
        (case,) = subjects(name)
        found[name] = {series.name: series.values for series in measure(case, FROM_THE_TRACE)}
    rows = [value for value in found["deepseek_v4"]["row error"] if value is not None]
    columns = [value for value in found["deepseek_v4"]["column error"] if value is not None]
    assert rows and max(rows) < 1e-4 < max(columns)  # A is solved from float32 states, hc_eps is 1e-6
    gates = torch.tensor([row for row in found["hy_v4"]["skip gate"] if row is not None])
    assert len(gates) and torch.allclose(gates, torch.ones_like(gates), atol=1e-4)  # S' = S + b w


def test_a_model_in_training_is_measured_in_evaluation_and_left_in_training() -> None:
    model = addnorm.Transformer("pre-norm", vocab_size=17, d_model=16, num_heads=2, num_layers=2, dropout=0.5)
    ids = torch.arange(12).view(2, 6)
    found: list[list[Series]] = []
    for training in (False, True):
        model.train(training)
        (one,) = trace(model, ids, targets=ids)
        found.append(
            measure(Subject(trace=one, model=model, run=lambda: model(ids), loss=lambda: model(ids).square().mean()))
        )
        assert model.training is training
    for first, second in zip(*found, strict=True):
        assert first == second
