"""Steps a second of small nets in two versions of this repository, in turns.

    git worktree add ../before 9cde6ec     # which needs tyro besides
    python benchmarks/small_nets.py ../before --rounds 5

Each measurement is a training of its own process on one thread; what counts is the rate that `result.json` gives, which
leaves out loading, evaluation and saving. Ratios are of the two measurements of a round, after over before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SCHEMES = ("pre-norm", "deep-norm", "mhc", "block-attention-residuals")
SHAPE = {"d-model": 32, "num-heads": 4, "context": 64, "batch-size": 4, "evaluations": 1, "signals": 1, "saves": 1}


def rate(tree: Path, scheme: str, layers: int, steps: int, seed: int) -> float:
    """Tokens a second of a training with the code of a tree."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "addnorm", "train", "--scheme", scheme, "--num-layers", str(layers)]
        words += ["--steps", str(steps), "--seed", str(seed), "--out", f"{folder}/run"]
        words += [word for name, value in SHAPE.items() for word in (f"--{name}", str(value))]
        paths = os.pathsep.join([str(tree / "src"), os.environ.get("PYTHONPATH", "")])
        surroundings = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run(words, check=True, capture_output=True, env=surroundings)
        return float(json.loads((Path(folder) / "run" / "result.json").read_text())["tokens_per_s"])


def quartiles(values: list[float]) -> str:
    """The median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--after", type=Path, default=HERE)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rates: dict[tuple[str, str], list[float]] = {}
    for seed in range(given.rounds):
        for scheme in SCHEMES:
            for name in ("before", "after"):
                found = rate(getattr(given, name).resolve(), scheme, given.layers, given.steps, seed)
                rates.setdefault((name, scheme), []).append(found)
    processor = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    )
    load = os.getloadavg()[0]
    print(f"{processor.partition(':')[2].strip() or platform.processor()}, load {load:.1f}, {given.layers} layers")
    together = []
    for scheme in SCHEMES:
        before, after = rates["before", scheme], rates["after", scheme]
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        together.append(ratios)
        of_pre_norm = [own / base for own, base in zip(after, rates["after", "pre-norm"], strict=True)]
        print(
            f"{scheme:<28} tokens/s {statistics.median(before):8,.0f} to {statistics.median(after):8,.0f}; "
            f"ratio {quartiles(ratios)}; of Pre-LN's rate {quartiles(of_pre_norm)}"
        )
    rounds = [len(row) / sum(1 / ratio for ratio in row) for row in zip(*together, strict=True)]
    print(f"all together (harmonic mean of a round's ratios): {quartiles(rounds)}")


if __name__ == "__main__":
    main()
