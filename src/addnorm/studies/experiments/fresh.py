"""Claims about decoders before training, from more than one start: what enters an unnormalised stream decides much."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from addnorm.errors import unknown
from addnorm.studies.claim import Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.toy import STARTS, Start


@dataclass(frozen=True, kw_only=True)
class FreshClaim(Claim):
    """A claim that is measured and judged from each of several starts; the verdict is that of the first.

    Args:
        starts: initial weights with the embedding's size; the first is the paper's.
    """

    starts: tuple[Start, ...] = ("unit", "xavier", "normal")

    embedding: ClassVar[str] = (
        "RMS 1, which theories assume; the models' own (RMS 1/sqrt(d_model)) and init=normal (RMS 0.02) are said beside"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for start in self.starts:
            if start not in STARTS:
                raise unknown("start", str(start), STARTS)

    @abstractmethod
    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """Run the experiment from one start."""

    @abstractmethod
    def judge_at(self, measured: Measured) -> Judgement:
        """What the numbers of one start say."""

    def measure(self, progress: OnProgress) -> Measured:
        """The lines of all starts; those of the first by their own names, the others' with the start's behind it."""
        lines: dict[str, Line] = {}
        for number, start in enumerate(self.starts):

            def tell(share: float, number: int = number) -> None:
                progress((number + share) / len(self.starts))

            lines |= {
                _key(name, start if number else None): line if not number else _labelled(line, start)
                for name, line in self.measure_at(start, tell).items()
            }
        return lines

    def shown(self, measured: Measured) -> Measured:
        """Those of the first start."""
        return {key: line for key, line in measured.items() if _BETWEEN not in key}

    def judge(self, measured: Measured) -> Judgement:
        """The first start's finding, with what the others give."""
        finding = self.judge_at(self.shown(measured))
        elsewhere = {start: self.judge_at(lines) for start in self.starts[1:] if (lines := _of(measured, start))}
        others = "; ".join(
            f"at {STARTS[start].text} {found.verdict} ({said(found.figure)})" for start, found in elsewhere.items()
        )
        at = f" This is at {STARTS[self.starts[0]].text}"
        sentence = f"{finding.sentence}{at}; {others}." if others else finding.sentence
        return replace(finding, sentence=sentence, elsewhere={STARTS[start].text: f for start, f in elsewhere.items()})


_BETWEEN = " at "


def _key(name: str, start: Start | None) -> str:
    return name if start is None else f"{name}{_BETWEEN}{start}"


def _of(measured: Measured, start: Start) -> dict[str, Line]:
    """The lines of a start that is not the first, by their own names."""
    end = _key("", start)
    return {key.removesuffix(end): line for key, line in measured.items() if key.endswith(end)}


def _labelled(line: Line, start: Start) -> Line:
    return replace(line, label=f"{line.label}, {STARTS[start].text}")
