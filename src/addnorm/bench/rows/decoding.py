"""Writing text token by token beside transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from addnorm.bench.alternation import alternate, parts, ratio
from addnorm.bench.language_models import Gpt2, Size, our_model
from addnorm.bench.peers import TRANSFORMERS, installed, missing
from addnorm.bench.row import Figure, Goal, OnProgress, Result, Row, Times

OURS, THEIRS = "addnorm", "transformers GPT-2"


@dataclass(frozen=True, kw_only=True)
class Decoding(Row):
    """Tokens a second of greedy decoding with a cache, one sequence."""

    rounds: int = 7
    size: Size = Size(batch=1, context=256)
    prompt: int = 128
    goals: tuple[tuple[str, Goal], ...] = (("float32", Goal(target=1.2)), ("bfloat16", Goal(target=1.5)))

    number: ClassVar[int] = 8
    title: ClassVar[str] = "cached decoding, batch 1"
    measures: ClassVar[str] = (
        "Our tokens a second over those of transformers' generate (GPT-2 of the same shape, its default cache): 128 "
        "tokens read and 128 written, greedy, batch 1, d=512, 8 layers; weights in float32, and in bfloat16."
    )

    def measure(self, progress: OnProgress) -> Result:
        """One precision after the other, both libraries in turns."""
        figures: list[Figure] = []
        rounds: dict[str, Times] = {}
        for (name, goal), tell in zip(self.goals, parts(progress, len(self.goals)), strict=True):
            times = alternate(self._arms(getattr(torch, name)), self.rounds, tell)
            if THEIRS in times:
                figures.append(ratio(f"{name}, over {THEIRS}", times[THEIRS], times[OURS], goal))
            rounds |= {f"{arm}, {name}": taken for arm, taken in times.items()}
        return Result(figures=tuple(figures), rounds=rounds, missing=missing([TRANSFORMERS]))

    def _arms(self, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
        prompt = self.size.tokens()[0][:, : self.prompt]
        new = self.size.context - self.prompt
        ours = our_model(self.size).to(dtype).eval()
        arms: dict[str, Callable[[], object]] = {OURS: lambda: ours.generate(prompt, new)}
        if installed(TRANSFORMERS):
            theirs: Any = Gpt2(self.size).to(dtype).eval().model
            keep = torch.ones_like(prompt)
            arms[THEIRS] = lambda: theirs.generate(
                prompt, attention_mask=keep, max_new_tokens=new, min_new_tokens=new, do_sample=False
            )
        return arms

    @classmethod
    def quick(cls) -> Self:
        """Two narrow layers, eight tokens."""
        return cls(
            rounds=2, prompt=8, size=Size(d_model=32, num_layers=2, num_heads=2, vocab_size=64, batch=1, context=16)
        )
