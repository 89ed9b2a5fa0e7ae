"""What do Attention Residuals cost a training step? Time and saved bytes over our own Pre-LN.

    python benchmarks/attention_residuals_step.py [--rounds N] [--d-model D] [--layers L] [--dtype float32|bfloat16]

One thread, 2,048 tokens a step (8 rows of 256), vocabulary 4,096, AdamW. In each round every choice has its turn, so
that a machine that slows down does so for all; time is the process's CPU time, a ratio is that of two steps of the same
round. The table has the median of the ratios and their quartiles. Saved bytes are counted, not read from an allocator.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import addnorm
from addnorm.kernels import native
from addnorm.probes.memory import activation_bytes
from addnorm.residual import Scheme

ROWS, LENGTH, VOCAB, HEAD = 8, 256, 4096, 64
BASE = "pre-norm"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A scheme, with the C++ kernels of this library or without."""

    scheme: str
    kernels: bool = True

    @property
    def name(self) -> str:
        """For the table."""
        return self.scheme + ("" if self.kernels else ", torch alone")


CHOICES = (
    Choice(scheme=BASE),
    Choice(scheme="attention-residuals"),
    Choice(scheme="block-attention-residuals"),
    Choice(scheme="attention-residuals", kernels=False),
    Choice(scheme="block-attention-residuals", kernels=False),
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The model and its precision."""

    d_model: int = 512
    num_layers: int = 8
    dtype: torch.dtype = torch.float32


class Trained:
    """A model that takes one step of training at a time."""

    def __init__(self, scheme: Scheme, shape: Shape) -> None:
        heads = max(1, shape.d_model // HEAD)
        self.model = addnorm.Transformer(
            scheme, vocab_size=VOCAB, d_model=shape.d_model, num_heads=heads, num_layers=shape.num_layers
        ).to(shape.dtype)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        tokens = torch.randint(VOCAB, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
        self.batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step(self) -> None:
        """Forward, backward, update."""
        loss(self.model, self.batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def loss(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of the next token."""
    tokens, following = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def measure(choices: tuple[Choice, ...], shape: Shape, rounds: int) -> dict[Choice, dict[str, Any]]:
    """For each choice: `times_s` a round, `saved_bytes` of one forward."""
    trained = {choice: Trained(addnorm.schemes.parse(choice.scheme), shape) for choice in choices}
    found: dict[Choice, dict[str, Any]] = {choice: {"times_s": []} for choice in choices}
    for turn in range(rounds + 1):
        for choice, one in trained.items():
            with native.switched(choice.kernels):
                start = time.process_time()
                one.step()
                if turn:  # the first round warms up
                    found[choice]["times_s"].append(time.process_time() - start)
    for choice, one in trained.items():
        with native.switched(choice.kernels):
            found[choice]["saved_bytes"] = activation_bytes(one.model, one.batch, loss)
    return found


def ratios(found: dict[Choice, dict[str, Any]]) -> dict[Choice, list[float]]:
    """Quartiles of the paired ratios of time to the first choice's."""
    base = next(iter(found.values()))["times_s"]
    pairs = {choice: [a / b for a, b in zip(one["times_s"], base, strict=True)] for choice, one in found.items()}
    return {choice: statistics.quantiles(pair, n=4) for choice, pair in pairs.items()}


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--d-model", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = Shape(d_model=asked.d_model, num_layers=asked.layers, dtype=getattr(torch, asked.dtype))
    found = measure(CHOICES, shape, asked.rounds)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread; {shape}\n")
    print("| scheme | ms a step | time over pre-norm, quartiles | saved MB | over pre-norm |\n|---|---:|---|---:|---:|")
    first = next(iter(found.values()))["saved_bytes"]
    for choice, (low, middle, high) in ratios(found).items():
        times, saved = found[choice]["times_s"], found[choice]["saved_bytes"]
        print(
            f"| {choice.name} | {statistics.median(times) * 1e3:.0f} | {middle:.3f} ({low:.3f} to {high:.3f}) "
            f"| {saved / 1e6:.1f} | {saved / first:.3f} |"
        )


if __name__ == "__main__":
    main()
