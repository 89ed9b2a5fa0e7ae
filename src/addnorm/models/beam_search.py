"""Beam search: the likeliest sequences that a model can be found to give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from addnorm.checks import check_at_least, check_count, check_finite
from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Decoding(Protocol):
    """Rows of tokens that are written side by side, each from what it has so far."""

    def next(self, tokens: Int[Tensor, "rows 1"]) -> Float[Tensor, "rows vocab_size"]:
        """Take in a token a row; the logits of what may come next."""
        ...

    def select(self, rows: Int[Tensor, "kept"]) -> None:
        """Go on with these rows, in this order; a row may come several times."""
        ...


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How sequences are searched for.

    At each step every live sequence is continued by every token, and the `beam` likeliest of all continuations stay.
    One that ends is set aside; when `beam` of them are, the search is over. They are ranked by

        score(y) = ln p(y) / ((5 + |y|) / 6)^length_penalty

    where `|y|` counts the end too. Without the penalty a longer sequence can only lose. Wu et al. 2016,
    arXiv:1609.08144, equation 14, without its coverage penalty. A beam of 1 is greedy.

    Args:
        beam: sequences that are followed.
        length_penalty: 0 ranks by probability alone, 1 nearly by probability a token; 0.6 is usual.
        max_tokens: what has not ended by then is cut off; it ranks behind all that have ended.

    Raises:
        UserError: a number is out of range.
    """

    beam: int = 4
    length_penalty: float = 0.6
    max_tokens: int = 256

    def __post_init__(self) -> None:
        check_count("beam", self.beam)
        check_count("max_tokens", self.max_tokens)
        check_at_least("length_penalty", self.length_penalty, 0)
        check_finite("length_penalty", self.length_penalty)

    def score(self, log_probability: float, tokens: int) -> float:
        """What sequences are ranked by.

        >>> BeamSearch(length_penalty=1.0).score(-12.0, 7)
        -6.0
        """
        return log_probability / ((5 + tokens) / 6) ** self.length_penalty


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A sequence that was found.

    Args:
        tokens: without beginning and end.
        log_probability: natural logarithm, of the end too if it has ended.
        score: what it was ranked by.
        ended: False if it was cut off.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


@torch.no_grad()
def beam_search(
    decoding: Decoding, begin: Int[Tensor, "batch"], end: int, search: BeamSearch | None = None
) -> list[list[Hypothesis]]:
    """For each row the sequences found, best first: as many as the beam, or fewer if there are no more.

    Args:
        decoding: has one row for each of `begin`, and nothing written.
        begin: the first token of each row, such as a beginning of sentence.
        end: the token that ends a sequence.
        search: how.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    search = search or BeamSearch()
    rows = [_Row(search) for _ in range(len(begin))]
    live = _Live(
        sums=torch.zeros(len(begin), 1, device=begin.device), tokens=begin[:, None, None], rows=list(range(len(begin)))
    )
    for step in range(1, search.max_tokens + 1):
        chances = _log_probabilities(decoding.next(live.tokens[..., -1].reshape(-1, 1)))
        scores = live.sums[..., None].to(chances) + chances.view(*live.sums.shape, -1)
        live, kept = _continued(live, scores, end, rows)
        if not live.rows:
            break
        if step < search.max_tokens:
            decoding.select(kept)
    for place, number in enumerate(live.rows):
        rows[number].cut_off(live.tokens[place, :, 1:], live.sums[place])
    return [row.ranked() for row in rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Live:
    """The sequences that go on, equally many of each row that is not done.

    Args:
        sums: their log probabilities.
        tokens: with the beginning.
        rows: the numbers of the rows.
    """

    sums: Float[Tensor, "live width"]
    tokens: Int[Tensor, "live width tokens"]
    rows: list[int]


class _Row:
    """What has been found for one row."""

    def __init__(self, search: BeamSearch) -> None:
        self.search = search
        self.found: list[Hypothesis] = []

    @property
    def done(self) -> bool:
        return len(self.found) >= self.search.beam

    def end(self, tokens: Tensor, log_probability: float) -> None:
        self._add(tokens, log_probability, len(tokens) + 1, ended=True)

    def cut_off(self, tokens: Int[Tensor, "width tokens"], sums: Float[Tensor, "width"]) -> None:
        for sequence, log_probability in zip(tokens, sums.tolist(), strict=True):
            if log_probability > float("-inf"):
                self._add(sequence, log_probability, len(sequence), ended=False)

    def ranked(self) -> list[Hypothesis]:
        best = sorted(self.found, key=lambda hypothesis: (hypothesis.ended, hypothesis.score), reverse=True)
        return best[: self.search.beam]

    def _add(self, tokens: Tensor, log_probability: float, length: int, ended: bool) -> None:
        score = self.search.score(log_probability, length)
        self.found.append(
            Hypothesis(tokens=tuple(tokens.tolist()), log_probability=log_probability, score=score, ended=ended)
        )


def _log_probabilities(logits: Float[Tensor, "rows vocab_size"]) -> Float[Tensor, "rows vocab_size"]:
    """In float32 at least.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    if not (logits < float("inf")).all():  # false for NaN too; minus infinity is a token that may not come
        raise UserError("the model's logits are NaN or infinite: its weights are broken, no token can be chosen.")
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _continued(
    live: _Live, scores: Float[Tensor, "live width vocab_size"], end: int, rows: list[_Row]
) -> tuple[_Live, Int[Tensor, "kept"]]:
    """The best continuations that do not end, and which rows of the decoding they continue; notes those that end."""
    beam, (_, width, vocab_size) = rows[0].search.beam, scores.shape
    # Twice the beam: even if all sequences end here, as many are left that do not.
    best, places = scores.flatten(1).topk(min(2 * beam, width * vocab_size))
    parents, tokens = places // vocab_size, places % vocab_size
    ending = tokens == end
    for place, rank in ending[:, :beam].nonzero().tolist():
        row = rows[live.rows[place]]
        if not row.done and best[place, rank] > float("-inf"):
            row.end(live.tokens[place, parents[place, rank], 1:], best[place, rank].item())
    going = [place for place, number in enumerate(live.rows) if not rows[number].done]
    # Stable: those that do not end come first, in their order.
    chosen = ending[going].int().argsort(dim=1, stable=True)[:, : min(beam, width * (vocab_size - 1))]
    parents, tokens = parents[going].gather(1, chosen), tokens[going].gather(1, chosen)
    at = torch.tensor(going, dtype=torch.long, device=best.device)[:, None]
    after = _Live(
        sums=best[going].gather(1, chosen),
        tokens=torch.cat((live.tokens[at, parents], tokens[..., None]), dim=-1),
        rows=[live.rows[place] for place in going],
    )
    return after, (at * width + parents).flatten()
