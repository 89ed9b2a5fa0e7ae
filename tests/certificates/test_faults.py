"""Each fault that public implementations have shipped is found, and called by its name."""

from __future__ import annotations

import copy
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from addnorm import certify, schemes
from addnorm.certificates.certify import _against
from addnorm.certificates.subject import catalogue_scheme_of, subject_of
from addnorm.errors import UserError
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.attention_residuals import AttentionResiduals
from addnorm.schemes.mhc import MHC, MHCConnection
from addnorm.schemes.post_norm import PostNormConnection
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from certificates.faulty import FAULTY, HalfConnection, TransposedConnection, TransposedMHC, UnmixedMHC


def compared(scheme: Scheme, against: Scheme | None = None) -> dict:
    """The findings of the comparison alone, by name."""
    return {finding.name: finding for finding in _against(subject_of(scheme, None, None), against or base(scheme))}


def base(scheme: Scheme) -> Scheme:
    found = catalogue_scheme_of(scheme)
    assert found is not None
    return found


@pytest.mark.parametrize("faulty, name, words, figure", FAULTY, ids=[type(row[0]).__name__ for row in FAULTY])
def test_the_fault_is_found_and_named(faulty, name, words, figure):
    found = compared(faulty)
    assert found[name].verdict == "fails"
    assert found[name].sentence.startswith(words), found[name].sentence
    assert figure is None or found[name].figure == pytest.approx(figure)
    assert found["same function"].verdict == "fails"
    # The summary repeats what was named; a name is what stands before its colon or its full stop.
    assert words.partition(":")[0] in found["same function"].sentence


@pytest.mark.parametrize("faulty, name, words, figure", FAULTY, ids=[type(row[0]).__name__ for row in FAULTY])
def test_the_scheme_that_it_should_be_is_not_accused(faulty, name, words, figure):
    """An empty subclass of the same scheme, which is all that the faulty one has in common with it."""
    scheme = base(faulty)
    mine = type("Mine", (type(scheme),), {})(**{part.name: getattr(scheme, part.name) for part in fields(scheme)})
    assert {finding.verdict for finding in compared(mine).values()} <= {"holds", "not applicable"}
    assert compared(mine)["same function"].verdict == "holds"


def test_a_faulty_mixing_does_not_touch_the_gate_nor_the_reverse():
    assert compared(TransposedMHC())["write gate"].verdict == "holds"
    assert compared(FAULTY[5][0])["mixing"].verdict == "holds"


@pytest.mark.slow
def test_transposed_sinkhorn_shows_without_anything_to_compare_with():
    right, wrong = certify(MHC()), certify(TransposedMHC())
    assert right.finding("Sinkhorn error").verdict == "holds"
    assert wrong.finding("Sinkhorn error").verdict == "fails"
    assert "transposed" in wrong.finding("Sinkhorn error").sentence


@pytest.mark.slow
def test_a_connection_alone_is_certified_as_what_it_derives_from():
    for faulty, name, words in (
        (TransposedConnection, "mixing", "transposed mixing"),
        (HalfConnection, "write gate", "missing factor 2"),
    ):
        certificate = certify(faulty(24, sites(4)[1], MHC(streams=3)))
        assert certificate.against == "mhc(streams=3)"
        assert certificate.finding(name).sentence.startswith(words)
    own = certify(MHCConnection(24, sites(4)[1], MHC(streams=3)))
    assert own.finding("same function").verdict == "holds", str(own)


class Renamed(Connection):
    """Post-LN, written anew with other names."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return nn.functional.layer_norm(skip + update, skip.shape[-1:], self.gain, self.shift)


@pytest.mark.slow
def test_a_connection_with_names_of_its_own_is_recognised():
    assert certify(Renamed(20), against="post-norm").finding("same function").verdict == "holds"
    sentence = certify(Renamed(20), against="pre-norm").finding("norm placement").sentence
    assert sentence.startswith("computes post-norm, not pre-norm")


class ForgottenScale(schemes.get("deep-norm")):
    """DeepNorm without the initial factor beta."""

    def init_sublayer_(self, value_path, site: Site) -> None:
        return


class ForgottenExit(PreNorm):
    def exit(self, d_model: int):
        return schemes.get("post-norm")().exit(d_model)


def test_forgotten_initial_weights_show():
    found = compared(ForgottenScale())
    assert found["norm placement"].verdict == "holds"
    assert "initial weights" in found["same function"].sentence


def test_a_forgotten_final_norm_cannot_be_paired():
    found = compared(ForgottenExit())
    assert found["same function"].verdict == "fails"
    assert "exit" in found["same function"].sentence


def test_another_kind_of_state_is_said():
    sentence = compared(UnmixedMHC(), AttentionResiduals())["same function"].sentence
    assert sentence.startswith("cannot be attention-residuals")


def test_what_is_handed_in_stays_as_it_was():
    connection = PostNormConnection(16, "layer")
    before = copy.deepcopy(connection.state_dict())
    certify(connection)
    assert all(torch.equal(before[name], value) for name, value in connection.state_dict().items())
    assert all(parameter.grad is None for parameter in connection.parameters())


@pytest.mark.parametrize("target", [7, None, torch.zeros(3)])
def test_other_things_are_refused(target):
    with pytest.raises(UserError, match="cannot be certified"):
        certify(target)


def test_a_module_of_another_kind_is_refused():
    with pytest.raises(UserError, match="runs with no width"):
        certify(nn.Conv2d(3, 4, 5))


def test_an_unknown_reference_is_refused():
    with pytest.raises(UserError, match="did you mean 'pre-norm'"):
        certify("mhc", against="pre-nrm")
    with pytest.raises(UserError, match="is not a scheme"):
        certify("mhc", against=3)
