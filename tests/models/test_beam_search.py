"""Beam search: exhaustive where it can be, greedy where it must be, the same with a cache as without."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from addnorm import EncoderDecoder, UserError
from addnorm.models.beam_search import BeamSearch, Hypothesis, beam_search
from addnorm.models.encoder_decoder import Marks
from models.bodies import ids, left_padded, made

END = 0
MARKS = Marks(begin=1, end=END)
ROUNDING = {"rel": 0, "abs": 1e-10}  # float64; kernels sum the same products in another order


class Written:
    """A decoding whose logits are any function of what a row has written; rows are kept as plain tuples."""

    def __init__(self, rows: int, logits) -> None:
        self.rows, self.logits = [()] * rows, logits
        self.steps = 0

    def next(self, tokens: Tensor) -> Tensor:
        self.rows = [row + (token,) for row, token in zip(self.rows, tokens[:, 0].tolist(), strict=True)]
        self.steps += 1
        return torch.stack([self.logits(row) for row in self.rows])

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]


def drawn(vocab_size: int, seed: int):
    """Logits that are drawn afresh for every prefix."""

    def logits(prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((seed, *prefix)) % 2**63)
        return 2 * torch.randn(vocab_size, generator=generator, dtype=torch.float64)

    return logits


def from_table(table: dict[tuple[int, ...], list[float]]):
    """Probabilities of each prefix after the beginning; what is not in the table ends."""
    return lambda prefix: torch.tensor(table.get(prefix[1:], [1.0, 0, 0, 0]), dtype=torch.float64).log()


def log_probability(logits, begin: int, tokens: tuple[int, ...], ended: bool) -> float:
    written, total = (begin,), 0.0
    for token in (*tokens, END) if ended else tokens:
        total += logits(written).log_softmax(-1)[token].item()
        written += (token,)
    return total


def exhaustive(logits, vocab_size: int, search: BeamSearch) -> list[Hypothesis]:
    """All sequences that end in time, best first."""
    found = []
    for length in range(search.max_tokens):
        for tokens in itertools.product([token for token in range(vocab_size) if token != END], repeat=length):
            total = log_probability(logits, 1, tokens, ended=True)
            score = search.score(total, length + 1)
            found.append(Hypothesis(tokens=tokens, log_probability=total, score=score, ended=True))
    return sorted(found, key=lambda each: each.score, reverse=True)


@settings(max_examples=25, deadline=None)
@given(vocab_size=st.integers(2, 4), longest=st.integers(1, 4), penalty=st.floats(0, 2), seed=st.integers(0, 999))
def test_a_beam_as_wide_as_the_tree_finds_what_trying_all_finds(vocab_size, longest, penalty, seed):
    search = BeamSearch(beam=vocab_size**longest, length_penalty=penalty, max_tokens=longest)
    logits = drawn(vocab_size, seed)
    found = beam_search(Written(2, logits), torch.tensor([1, 1]), END, search)
    expected = exhaustive(logits, vocab_size, search)
    for row in found:
        ended = [each for each in row if each.ended]
        assert [each.tokens for each in ended] == [each.tokens for each in expected]
        assert [each.score for each in ended] == pytest.approx([each.score for each in expected], **ROUNDING)


@settings(max_examples=25, deadline=None)
@given(vocab_size=st.integers(2, 6), longest=st.integers(1, 6), seed=st.integers(0, 999))
def test_a_beam_of_one_takes_the_likeliest_token_each_time(vocab_size, longest, seed):
    logits, written = drawn(vocab_size, seed), (1,)
    while len(written) <= longest and (token := logits(written).argmax().item()) != END:
        written += (token,)
    ended = len(written) <= longest
    [[found]] = beam_search(Written(1, logits), torch.tensor([1]), END, BeamSearch(beam=1, max_tokens=longest))
    assert (found.tokens, found.ended) == (written[1:], ended)
    assert found.log_probability == pytest.approx(log_probability(logits, 1, written[1:], ended), **ROUNDING)


GARDEN_PATH = {(): [0.0, 0.6, 0.4, 0.0], (1,): [0.3, 0.0, 0.3, 0.4], (2,): [0.9, 0.1, 0.0, 0.0]}
"""Greedy begins with 1, whose best sequence has 0.6 * 0.4 = 0.24; 2 and the end have 0.36."""


def test_a_beam_finds_what_greedy_walks_past():
    def best(beam: int) -> Hypothesis:
        search = BeamSearch(beam=beam, length_penalty=0.0)
        return beam_search(Written(1, from_table(GARDEN_PATH)), torch.tensor([1]), END, search)[0][0]

    assert best(1).tokens == (1, 3)
    assert best(2).tokens == (2,)
    assert math.exp(best(2).log_probability) == pytest.approx(0.36)
    assert best(2).log_probability > best(1).log_probability


def test_the_length_penalty_lifts_longer_sequences():
    # ln 0.4 = -0.92 in one token; ln 0.36 = -1.02 in four, which the penalty divides by 9 / 6.
    table = {(): [0.4, 0.6, 0, 0], (1,): [0.0, 0.0, 0.6, 0.4], (1, 2): [0, 1.0, 0, 0], (1, 2, 1): [1.0, 0, 0, 0]}

    def best(penalty: float) -> Hypothesis:
        search = BeamSearch(beam=3, length_penalty=penalty)
        return beam_search(Written(1, from_table(table)), torch.tensor([1]), END, search)[0][0]

    assert best(0.0).tokens == ()
    assert best(1.0).tokens == (1, 2, 1)
    assert best(1.0).score == pytest.approx(math.log(0.36) * 6 / 9)


def test_what_is_cut_off_ranks_behind_what_has_ended():
    table = {(): [0.1, 0.9, 0, 0], (1,): [0.0, 1.0, 0, 0], (1, 1): [0.0, 1.0, 0, 0]}
    search = BeamSearch(beam=2, length_penalty=0.0, max_tokens=3)
    [[first, second]] = beam_search(Written(1, from_table(table)), torch.tensor([1]), END, search)
    assert (first.tokens, first.ended) == ((), True)
    assert (second.tokens, second.ended) == ((1, 1, 1), False)
    assert second.log_probability > first.log_probability


def test_a_row_that_is_done_is_not_followed_further():
    decoding = Written(2, lambda prefix: torch.tensor([5.0, 0.0] if prefix[0] == 1 or len(prefix) > 3 else [-5.0, 0.0]))
    found = beam_search(decoding, torch.tensor([0, 1]), END, BeamSearch(beam=1))
    assert [row[0].tokens for row in found] == [(1, 1, 1), ()]
    assert decoding.steps == 4
    assert decoding.rows == [(0, 1, 1, 1)]


def test_nothing_impossible_is_returned():
    found = beam_search(Written(1, from_table({(): [0.5, 0.5, 0, 0]})), torch.tensor([1]), END, BeamSearch(beam=4))
    assert {each.tokens for each in found[0]} == {(), (1,)}


def test_broken_logits_are_an_error_and_not_a_sequence():
    for bad in (math.nan, math.inf):
        decoding = Written(1, lambda prefix, bad=bad: torch.tensor([0.0, bad]))
        with pytest.raises(UserError, match="NaN or infinite"):
            beam_search(decoding, torch.tensor([1]), END)


@pytest.mark.parametrize(
    "wrong", [{"beam": 0}, {"beam": 1.5}, {"max_tokens": 0}, {"length_penalty": -1.0}, {"length_penalty": math.inf}]
)
def test_a_search_that_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
        BeamSearch(**wrong)


def translator(**changes: object) -> EncoderDecoder:
    """An encoder-decoder whose sequences depend on the source: with a tied head it would repeat one token."""
    model = made(EncoderDecoder, tie_embeddings=False, **changes)
    with torch.no_grad():
        for block in [*model.encoder.blocks, *model.decoder.blocks]:
            for parameter in block.sublayer.parameters():
                parameter.mul_(3 if parameter.dim() == 2 else 0.1)
    return model


BODIES = [
    {},
    {"position": "sinusoidal"},
    {"num_kv_heads": 2},
    {"arrangement": "parallel"},
    {"arrangement": "composed"},
    {"attention": "linear"},
    {"attention": "sliding-window", "window": 3},
    {"scheme": "post-norm"},
    {"scheme": "mhc"},
    {"scheme": "attention-residuals"},
    {"scheme": "value-residual"},
]


@pytest.mark.parametrize("never", [(), (END,)], ids=["ending", "endless"])
@pytest.mark.parametrize("body", BODIES, ids=str)
def test_every_hypothesis_has_the_probability_that_the_model_gives_it(body, never):
    model, source, marks = translator(**body), ids(2, 5, 3), Marks(begin=1, end=END, never=never)
    found = model.generate(source, marks=marks, search=BeamSearch(beam=3, max_tokens=9))
    assert all(len(row) == 3 and len({each.tokens for each in row}) == 3 for row in found)
    for row, hypotheses in enumerate(found):
        for each in hypotheses:
            target = torch.tensor([[1, *each.tokens, *([END] if each.ended else [])]])
            logits = model(source[row : row + 1], target[:, :-1])
            logits[..., list(never)] = float("-inf")
            total = logits.log_softmax(-1).gather(2, target[:, 1:, None]).sum().item()
            assert each.log_probability == pytest.approx(total, **ROUNDING)


def test_a_row_finds_the_same_alone_as_padded_among_others():
    model, search = translator(), BeamSearch(beam=3, max_tokens=8)
    rows, source, keep = left_padded([6, 4, 1])
    for side in (lambda t: t, lambda t: t.flip(1)):
        together = model.generate(side(source), side(keep), marks=MARKS, search=search)
        for i, row in enumerate(rows):
            row = side(row[None])
            [alone] = model.generate(row, marks=MARKS, search=search)
            assert [each.tokens for each in together[i]] == [each.tokens for each in alone]
            expected = [each.score for each in alone]
            assert [each.score for each in together[i]] == pytest.approx(expected, **ROUNDING)


def test_what_never_comes_is_in_no_hypothesis():
    model, source = translator(), ids(4, 5, 3)
    search = BeamSearch(beam=3, max_tokens=9)
    usual = {
        token for row in model.generate(source, marks=MARKS, search=search) for each in row for token in each.tokens
    }
    never = max(usual - {END})
    found = model.generate(source, marks=Marks(begin=1, end=END, never=(never,)), search=search)
    assert all(never not in each.tokens for row in found for each in row)


def test_the_model_is_as_before_and_the_search_is_without_dropout():
    model, source = translator(dropout=0.5).train(), ids(2, 5, 3)
    first = model.generate(source, marks=MARKS, search=BeamSearch(max_tokens=5))
    assert model.training and model.encoder.training
    assert first == model.generate(source, marks=MARKS, search=BeamSearch(max_tokens=5))
