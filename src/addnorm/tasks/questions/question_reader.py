"""Questions to spans: the windows of a context through a span model, and the best span over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import INIT_RULES, RunConfig
from addnorm.data.texts.records import Question
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.models.span import SpanModel
from addnorm.task import Prediction, Reader, evaluating
from addnorm.tasks.questions.context_windows import ContextWindows, Framing, answerable, windows
from addnorm.tasks.text.encoder_texts import TextFrame, real

if TYPE_CHECKING:
    from jaxtyping import Float

FILE = "questions.json"
"""In a run's folder: whether a question may have no answer, the threshold, and how long an answer may be."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The best span of a context.

    Args:
        text: of the context.
        start: its first character.
        score: start logit plus end logit.
        probability: `softmax(start) softmax(end)` in its window, [CLS] among the tokens.
        null: the score of there being no answer, the least over the windows.
    """

    text: str
    start: int
    score: float
    probability: float
    null: float

    @property
    def margin(self) -> float:
        """By how much there being no answer scores above the span."""
        return self.null - self.score


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How answers are read off the logits; what a run keeps of it.

    Args:
        no_answer: whether a question may have none.
        threshold: there is none if that scores above the best span by more than this.
        longest: tokens of an answer at most.
    """

    no_answer: bool
    threshold: float = 0.0
    longest: int = 30

    def text(self, span: Span) -> str:
        """The answer; "" if there is none."""
        return "" if self.no_answer and span.margin > self.threshold else span.text

    def save(self, folder: Path) -> None:
        """Write it beside a run's weights."""
        write_json(folder / FILE, asdict(self))


def answering_in(folder: Path) -> Answering:
    """What `Answering.save` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        values = read_object(folder / FILE)
        return Answering(
            no_answer=bool(values["no_answer"]), threshold=float(values["threshold"]), longest=int(values["longest"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); name the folder of a run on questions.") from error


class QuestionReader(Reader):
    """A tokenizer, and the span model that it feeds.

    Args:
        tokenizer: of the run.
        answering: how answers are read off the logits.
        stride: tokens from window to window.
        frozen: lowest layers that keep the weights that a run starts from.
    """

    def __init__(self, tokenizer: Tokenizer, answering: Answering, *, stride: int, frozen: int = 0) -> None:
        self.tokenizer, self.answering = tokenizer, answering
        self.stride, self.frozen = stride, frozen
        self.frame = TextFrame(tokenizer=tokenizer)

    def build(self, config: RunConfig) -> SpanModel:
        """An encoder with a span head, with fresh weights.

        Raises:
            UserError: more layers are frozen than there are.
        """
        if self.frozen > config.num_layers:
            raise UserError(f"frozen={self.frozen}, but num_layers={config.num_layers}; freeze that many or less.")
        return SpanModel(
            schemes.parse(config.scheme),
            frozen=0 if config.init in INIT_RULES else self.frozen,
            seed=config.seed,
            calibration="later",
            **asdict(config.model(self.tokenizer.vocab_size)),
        )

    def save(self, folder: Path) -> None:
        """Write the tokenizer, and how answers are read."""
        self.tokenizer.save(folder / tokenizer.FILE)
        self.answering.save(folder)

    def windows(self, questions: Sequence[Question], limit: int) -> ContextWindows:
        """The windows of questions, in rows of `limit` tokens at most."""
        return windows(Framing(frame=self.frame, limit=limit, stride=self.stride), tuple(questions))

    def logits(self, model: nn.Module, ids: Tensor, segments: Tensor) -> Float[Tensor, "batch tokens 2"]:
        """Start and end logits in float32; minus infinity where no answer can be."""
        keep, kinds = real(segments)
        found = model(ids, keep, kinds).float()
        return found.masked_fill(~answerable(ids, segments, self.frame)[..., None], float("-inf"))

    def spans(self, model: nn.Module, questions: Sequence[Question], limit: int) -> list[Span]:
        """The best span of each question's context, over all its windows."""
        cut = self.windows(questions, limit)
        best: dict[int, Span] = {}
        with evaluating(model):
            for numbers in cut.rows.by_length(np.arange(len(cut))):
                ids, segments = cut.rows.batch(numbers)
                logits = self.logits(model, ids, segments)
                for row, found in zip(numbers, best_spans(logits, self.answering.longest), strict=True):
                    number = int(cut.question[row])
                    span = _in_context(questions[number].context, cut.offsets[row], *found)
                    best[number] = _better(best.get(number), span)
        return [best[number] for number in range(len(questions))]

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The answer to a question about a context (`beside`), its place and its score."""
        if beside is None:
            raise UserError('a question needs a context; give both: addnorm predict RUN "question" "context".')
        if not given.strip() or not beside.strip():
            raise UserError(f"the {'context' if given.strip() else 'question'} is empty; give text.")
        question = Question(id="", question=given.strip(), context=beside, answers=())
        span = self.spans(model, [question], config.context)[0]
        answer, values = self.answering.text(span), {**asdict(span), "end": span.start + len(span.text)}
        place = (
            f"characters {span.start} to {values['end']}, score {span.score:.2f}, probability {span.probability:.1%}"
        )
        shown = f"{answer} ({place})" if answer else f"no answer (best span: {span.text}, {place})"
        values |= {"answer": answer or None, "threshold": self.answering.threshold, "no_answer": not answer}
        return Prediction(text=shown, values=values)


def best_spans(logits: Float[Tensor, "batch tokens 2"], longest: int) -> list[tuple[int, int, float, float, float]]:
    """Of each row the first and last token of the best span, its score, its log-probability, and [CLS]'s score.

        argmax over 0 < i <= j < i + longest of start_i + end_j

    Args:
        logits: minus infinity where no answer can be.
        longest: tokens of a span at most.
    """
    start, end = logits.unbind(-1)
    tokens = logits.shape[1]
    place = torch.arange(tokens)
    length = place[None, :] - place[:, None] + 1
    allowed = (length >= 1) & (length <= longest) & (place[:, None] > 0)
    pairs = (start[:, :, None] + end[:, None, :]).masked_fill(~allowed, float("-inf")).flatten(1)
    score, where = pairs.max(1)
    normaliser = logits.logsumexp(1).sum(-1)
    null = start[:, 0] + end[:, 0]
    columns = (where // tokens, where % tokens, score, score - normaliser, null)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _in_context(
    context: str, offsets: np.ndarray, first: int, last: int, score: float, log_probability: float, null: float
) -> Span:
    """A span of tokens as a span of characters, without white space around it."""
    start, stop = int(offsets[first][0]), int(offsets[last][1])
    text = context[start:stop]
    start += len(text) - len(text.lstrip())
    probability = math.exp(log_probability)
    return Span(text=text.strip(), start=start, score=score, probability=probability, null=null)


def _better(one: Span | None, other: Span) -> Span:
    """The span with the higher score, with the lower of both null scores."""
    if one is None:
        return other
    best = other if other.score > one.score else one
    return replace(best, null=min(one.null, other.null))
