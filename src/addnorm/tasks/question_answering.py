"""Question answering: the span of a context that answers a question, by an encoder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count, check_finite
from addnorm.config import RunConfig
from addnorm.data.texts import questions
from addnorm.data.texts.records import Question, Splits
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError, unknown
from addnorm.files import write_json
from addnorm.task import Problem, Reader, Score, Split, Task, evaluating
from addnorm.tasks.questions.answer_baselines import trivial_answers
from addnorm.tasks.questions.answer_metrics import measure_for
from addnorm.tasks.questions.answer_scores import beside_trivial, best_threshold, figures
from addnorm.tasks.questions.question_reader import Answering, QuestionReader, Span, answering_in
from addnorm.tasks.text.encoder_texts import LengthBatches

PREDICTIONS = "predictions.json"


class QuestionProblem(Problem):
    """Where answers start and end.

        loss = -1/2 (ln sum_{i in starts} p(start = i) + ln sum_{j in ends} p(end = j))

    over the tokens of the context and [CLS], in nats a window. Where an answer stands several times all its places
    count (Clark and Gardner 2017, arXiv:1710.10723); [CLS] is the target of a window that holds no answer.

    Args:
        config: the run.
        task: threshold, and whether there may be no answer.
        reader: tokenizer and model.
        splits: the questions.
    """

    chance_name = "any token of the context alike"
    loss_name = "nats per boundary"

    def __init__(
        self, config: RunConfig, task: QuestionAnswering, reader: QuestionReader, splits: Splits[Question]
    ) -> None:
        super().__init__(config, reader)
        self.task, self.answerer, self.splits = task, reader, splits
        self.measure = measure_for([question.context for question in splits.train])
        self.train = reader.windows(splits.train, config.context)
        self.batches = LengthBatches(lengths=self.train.rows.lengths, seed=config.seed, batch_size=config.batch_size)
        self.validation = reader.windows(splits.validation, config.context)
        self.held_out = _evenly(len(self.validation), config.evaluation_tokens // self.tokens_per_example)
        self._scored: tuple[list[Question], list[str], Answering] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the questions and of the tokenizer."""
        identity = json.dumps([self.splits.fingerprint(), self.answerer.tokenizer.fingerprint()])
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def chance_loss(self) -> float:
        """The loss of who knows how many windows hold no answer, and takes any token of the context of the others."""
        empty = [starts == (0,) for starts in self.train.starts]
        share, total = (sum(empty) + 1) / (len(empty) + 2), 0.0
        for number in self.held_out:
            context = max(int(self.validation.rows.segments[number].sum()) - 1, 1)  # without its [SEP]
            for places in (self.validation.starts[number], self.validation.ends[number]):
                known = share if places == (0,) else (1 - share) * min(len(places) / context, 1.0)
                total -= math.log(known) / 2
        return total / len(self.held_out)

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a window, without padding, as measured over the training split."""
        return max(1, round(float(self.train.rows.lengths.mean())))

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return len(self.train) / self.config.batch_size

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Ids, segments, starts and ends of a step: a function of the config's seed and the step."""
        return self.train.batch(self.batches.numbers(step))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Nats a boundary on a batch of windows, smoothed; a scalar with its graph."""
        ids, segments, gold = batch
        return span_loss(self.answerer.logits(model, ids, segments), gold, self.config.label_smoothing)

    def evaluate(self, model: nn.Module) -> float:
        """Nats a boundary on held-out windows."""
        total = 0.0
        with evaluating(model):
            for numbers in self.validation.rows.by_length(self.held_out):
                ids, segments, gold = self.validation.batch(numbers)
                total += span_loss(self.answerer.logits(model, ids, segments), gold).item() * len(numbers)
        return total / len(self.held_out)

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """F1 and EM, beside the best of the trivial answers; where there may be no answer, in parts too."""
        chosen = self._chosen(split, limit)
        spans = self.answerer.spans(model, chosen, self.config.context)
        answering, note = self._answering(model, split, limit, chosen, spans)
        answers = [answering.text(span) for span in spans]
        own, trivial = figures(self.measure, chosen, answers), {}
        if baselines:
            makers = trivial_answers(self.splits.origin, answering.no_answer)
            trivial = {
                name: figures(self.measure, chosen, [answer(question) for question in chosen])
                for name, answer in makers.items()
            }
        self._scored = (chosen, answers, answering)
        return beside_trivial(own, trivial, note)

    def facts(self) -> dict[str, Any]:
        """Sizes, windows, and answers that no window holds."""
        return {
            "data": self.splits.origin,
            "vocab_size": self.answerer.tokenizer.vocab_size,
            "questions": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "windows": {"train": len(self.train), "validation": len(self.validation)},
            "answers_in_no_window": self.train.lost,
            "no_answer": self.answerer.answering.no_answer,
            "notes": list(self.splits.notes),
        }

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """Write the answers scored last as SQuAD's own script reads them; keep the threshold they were given by."""
        if self._scored is None:
            self.scores(model, baselines=False)
        assert self._scored is not None
        asked, answers, answering = self._scored
        found = {question.id: answer for question, answer in zip(asked, answers, strict=True)}
        write_json(folder / PREDICTIONS, found)
        answering.save(folder)
        return [folder / PREDICTIONS]

    def _answering(
        self, model: nn.Module, split: Split, limit: int | None, chosen: Sequence[Question], spans: Sequence[Span]
    ) -> tuple[Answering, str]:
        """How these spans become answers; the threshold is chosen on as many validation questions if none was given."""
        kept, note = self.answerer.answering, self.measure.note
        if not kept.no_answer or self.task.threshold is not None:
            return kept, note + (f"; threshold {kept.threshold:g}" if kept.no_answer else "")
        tuned_on, found = (chosen, spans)
        if split != "validation":
            tuned_on = self._chosen("validation", limit)
            found = self.answerer.spans(model, tuned_on, self.config.context)
        texts, margins = [span.text for span in found], [span.margin for span in found]
        threshold = best_threshold(self.measure, tuned_on, texts, margins)
        return replace(kept, threshold=threshold), f"{note}; threshold {threshold:.2f}, chosen on validation"

    def _chosen(self, split: str, limit: int | None) -> list[Question]:
        """All questions of a split, or so many, evenly over it."""
        every = getattr(self.splits, split)
        return [every[number] for number in _evenly(len(every), limit)]


def span_loss(logits: Tensor, gold: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean of `-ln` of the probability of all right starts and of all right ends, over a batch of windows.

    Args:
        logits: `[batch, tokens, 2]`, minus infinity where no answer can be.
        gold: 1 for a right start or end, of the same shape; one or more of each in a row.
        smoothing: share of a target's probability that is spread evenly over all places where an answer can be.
    """
    log_p = logits.log_softmax(dim=1)
    right = log_p.masked_fill(gold == 0, float("-inf")).logsumexp(dim=1)
    if not smoothing:
        return -right.mean()
    possible = logits.isfinite()
    spread = log_p.masked_fill(~possible, 0.0).sum(1) / possible.sum(1)
    return -((1 - smoothing) * right + smoothing * spread).mean()


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """Question answering: the span of a context that answers a question, by an encoder.

    Args:
        stride: tokens of a long context from the start of a window to that of the next.
        longest: tokens of an answer at most; fewer where no training answer has as many.
        no_answer: whether a question may have none: "yes", "no", or "auto": if a training question has none.
        threshold: there is no answer if that scores above the best span by more than this; None: 0 after training,
            and what is best on the validation split once the run was evaluated.
        frozen: so many of the lowest layers, and the embedding, keep the weights that a run starts from; 0 trains all.
            Fresh weights are never frozen.

    Raises:
        UserError: a value is not allowed.
    """

    stride: int = 128
    longest: int = 30
    no_answer: Literal["auto", "yes", "no"] = "auto"
    threshold: float | None = None
    frozen: int = 2

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "cloze",
        "init": "minilm",
        "context": 384,
        "batch_size": 8,
        "steps": 250,
        "learning_rate": 2e-4,
        "warm_up": 0.1,
        "schedule": "linear",
        "weight_decay": 0.01,
        "evaluations": 2,
        "evaluation_tokens": 16_384,
        "signals": 2,
    }
    comparison: ClassVar[Mapping[str, Any]] = {
        "schemes": ("pre-norm", "post-norm", "attention-residuals"),
        "data": "cloze",
        "tokenizer": "hf:minilm",
        "context": 384,
        "batch_size": 16,
        "layers": (2, 6),
        "steps": (100,),
        "warm_up": 0.3,
        "seeds": 3,
        "evaluation_tokens": 16_384,
        "score_items": 200,
    }

    def __post_init__(self) -> None:
        check_count("stride", self.stride)
        check_count("longest", self.longest)
        if self.no_answer not in ("auto", "yes", "no"):
            raise unknown("no_answer", str(self.no_answer), ("auto", "yes", "no"))
        if self.threshold is not None:
            check_finite("threshold", self.threshold)
        check_at_least("frozen", self.frozen, 0)
        if not isinstance(self.frozen, int):
            raise UserError(f"frozen={self.frozen} is not allowed; use a whole number of layers.")

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> QuestionProblem:
        """The questions loaded and the tokenizer built, or an earlier run's taken.

        Raises:
            UserError: the questions are missing or malformed, or an answer does not stand in its context.
        """
        splits = questions.load(config.data, skip_bad=config.skip_bad, drop_repeats=config.drop_repeats)
        if reader is None:
            tokens = _tokenizer(splits, config.tokenizer)
            reader = self._reader(tokens, self._answering(splits.train, tokens))
        assert isinstance(reader, QuestionReader)
        return QuestionProblem(config, self, reader, splits)

    def reader(self, folder: Path) -> QuestionReader:
        """The tokenizer that a run was trained with, and how it answers.

        Raises:
            UserError: a file is missing or damaged.
        """
        return self._reader(tokenizer.load(folder / tokenizer.FILE), answering_in(folder))

    def _reader(self, tokens: Tokenizer, answering: Answering) -> QuestionReader:
        return QuestionReader(tokens, answering, stride=self.stride, frozen=self.frozen)

    def _answering(self, train: Sequence[Question], tokens: Tokenizer) -> Answering:
        may_lack = self.no_answer == "yes" or (
            self.no_answer == "auto" and any(not question.answers for question in train)
        )
        texts = {answer.text for question in train for answer in question.answers}
        longest = max((len(tokens.encode(text)) for text in texts), default=self.longest)
        return Answering(no_answer=may_lack, threshold=self.threshold or 0.0, longest=min(longest, self.longest))


@lru_cache(maxsize=2)
def _tokenizer(splits: Splits[Question], name: str) -> Tokenizer:
    """The tokenizer, trained on the training texts if it must be; kept for the runs of a comparison."""
    contexts = dict.fromkeys(question.context for question in splits.train)
    return tokenizer.build(name, ["\n".join([*contexts, *(question.question for question in splits.train)])])


def _evenly(count: int, most: int | None) -> np.ndarray:
    """So many numbers of `count`, evenly spread; all of them for None."""
    kept = count if most is None else max(1, min(most, count))
    return np.arange(kept) * count // kept
