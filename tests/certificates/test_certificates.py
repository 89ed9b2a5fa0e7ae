"""Certificates of the catalogue, of modules of others, and what a certificate says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from x_transformers import Decoder, Encoder

import addnorm
from addnorm import certify, schemes
from addnorm.certificates.equivalence import starts_as
from addnorm.certificates.learning import parameters_learn
from addnorm.certificates.locality import batch_independent, cached, causal
from addnorm.certificates.stream_mixing import composite_gain, stream_similarity
from addnorm.certificates.subject import Subject, subject_of
from addnorm.errors import UserError
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.hyper_connections import HyperConnections
from addnorm.schemes.mhc import MHC
from addnorm.schemes.pre_norm import PreNorm, PreNormConnection
from command_line import here


def about(scheme: Scheme) -> Subject:
    return subject_of(scheme, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", schemes.names())
def test_nothing_fails_for_a_scheme_of_the_catalogue(name: str) -> None:
    certificate = certify(name)
    assert certificate.holds, str(certificate)
    assert certificate.finding("causal").verdict == "holds"
    assert certificate.finding("every parameter learns").verdict == "holds"


# --- what the findings are able to find


def peer(**options: bool) -> Decoder:
    torch.manual_seed(0)
    return Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, verbose=False, **options)


@pytest.mark.parametrize("option", ["orthog_residual", "mv_split_residual"])
def test_residuals_of_x_transformers_that_mix_tokens_fail_causality(option: str) -> None:
    certificate = certify(peer(**{option: True}))
    assert certificate.finding("causal").verdict == "fails"
    assert not certificate.holds


def test_its_plain_decoder_is_causal() -> None:
    certificate = certify(peer())
    assert certificate.holds, str(certificate)
    assert certificate.finding("mixing").verdict == "not applicable"


def test_an_encoder_is_not_causal_but_keeps_rows_apart() -> None:
    subject = subject_of(Encoder(dim=16, depth=1, heads=2, attn_dim_head=8, verbose=False), None, None)
    assert causal(subject).verdict == "fails"
    assert batch_independent(subject).verdict == "holds"


def test_batch_norm_mixes_rows_in_training_only() -> None:
    finding = batch_independent(about(PreNorm(norm="batch")))
    assert finding.verdict == "fails"
    assert "training" in finding.sentence and "evaluation" not in finding.sentence


class RunningMeanConnection(PreNormConnection):
    """Reads the mean of all tokens up to each one: causal, but a cache does not know of it."""

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.arange(1, state.shape[-2] + 1, dtype=state.dtype)[:, None]
        return self.norm(state.cumsum(-2) / counts), state


class RunningMean(PreNorm):
    def connection(self, d_model: int, site: Site) -> Connection:
        return RunningMeanConnection(d_model, self.norm)


def test_tokens_mixed_outside_the_attention_break_the_cache() -> None:
    assert causal(about(RunningMean())).verdict == "holds"
    assert cached(about(RunningMean())).verdict == "fails"


class DeadConnection(PreNormConnection):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, "layer")
        self.unused = nn.Parameter(torch.ones(d_model))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.unused)


class Dead(PreNorm):
    def connection(self, d_model: int, site: Site) -> Connection:
        return DeadConnection(d_model)


def test_a_parameter_outside_the_graph_is_named() -> None:
    finding = parameters_learn(about(Dead()))
    assert finding.verdict == "fails"
    assert "blocks.0.connection.unused" in finding.sentence


def test_rezero_learns_its_gates_first_and_the_rest_after_a_step() -> None:
    sentence = parameters_learn(about(schemes.parse("rezero"))).sentence
    # 4 sublayers of 2 or 4 linears with weight and bias: all but the 4 gates and what the exit has.
    assert "24 have no gradient before training" in sentence, sentence
    assert " 0 after one step" in sentence, sentence


class Boastful(PreNorm):
    def starts_as(self) -> Scheme:
        return schemes.parse("post-norm")


def test_a_wrong_claim_of_what_it_starts_as_fails() -> None:
    assert starts_as(about(Boastful())).verdict == "fails"


class FractionConnection(PreNormConnection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state / 4), state


class ReadsAFraction(Boastful):
    def connection(self, d_model: int, site: Site) -> Connection:
        return FractionConnection(d_model, self.norm)

    def starts_as(self) -> Scheme:
        return PreNorm()


def test_a_start_that_is_right_but_for_the_eps_of_a_norm_fails() -> None:
    finding = starts_as(about(ReadsAFraction()))
    assert finding.verdict == "fails"
    assert "at embeddings of RMS 1 and 0.02" in finding.sentence


def test_what_a_scheme_starts_as_is_found_without_a_claim() -> None:
    assert "pre-norm" in starts_as(about(schemes.parse("layer-scale(init=1.0)"))).sentence
    assert starts_as(about(PreNorm())).sentence.count("post-norm") == 0


def test_streams_that_can_never_part_fail() -> None:
    class Alike(MHC):
        def __post_init__(self) -> None:
            return

    stuck = Alike(read_from="all", projection_std=0.0)
    assert stream_similarity(about(stuck)).verdict == "fails"
    assert stream_similarity(about(MHC())).verdict == "holds"


class Explosive(HyperConnections):
    def connection(self, d_model: int, site: Site) -> Connection:
        connection = super().connection(d_model, site)
        start = connection.reset_parameters

        def reset_parameters() -> None:
            start()
            with torch.no_grad():
                connection.static[:, 1:-1] += 0.4 * torch.randn(
                    4, 4, generator=torch.Generator().manual_seed(site.index)
                )

        connection.reset_parameters = reset_parameters
        return connection


def test_a_composite_gain_that_explodes_fails() -> None:
    assert composite_gain(about(HyperConnections())).figure == pytest.approx(1)
    finding = composite_gain(about(Explosive()))
    assert finding.verdict == "fails" and finding.figure is not None and finding.figure > 10


@pytest.mark.parametrize("name", ["post-norm(norm=rms)", "n-gpt", "attention-residuals"])
def test_a_norm_or_a_history_has_no_composite_gain(name: str) -> None:
    assert composite_gain(about(schemes.parse(name))).verdict == "not applicable"


def test_pre_norm_keeps_the_stream_and_plain_keeps_nothing() -> None:
    assert composite_gain(about(PreNorm())).figure == pytest.approx(1)
    assert composite_gain(about(schemes.parse("plain"))).figure == 0


# --- what it is handed


@dataclass(frozen=True, kw_only=True)
class Mine(Scheme):
    def connection(self, d_model: int, site: Site) -> Connection:
        return PreNormConnection(d_model, self.norm)


def test_a_users_own_scheme_without_a_relative_is_compared_with_nothing() -> None:
    certificate = certify(Mine())
    assert certificate.against is None and certificate.subject.endswith("test_certificates.py:Mine")
    assert certificate.holds, str(certificate)
    assert "pre-norm" in certificate.finding("starts as").sentence


def test_a_model_of_ours_is_a_module_too() -> None:
    model = addnorm.Transformer(PreNorm(), vocab_size=7, d_model=24, num_heads=2, num_layers=1)
    assert certify(model).finding("causal").verdict == "holds"


# --- how it is told


@pytest.mark.slow
def test_the_command_prints_every_finding() -> None:
    seen = here("certify", "post-norm", "--against", "pre-norm")
    assert seen.code == 5 and seen.err == ""  # the same function: fails
    assert "post-norm against pre-norm" in seen.out
    assert "computes post-norm, not pre-norm" in " ".join(seen.out.split())
    seen_as_json = here("certify", "post-norm", "--against", "pre-norm", "--json")
    told = json.loads(seen_as_json.out)
    assert told["holds"] is False and seen_as_json.code == 5
    for finding in told["findings"]:
        assert finding.keys() == {"name", "verdict", "figure", "sentence"}
        assert finding["name"] in seen.out
        assert finding["verdict"] in ("holds", "fails", "not applicable")
        assert finding["sentence"].endswith((".", ")")), finding["sentence"]


def test_the_command_is_done_where_nothing_fails() -> None:
    assert here("certify", "post-norm", "--json").code == 0


@pytest.mark.parametrize(
    "words, said",
    [(["pre-nrm"], "did you mean 'pre-norm'"), (["pre-norm", "--against", "x"], "is unknown"), ([], "SCHEME")],
)
def test_mistakes_are_one_line(words: list[str], said: str) -> None:
    seen = here("certify", *words)
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert said in seen.err


def test_an_unknown_finding_is_refused() -> None:
    with pytest.raises(UserError, match="finding 'causl' is unknown; did you mean 'causal'"):
        certify("pre-norm").finding("causl")
