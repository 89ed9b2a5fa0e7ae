"""Each measure against values that are known by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from addnorm.diagnosis.measures import MEASURES, measure
from addnorm.diagnosis.measures.attention_entropy import attention_entropy
from addnorm.diagnosis.measures.attention_sinks import attention_sinks
from addnorm.diagnosis.measures.block_influence import block_influence
from addnorm.diagnosis.measures.composite_gain import composite_gain
from addnorm.diagnosis.measures.deletion import deletion, without
from addnorm.diagnosis.measures.depth_weights import depth_weights
from addnorm.diagnosis.measures.effective_rank import effective_rank
from addnorm.diagnosis.measures.lipschitz import largest_singular_value, lipschitz
from addnorm.diagnosis.measures.logit_attribution import attribute, logit_attribution
from addnorm.diagnosis.measures.logit_lens import _run_to_the_end, lens_logits, logit_lens
from addnorm.diagnosis.measures.massive_activations import massive_activations
from addnorm.diagnosis.measures.rms import rms
from addnorm.diagnosis.measures.sinkhorn_error import sinkhorn_error
from addnorm.diagnosis.measures.state_gradient import state_gradient
from addnorm.diagnosis.measures.stream_gates import stream_gates
from addnorm.diagnosis.measures.stream_similarity import stream_similarity
from addnorm.diagnosis.measures.token_similarity import token_similarity
from addnorm.diagnosis.measures.weight_gradient import Updates, weight_gradient
from addnorm.diagnosis.subject import Series, Subject
from diagnosis.hand_made import language_model, loss_of, made, subject, tokens

EXACT = 1e-6  # float32 states, a handful of operations


def noise(*shape: int, seed: int = 0) -> Tensor:
    """The same numbers in every test."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def named(found: list[Series]) -> dict[str, list[Any]]:
    """The values by name."""
    return {series.name: list(series.values) for series in found}


def close(expected: Any) -> Any:
    """Within rounding."""
    return pytest.approx(expected, abs=EXACT, rel=EXACT)


def test_sizes_ratio_and_cosine_are_those_of_the_numbers() -> None:
    state, write = torch.tensor([[[3.0, -3.0], [3.0, 3.0]]]), torch.tensor([[[6.0, 0.0], [6.0, 0.0]]])
    found = named(rms(made([state, state + write], reads=[state / 3])))
    assert found["state rms"][0] == close(3)
    assert found["read rms"] == close([1])
    assert found["write rms"] == close([math.sqrt(18)])
    assert found["write to state"] == close([math.sqrt(2)])
    assert found["write cosine"] == close([math.sqrt(0.5)])


def test_padding_has_no_part_in_a_measure() -> None:
    state = torch.tensor([[[1.0, 1.0], [-1.0, 1.0], [900.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    found = named(measure(made([state, state * 2], mask=mask)))
    assert found["state rms"] == close([1, 2])
    assert found["token similarity"] == close([0, 0])
    assert found["effective rank"] == close([2, 2])
    assert found["massive activations"] == [0, 0]


def test_the_state_gradient_is_its_norm_and_none_where_none_came() -> None:
    state = noise(1, 2, 2)
    gradient = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
    found = named(state_gradient(made([state, state], state_gradients=[gradient, None])))
    assert found["state gradient"] == [close(5), None]
    assert state_gradient(made([state, state])) == []


def test_weight_gradients_and_updates_are_those_of_a_linear_layer() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1, bias=False), "unused": nn.Linear(1, 1), "bare": nn.ReLU()})
    with torch.no_grad():
        model["used"].weight.copy_(torch.tensor([[3.0, 4.0]]))
    state = noise(1, 2, 2)
    trace = made(
        [state] * 4,
        model=model,
        names=["used", "unused", "bare"],
        loss=lambda: model["used"](torch.tensor([1.0, 2.0])).sum(),
    )
    found = named(weight_gradient(trace))
    assert found["weight gradient"] == [close(math.sqrt(5)), 0.0, None]
    assert found["relative weight gradient"] == [close(math.sqrt(5) / 5), 0.0, None]
    updates = Updates(trace.trace.trunk, model)
    with torch.no_grad():
        model["used"].weight.mul_(0.9)
    assert updates.ratios() == [close(0.1), 0.0, None]


def test_the_effective_rank_is_that_of_known_spectra() -> None:
    equal, one = torch.eye(4)[None] * 7, torch.ones(1, 4, 4)
    uneven = torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.0]))[None]  # shares 1/2, 1/4, 1/4: exp(1.5 ln 2)
    assert named(effective_rank(made([equal, one, uneven])))["effective rank"] == close([4, 1, 2**1.5])


def test_tokens_are_alike_by_their_mean_cosine() -> None:
    crossed, same = torch.eye(3)[None], torch.ones(1, 3, 3)
    slanted = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    assert named(token_similarity(made([crossed, same])))["token similarity"] == close([0, 1])
    assert named(token_similarity(made([slanted])))["token similarity"] == close([math.sqrt(0.5)])


def test_a_block_that_turns_the_state_by_60_degrees_has_half_the_influence() -> None:
    before, after = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, math.sqrt(0.75)]]]) * 9
    assert named(block_influence(made([before, after, after])))["block influence"] == close([0.5, 0])


def test_massive_activations_are_large_and_far_above_the_median() -> None:
    quiet = torch.full((1, 10, 8), 0.5)
    one, large, many = quiet.clone(), quiet.clone() * 300, quiet.clone()
    one[0, 0, 3] = -600.0
    many[0, 0, 3] = 99.0  # 198 times the median, and below 100
    found = named(massive_activations(made([quiet, one, large, many])))
    assert found["massive activations"] == [0, 1, 0, 0]
    assert found["largest activation"] == close([1, 1200, 1, 198])


def attention(weights: Tensor, **parts: Any) -> Subject:
    """One attention of given weights."""
    return made([noise(1, 8, 2)], attention={"attn": weights}, **parts)


def causal(n: int) -> Tensor:
    """Each query looks at itself and all before it alike."""
    return (torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None])[None, None]


def test_the_entropy_of_uniform_attention_is_ln_n_and_that_of_one_key_0() -> None:
    uniform = named(attention_entropy(attention(torch.full((1, 2, 8, 8), 1 / 8))))
    assert uniform["attention entropy"] == close([math.log(8)])
    assert uniform["relative attention entropy"] == close([1])
    one = named(attention_entropy(attention(torch.eye(8)[None, None])))
    assert one["attention entropy"] == close([0])
    masked = named(attention_entropy(attention(causal(8))))
    assert masked["relative attention entropy"] == close([1])
    assert masked["attention entropy"] == close([sum(map(math.log, range(1, 9))) / 8])
    both = torch.cat([torch.full((1, 1, 8, 8), 1 / 8), torch.eye(8)[None, None]], dim=1)
    assert named(attention_entropy(attention(both)))["lowest head's entropy"] == close([0])


def test_a_sink_is_told_from_what_uniform_attention_gives_the_first_key() -> None:
    alike = named(attention_sinks(attention(causal(8))))
    harmonic = sum(1 / k for k in range(1, 9)) / 8
    assert alike["attention to the first"] == close([harmonic])
    assert alike["uniform to the first"] == close([harmonic])
    first = torch.zeros(1, 2, 64, 64)
    first[0, 0, :, 0] = 1.0
    first[0, 1] = torch.eye(64)
    found = named(attention_sinks(attention(first)))
    assert found["sink rate"] == [0.5]
    assert found["attention to the first"] == close([(1 + 1 / 64) / 2])


def test_the_first_key_of_a_padded_sequence_is_its_first_real_one() -> None:
    weights = torch.zeros(1, 1, 4, 4)
    weights[..., 1] = 1.0
    found = named(attention_sinks(attention(weights, mask=torch.tensor([[False, True, True, True]]))))
    assert found["attention to the first"] == close([1])


MIXING = torch.tensor([[0.75, 0.25], [0.5, 0.5]])


def streams(mixing: Tensor, gates: Tensor, state: Tensor | None = None) -> Subject:
    """Two streams through two writes of the same mixing."""
    states, writes = [noise(1, 5, 2, 16) if state is None else state], [noise(1, 5, 16, seed=s) for s in (1, 2)]
    for write in writes:
        states.append(mixing @ states[-1] + gates[:, None] * write[..., None, :])
    return made(states, writes, "streams")


def test_mixing_and_gates_are_recovered_from_what_they_do() -> None:
    found = named(stream_gates(streams(MIXING, torch.tensor([2.0, 0.0]))))
    assert found["write gate"] == [close([2, 0])] * 2
    assert found["skip gate"] == [close([0.75, 0.5])] * 2


def test_one_plain_stream_has_gates_of_1_and_a_scaled_branch_has_its_scale() -> None:
    state, write = noise(1, 4, 16), noise(1, 4, 16, seed=1)
    plain, scaled, dropped = state + write, state + 50 * write, write
    for after, gate, kept in ((plain, 1, 1), (scaled, 50, 1), (dropped, 1, 0)):
        found = named(stream_gates(made([state, after], [write])))
        assert found["write gate"][0] == close([gate])
        assert found["skip gate"][0] == close([kept])


def test_the_composite_gain_is_that_of_the_product() -> None:
    found = named(composite_gain(streams(2 * MIXING, torch.ones(2))))
    product = 4 * MIXING @ MIXING
    assert found["forward gain"] == close([2, float(product.sum(1).max())])
    assert found["backward gain"] == close([2.5, float(product.sum(0).max())])


def test_a_mixing_that_is_applied_transposed_shows_in_its_rows() -> None:
    right, wrong = (named(sinkhorn_error(streams(mixing, torch.ones(2)))) for mixing in (MIXING, MIXING.T.contiguous()))
    assert right["row error"] == close([0, 0])
    assert right["column error"] == close([0.25, 0.25])
    assert wrong["row error"] == close([0.25, 0.25])
    assert wrong["column error"] == close([0, 0])


def test_of_equal_streams_no_mixing_is_reported_and_they_are_alike() -> None:
    equal = streams(MIXING, torch.ones(2), noise(1, 5, 1, 16).expand(1, 5, 2, 16))
    assert named(sinkhorn_error(equal))["row error"] == [None, None]
    assert named(composite_gain(equal))["forward gain"] == [None, None]
    assert named(stream_similarity(equal))["stream similarity"] == close([1, 1, 1])
    crossed = torch.eye(2).repeat(1, 5, 1, 1)
    assert named(stream_similarity(made([crossed], [], "streams")))["stream similarity"] == close([0])


@pytest.mark.parametrize("norm", [nn.LayerNorm(16), nn.RMSNorm(16), None])
def test_depth_weights_are_found_through_the_norm_in_between(norm: nn.Module | None) -> None:
    weights, sources = torch.tensor([0.5, 0.3, 0.2]), noise(1, 5, 3, 16)
    mixture = (weights[:, None] * sources).sum(-2)
    if norm is not None:
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(3))
    read = mixture if norm is None else norm(mixture).detach()
    write = noise(1, 5, 16, seed=4)
    after = torch.cat([sources, write[..., None, :]], dim=-2)
    model = nn.ModuleDict({"norm": norm}) if norm is not None else nn.Module()
    parts = {"norm_before": "norm" if norm is not None else None, "model": model, "reads": [read]}
    found = named(depth_weights(made([sources, after], [write], "depth attention", **parts)))
    assert found["depth weights"][0] == pytest.approx(weights.tolist(), abs=1e-5)  # through a float32 norm
    other = parts | {"reads": [noise(1, 5, 16, seed=9)]}
    assert named(depth_weights(made([sources, after], [write], "depth attention", **other)))["depth weights"] == [None]


def test_the_lipschitz_estimate_is_the_largest_singular_value() -> None:
    turn = torch.linalg.qr(noise(3, 3))[0]
    matrix = turn @ torch.diag(torch.tensor([5.0, 2.0, 0.1])) @ turn.T
    # Power iteration stops when a step changes it by less than 1e-3.
    assert largest_singular_value(lambda x: x @ matrix.T, noise(1, 4, 3)) == pytest.approx(5, rel=1e-2)
    assert largest_singular_value(lambda x: torch.tanh(3 * x), torch.zeros(1, 4, 3)) == pytest.approx(3, rel=1e-3)
    assert largest_singular_value(lambda x: 0 * x, noise(1, 4, 3)) == 0


def test_every_sublayer_of_a_model_has_a_lipschitz_estimate_that_follows_its_weights() -> None:
    model = language_model("pre-norm", attention="fused")
    before = named(lipschitz(subject(model)))["Lipschitz estimate"]
    with torch.no_grad():
        for name, parameter in model.stack.blocks[0].sublayer.named_parameters():
            parameter.mul_(3.0 if "o_proj" in name else 1.0)
    after = named(lipschitz(subject(model)))["Lipschitz estimate"]
    assert all(value > 0 for value in before)
    assert after[0] == pytest.approx(3 * before[0], rel=1e-2)  # as above


def test_deleting_a_block_is_the_loss_without_its_write() -> None:
    model = language_model("pre-norm")
    with torch.no_grad():
        for parameter in model.stack.blocks[2].sublayer.parameters():
            parameter.zero_()
    found = subject(model)
    rises = named(deletion(found))
    assert rises["loss without"][2] == 0
    assert rises["loss without"][0] != 0
    whole = float(loss_of(model, tokens())())
    del model.stack.blocks[0]
    assert rises["loss without"][0] == close(float(loss_of(model, tokens())()) - whole)


def test_swapping_two_blocks_is_the_loss_of_the_other_order_and_leaves_the_model_as_it_was() -> None:
    model = language_model("pre-norm")
    whole = float(loss_of(model, tokens())())
    rises = named(deletion(subject(model)))["loss swapped"]
    assert float(loss_of(model, tokens())()) == whole
    blocks = list(model.stack.blocks)
    model.stack.blocks = nn.ModuleList([blocks[1], blocks[0], *blocks[2:]])
    assert rises[0] == close(float(loss_of(model, tokens())()) - whole)
    assert rises[-1] is None


def test_a_block_that_gives_a_tuple_is_left_out_too() -> None:
    class Layer(nn.Module):
        def forward(self, hidden_states: Tensor, mask: Tensor | None = None) -> tuple[Tensor, str]:
            return hidden_states + 1, "weights"

    model = nn.Sequential(Layer())
    with without(model, ["0"]):
        assert model[0](hidden_states=torch.zeros(2))[0].sum() == 0
        assert model[0](torch.zeros(2))[1] == "weights"
    assert model[0](torch.zeros(2))[0].sum() == 2


def test_a_block_that_is_a_list_of_parts_is_left_out_by_what_they_write() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)]) for _ in range(2)])

        def forward(self, x: Tensor) -> Tensor:
            for (part,) in self.layers:
                x = x + part(x)
            return x

    model, x = Listed(), noise(3, 2)
    case = made([noise(1, 2, 2)] * 3, model=model, names=["layers.0", "layers.1"], loss=lambda: model(x).sum())
    parts = [replace(one, name=f"{one.name}.0") for one in case.trace.trunk.sublayers]
    trace = replace(case.trace, trunk=replace(case.trace.trunk, sublayers=tuple(parts)))
    found = named(deletion(replace(case, trace=trace)))["loss without"]
    after = x + model.layers[1][0](x)
    assert found[0] == close(float((after - model(x)).sum().detach()))


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm", "mhc", "attention-residuals"])
def test_the_lens_ends_in_the_models_own_prediction(scheme: str) -> None:
    found = named(logit_lens(subject(language_model(scheme))))
    assert found["lens divergence"][-1] == pytest.approx(0, abs=1e-5)  # float32 logits
    assert found["lens divergence"][0] > 1e-3
    assert found["lens agreement"][-1] == 1
    assert len(found["lens table"]) == 7
    ids, chances = zip(*found["lens table"][0][0], strict=True)
    assert len(set(ids)) == 3
    assert sum(chances) < 1


@pytest.mark.parametrize("scheme", ["pre-norm", "mhc", "attention-residuals"])
def test_running_the_model_to_its_end_reads_the_same_as_the_weights_of_its_end(scheme: str) -> None:
    case = subject(language_model(scheme, shake=0.0))
    weighed, run = lens_logits(case), _run_to_the_end(case)
    assert weighed is not None and run is not None
    # Equal weights at the start, so that a history's first vectors weigh what its own end gives them.
    for one, other in zip(weighed, run, strict=True):
        assert one is not None and other is not None
        assert torch.allclose(one, other, atol=1e-3)  # an eps that is divided by the count, beside states of RMS 0.2


def test_the_lens_of_a_state_that_says_nothing_is_uniform() -> None:
    model = language_model("pre-norm", shake=0.0)
    with torch.no_grad():
        model.embedding.tokens.weight.zero_()
        (model.head.own or model.embedding.tokens).weight.zero_()
    assert named(logit_lens(subject(model)))["lens entropy"] == close([math.log(17)] * 7)


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm", "mhc", "attention-residuals", "dense-former"])
def test_the_shares_in_a_logit_sum_up_to_it(scheme: str) -> None:
    case = subject(language_model(scheme, shake=0.05))
    found = attribute(case)
    assert found is not None
    logits = case.run().detach()
    assert torch.allclose(found.margin, (logits.amax(-1) - logits.mean(-1)).flatten().double())
    explained = found.rest.abs().max() / found.margin.abs().max()
    # The final norm's shift, and those of the norms on the trunk, are no sublayer's.
    assert float(explained) < (1.0 if scheme == "post-norm" else 0.2)
    assert len(named(logit_attribution(case))["logit attribution"]) == 7


def test_without_shifts_nothing_is_left_of_a_logit() -> None:
    found = attribute(subject(language_model("pre-norm(norm=rms)")))
    assert found is not None
    assert float(found.rest.abs().max()) < 1e-5 * float(found.margin.abs().max())  # float32 logits


@pytest.mark.parametrize("scheme", ["pre-norm", "hyper-connections", "block-attention-residuals"])
def test_all_measures_run_and_have_an_entry_for_each_depth(scheme: str) -> None:
    case = subject(language_model(scheme))
    lengths = {"state": 7, "sublayer": 6, "block": 6, "source": 7}
    found = measure(case)
    for series in found:
        assert len(series.values) == lengths[series.along], series.name
        assert series.label
    assert len({series.name for series in found}) == len(found)
    assert len(found) > len(MEASURES)


def test_what_was_not_traced_is_not_measured() -> None:
    state = noise(1, 4, 8)
    found = {series.name for series in measure(made([state, state + 1]))}
    assert not {"state gradient", "weight gradient", "lens entropy", "attention entropy", "loss without"} & found
