"""`addnorm.diagnose`: a model, a batch, all that was found."""

from __future__ import annotations

import json

import pytest
import torch

import addnorm
from addnorm.errors import UserError
from diagnosis import zoo


def test_a_sound_model_is_called_sound_with_its_curves() -> None:
    found = addnorm.diagnose(zoo.Net("pre", 6), zoo.batch(), targets=zoo.batch(seed=1))
    assert found.sound
    (trunk,) = found.trunks
    state = trunk.of("state rms")
    assert state is not None and len(state.values) == 13
    assert trunk.of("loss without") is not None


def test_a_faulty_model_is_told_cause_place_evidence_and_remedy() -> None:
    place = zoo.Place(3, "attention")
    found = addnorm.diagnose(zoo.seeded("branch_times_50", "pre", 6, place), zoo.batch(), measures="quick")
    (finding,) = found.findings
    assert (finding.cause, finding.place, finding.site) == ("mis-scaled branch", "layers.3.attention", 6)
    assert "RMS" in finding.evidence and "factor" in finding.remedy
    assert "mis-scaled branch at layers.3.attention" in str(found)


def test_the_json_holds_no_nan_where_values_are_not_finite() -> None:
    model = zoo.seeded("weight_is_infinite", "pre", 6, zoo.Place(1, "attention"))
    found = json.loads(addnorm.diagnose(model, zoo.batch()).to_json(), parse_constant=lambda text: pytest.fail(text))
    assert [finding["cause"] for finding in found["findings"]] == ["non-finite values"]


def test_the_model_is_left_as_it_was() -> None:
    model = zoo.Net("pre", 6).train()
    model.layers[0].attention.out.weight.requires_grad_(False)
    before, random = {name: p.clone() for name, p in model.named_parameters()}, torch.get_rng_state()
    addnorm.diagnose(model, zoo.batch(), targets=zoo.batch(seed=1))
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
    assert model.training and not model.layers[0].attention.out.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_unknown_set_of_measures_is_refused() -> None:
    with pytest.raises(UserError, match="quick, full"):
        addnorm.diagnose(zoo.Net("pre", 2), zoo.batch(), measures="all")


@pytest.mark.parametrize("at", [3, 4, 6])  # the first two mix copies of one vector, which any matrix may have mixed
@pytest.mark.parametrize("cause", ["transposed mixing", "homogenised streams"])
def test_a_fault_of_streams_is_found_at_its_place(cause: str, at: int) -> None:
    found = addnorm.diagnose(zoo.stream_fault(cause, at), zoo.batch(), measures="quick")
    assert [(finding.cause, finding.place) for finding in found.findings] == [(cause, f"parts.{at}")]


def test_a_stream_that_never_changes_is_named() -> None:
    (finding,) = addnorm.diagnose(zoo.stream_fault("frozen streams", 0), zoo.batch(), measures="quick").findings
    assert finding.cause == "frozen streams" and "stream 2 of 3" in finding.evidence


@pytest.mark.parametrize("num_layers", [4, 12])
def test_streams_without_a_fault_are_sound(num_layers: int) -> None:
    assert addnorm.diagnose(zoo.StreamNet(num_layers), zoo.batch(), measures="quick").findings == ()
