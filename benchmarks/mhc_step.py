"""What does mHC cost a training step? Time and saved bytes over our own Pre-LN.

    python benchmarks/mhc_step.py [--rounds N] [--d-model D] [--layers L] [--batch B] [--context C] [--autocast]

One thread, vocabulary 4,096, AdamW; by default 8 rows of 256 tokens. In each round every choice has its turn, so that a
machine that slows down does so for all; time is the process's CPU time, a ratio is that of two steps of the same round.
The table has the median of the ratios and their quartiles, and the difference for one token and sublayer. Saved bytes
are counted, not read from an allocator. "torch alone" is the same model with the C++ kernels switched off.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import addnorm
from addnorm.kernels import mhc_site, native
from addnorm.probes.memory import activation_bytes

VOCAB, HEAD, SUBLAYERS = 4096, 64, 2
# Name, scheme, sites from one stored state to the next, C++ kernels.
CHOICES: tuple[tuple[str, str, int, bool], ...] = (
    ("pre-norm", "pre-norm", 0, True),
    ("mhc", "mhc", 4, True),
    ("mhc, every state stored", "mhc", 1, True),
    ("mhc, torch alone", "mhc", 4, False),
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The model, its batch and its precision."""

    d_model: int = 512
    num_layers: int = 8
    batch: int = 8
    context: int = 256
    autocast: bool = False


class Trained:
    """A model that takes one step of training at a time."""

    def __init__(self, scheme: str, shape: Shape) -> None:
        self.model = addnorm.Transformer(
            addnorm.schemes.parse(scheme),
            vocab_size=VOCAB,
            d_model=shape.d_model,
            num_heads=max(1, shape.d_model // HEAD),
            num_layers=shape.num_layers,
        )
        self.autocast = shape.autocast
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        size, generator = (shape.batch, shape.context + 1), torch.Generator().manual_seed(0)
        self.batch = torch.randint(VOCAB, size, generator=generator)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy of the next token."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1).float(), batch[:, 1:].flatten())

    def step(self) -> None:
        """Forward, backward, update."""
        self.loss(self.model, self.batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@contextmanager
def _machine(choice: tuple[str, str, int, bool]) -> Iterator[None]:
    """Within it, states are stored as often as a choice says, by its kernels."""
    before, mhc_site.STORED_EVERY = mhc_site.STORED_EVERY, choice[2] or mhc_site.STORED_EVERY
    try:
        with native.switched(choice[3]):
            yield
    finally:
        mhc_site.STORED_EVERY = before


def rows(shape: Shape, rounds: int) -> Iterator[dict[str, Any]]:
    """For each choice: its name, `times_s` a round, quartiles of `ratio`, `us` a token and sublayer, `saved_bytes`."""
    trained = {choice: Trained(choice[1], shape) for choice in CHOICES}
    times: dict[tuple[str, str, int, bool], list[float]] = {choice: [] for choice in CHOICES}
    for turn in range(rounds + 1):
        for choice, one in trained.items():
            with _machine(choice):
                start = time.process_time()
                one.step()
                if turn:  # the first round warms up
                    times[choice].append(time.process_time() - start)
    base, places = times[CHOICES[0]], shape.batch * shape.context * shape.num_layers * SUBLAYERS
    for choice, one in trained.items():
        with _machine(choice):
            saved = activation_bytes(one.model, one.batch, one.loss)
        pairs = list(zip(times[choice], base, strict=True))
        yield {
            "name": choice[0],
            "times_s": times[choice],
            "ratio": statistics.quantiles([ours / theirs for ours, theirs in pairs], n=4),
            "us": statistics.median(ours - theirs for ours, theirs in pairs) / places * 1e6,
            "saved_bytes": saved,
        }


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    for name, value in (("d-model", 512), ("layers", 8), ("batch", 8), ("context", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--autocast", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = Shape(
        d_model=asked.d_model,
        num_layers=asked.layers,
        batch=asked.batch,
        context=asked.context,
        autocast=asked.autocast,
    )
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread; {shape}\n")
    print("| scheme | ms a step | over pre-norm, quartiles | us a token and sublayer | saved MB | over pre-norm |")
    print("|---|---:|---|---:|---:|---:|")
    first = 0
    for row in rows(shape, asked.rounds):
        first = first or row["saved_bytes"]
        low, middle, high = row["ratio"]
        print(
            f"| {row['name']} | {statistics.median(row['times_s']) * 1e3:.0f} | {middle:.3f} ({low:.3f} to {high:.3f}) "
            f"| {row['us']:.1f} | {row['saved_bytes'] / 1e6:.1f} | {row['saved_bytes'] / first:.3f} |"
        )


if __name__ == "__main__":
    main()
