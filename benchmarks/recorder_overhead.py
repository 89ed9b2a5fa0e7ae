"""What `addnorm.Recorder` costs a training step: with and without it, in turns.

python benchmarks/recorder_overhead.py
"""

from __future__ import annotations

import statistics
import time

import torch

import addnorm
from addnorm.training.environment import describe

ROUNDS, STEPS, EVERY = 9, 50, 50


def seconds(model: torch.nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> float:
    """Of a round of steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        logits = model(ids)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    about, ids = describe(), torch.randint(256, (4, 64), generator=torch.Generator().manual_seed(0))
    print(f"processor: {about['processor']}, {about['instructions']}, one thread; torch {torch.__version__}")
    for scheme in ("pre-norm", "mhc"):
        model = addnorm.Transformer(scheme, vocab_size=256, d_model=128, num_heads=4, num_layers=8)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        seconds(model, optimizer, ids)
        ratios = []
        for _ in range(ROUNDS):
            alone = seconds(model, optimizer, ids)
            with addnorm.Recorder(model, every=EVERY):
                beside = seconds(model, optimizer, ids)
            ratios.append(beside / alone)
        low, middle, high = statistics.quantiles(ratios, n=4)
        said = f"{scheme}, 8 layers, width 128, 256 tokens, every {EVERY} steps"
        print(f"{said}: {middle:.3f} ({low:.3f} to {high:.3f}), n = {ROUNDS}")


if __name__ == "__main__":
    main()
