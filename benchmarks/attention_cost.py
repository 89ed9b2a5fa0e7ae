"""What does each choice of attention cost as the sequence grows? Time and memory of one layer, a token.

    python benchmarks/attention_cost.py [--rounds N] [--figure PATH.svg PATH.png]

One causal attention layer with rotary positions, forward and backward, one thread, float32, batch 1. In each round
every choice has its turn at every length, so that a machine that slows down does so for all. Time is the process's CPU
time; the table has the median over rounds and half the distance between the quartiles. Saved bytes are counted, not
read from an allocator (`addnorm.probes.memory`): what the forward keeps for the backward. The cache is that of
decoding, after one prompt.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.probes.memory import activation_bytes
from addnorm.reports import palette

D_MODEL, NUM_HEADS, WINDOW, KV_HEADS = 128, 4, 128, 1
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
CHOICES: dict[str, dict[str, Any]] = {
    "full": {},
    "grouped-query": {"num_kv_heads": KV_HEADS},
    "sliding window": {"kernel": "sliding-window", "window": WINDOW},
    "linear": {"kernel": "linear"},
}
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")


def main() -> None:
    """Measure, print a table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--figure", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = {
        name: Attention(D_MODEL, NUM_HEADS, AttentionOptions(rotary=True, **options))
        for name, options in CHOICES.items()
    }
    inputs = {tokens: torch.randn(1, tokens, D_MODEL) for tokens in LENGTHS}
    times = measured(layers, inputs, asked.rounds)
    saved = {key: activation_bytes(layers[key[0]], inputs[key[1]], loss) / key[1] for key in times}
    report(times, saved, {key: cache_bytes(layers[key[0]], inputs[key[1]]) / key[1] for key in times})
    for path in asked.figure:
        draw(times, saved, path)


def loss(layer: torch.nn.Module, x: Tensor) -> Tensor:
    return layer(x, Context(causal=True)).square().mean()


def measured(
    layers: dict[str, Attention], inputs: dict[int, Tensor], rounds: int
) -> dict[tuple[str, int], list[float]]:
    """Microseconds of CPU time a token, one number a round."""
    times: dict[tuple[str, int], list[float]] = {(name, tokens): [] for tokens in inputs for name in layers}
    for turn in range(rounds + 1):
        for name, tokens in times:
            repeats = max(1, 1024 // tokens)
            start = time.process_time()
            for _ in range(repeats):
                loss(layers[name], inputs[tokens].requires_grad_()).backward()
            if turn:  # the first round warms up
                times[name, tokens].append((time.process_time() - start) / (repeats * tokens) * 1e6)
    return times


@torch.no_grad()
def cache_bytes(layer: Attention, x: Tensor) -> int:
    """What the cache takes after a prompt: keys and values have room for as many tokens again."""
    cache = KVCache()
    layer(x, Context(causal=True, cache=cache))
    return cache.bytes


def report(times: dict[Any, list[float]], saved: dict[Any, float], cached: dict[Any, float]) -> None:
    """Three tables in Markdown."""
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, float32;", end=" ")
    print(f"d_model {D_MODEL}, {NUM_HEADS} heads, window {WINDOW}, grouped-query: {KV_HEADS} head of keys and values.")
    middle = {key: statistics.median(values) for key, values in times.items()}
    half = {key: (lambda q: (q[2] - q[0]) / 2)(statistics.quantiles(values, n=4)) for key, values in times.items()}
    print(f"\nForward and backward, microseconds of CPU time a token, median of {len(next(iter(times.values())))}:\n")
    _table({key: f"{middle[key]:.2f} ±{half[key]:.2f}" for key in times})
    print("\nSaved for the backward, bytes a token:\n")
    _table({key: f"{value:,.0f}" for key, value in saved.items()})
    print("\nCache after a prompt, bytes a token:\n")
    _table({key: f"{value:,.1f}" for key, value in cached.items()})


def _table(cells: dict[tuple[str, int], str]) -> None:
    print("| tokens | " + " | ".join(CHOICES) + " |\n|---:|" + "---:|" * len(CHOICES))
    for tokens in LENGTHS:
        print(f"| {tokens} | " + " | ".join(cells[name, tokens] for name in CHOICES) + " |")


def draw(times: dict[Any, list[float]], saved: dict[Any, float], path: Path) -> None:
    """Both costs over the length, each choice with a colour, a line and a marker of its own."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "addnorm", "font.size": 10, "svg.fonttype": "path"}
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, name in enumerate(CHOICES):
        style = {"color": palette.LIGHT[number], "ls": LINES[number], "marker": MARKERS[number], "ms": 5, "label": name}
        rounds = [statistics.quantiles(times[name, tokens], n=4) for tokens in LENGTHS]
        left.plot(LENGTHS, [q[1] for q in rounds], **style)
        left.fill_between(
            LENGTHS, [q[0] for q in rounds], [q[2] for q in rounds], color=style["color"], alpha=0.2, linewidth=0
        )
        right.plot(LENGTHS, [saved[name, tokens] / 1024 for tokens in LENGTHS], **style)
    left.set_title("Forward and backward, µs of CPU time a token", loc="left")
    right.set_title("Saved for the backward, KiB a token", loc="left")
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(LENGTHS, [str(tokens) for tokens in LENGTHS])
        axes.set_xlabel("tokens")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e5e8")
        axes.set_axisbelow(True)
    left.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    left.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    left.set_yticks([10, 20, 50, 100, 200])
    left.legend(frameon=False, handlelength=4, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=palette.GROUND_LIGHT, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
