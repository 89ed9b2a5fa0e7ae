"""Seeded faults are found at their place, with nothing else; sound models get no finding."""

from __future__ import annotations

import pytest
import torch

from addnorm.diagnosis.evidence import gather
from addnorm.diagnosis.verdicts import verdicts
from diagnosis import zoo
from diagnosis.models_of_others import MODELS


def found(model: torch.nn.Module, batch: object) -> list[tuple[str, str]]:
    return [(finding.cause, finding.place) for finding in verdicts(gather(model, batch))]


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("name", zoo.FAULTS)
def test_a_seeded_fault_is_found_at_its_place_and_nothing_else(name: str, order: zoo.Order) -> None:
    for place in zoo.places(6):
        model = zoo.seeded(name, order, 6, place)
        assert found(model, zoo.batch()) == [(zoo.FAULTS[name][0], place.name)]


DEEP = [
    "skip_dropped",
    "branch_times_50",
    "skip_twice",
    "norm_twice",
    "gate_behind_relu",
    "looks_ahead",
    "state_detached",
]


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("name", DEEP)
def test_the_same_at_48_layers(name: str, order: zoo.Order) -> None:
    place = zoo.places(48)[1]
    assert (zoo.FAULTS[name][0], place.name) in found(zoo.seeded(name, order, 48, place), zoo.batch())


@pytest.mark.parametrize("num_layers", [6, 24])
@pytest.mark.parametrize("order", ["pre", "post"])
def test_the_zoo_without_its_faults_is_sound(order: zoo.Order, num_layers: int) -> None:
    assert found(zoo.Net(order, num_layers), zoo.batch()) == []


@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_model_of_others_is_sound(name: str) -> None:
    assert found(*MODELS[name]()) == []
