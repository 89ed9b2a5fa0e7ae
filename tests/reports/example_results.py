"""A realistic results.json: 6 schemes, 2 depths, 3 seeds.

One arm diverged, one has a single seed, several show no difference.
"""

from __future__ import annotations

import math
import random
from typing import Any

from addnorm.files import finite
from addnorm.studies.statistics import Estimate, estimate, paired_difference, paired_ratio

UNIGRAM = 3.318
BUDGET = {2: 65_536, 24: 65_536}
STEPS = [0, 26, 51, 77, 102, 128]

# Title, equation, reference, diagram, {layers: (final loss, seconds, activation bytes)}, connection parameters a site.
CATALOGUE: dict[str, tuple[str, str, str, str, dict[int, tuple[float, float, int]], int]] = {
    "pre-norm": (
        "Pre-LN: normalise what the sublayer reads, add what it writes; one final norm.",
        "x <- x + F(n(x));    hidden = n(x)",
        "Xiong et al. 2020, arXiv:2002.04745.",
        "fork box:n sublayer add",
        {2: (2.314, 4.1, 6_100_000), 24: (2.271, 38.0, 70_200_000)},
        64,
    ),
    "post-norm": (
        "Post-LN: normalise after the addition.",
        "x <- n(x + F(x));    hidden = x",
        "Vaswani et al. 2017, arXiv:1706.03762.",
        "fork sublayer add box:n",
        {2: (2.298, 4.0, 6_000_000), 24: (math.inf, 37.4, 69_900_000)},
        64,
    ),
    "plain": (
        "Plain: no skip at all, the control.",
        "x <- F(n(x));    hidden = n(x)",
        "Dong et al. 2021, arXiv:2103.03404.",
        "box:n sublayer",
        {2: (2.402, 3.9, 5_800_000), 24: (UNIGRAM, 36.1, 66_000_000)},
        64,
    ),
    "deep-norm": (
        "DeepNorm: Post-LN with a heavier skip and a smaller value path.",
        "x <- n(alpha * x + F(x)),  alpha = N^(1/4);    hidden = x\n"
        "W_v, W_o, W_1, W_2 <- beta * W  at initialisation,  beta = (4 N)^(-1/4)",
        "Wang et al. 2022, arXiv:2203.00555.",
        "fork skip:α sublayer add box:n",
        {2: (2.312, 4.2, 6_200_000), 24: (2.294, 39.1, 71_500_000)},
        64,
    ),
    "mhc": (
        "mHC: four streams, mixed by a doubly stochastic matrix that depends on the token.",
        "X <- H_res X + H_post^T F(n(H_pre X)),  X in R^(4 x d)\n"
        "H_res = Sinkhorn(exp(B)),  H_pre = sigmoid(b),  H_post = 2 sigmoid(c)",
        "Xie et al. 2025, arXiv:2512.24880; Zhu et al. 2024, arXiv:2409.19606.",
        "streams:4 fork skip:H_res mix:H_pre box:n sublayer scale:H_post add",
        {2: (2.305, 7.8, 13_900_000), 24: (2.238, 83.0, 161_000_000)},
        3_163,
    ),
    "block-attention-residuals": (
        "Block attention residuals: each sublayer reads a softmax mixture of block sums.",
        "h = sum_j softmax_j(w . RMSNorm(b_j)) b_j;    y = F(n(h))",
        "Kimi Team 2026, arXiv:2603.15031.",
        "history mix:softmax box:n sublayer add",
        {2: (2.309, 5.0, 7_900_000), 24: (2.262, 52.7, 93_000_000)},
        128,
    ),
}


def example_results(*, json_safe: bool = True) -> dict[str, Any]:
    """The results; `json_safe` writes infinities as text, as results.json has them."""
    arms: list[dict[str, Any]] = []
    for layers in BUDGET:
        group = {scheme: _runs(scheme, layers) for scheme in CATALOGUE}
        equal_s = min(run["wall_s"][-1] for runs in group.values() for run in runs if len(run["tokens"]) == 11)
        arms += [_arm(scheme, layers, group, equal_s) for scheme in CATALOGUE]
    results = {**_frame(), "arms": arms, "answers": _answers()}
    return finite(results) if json_safe else results


def _runs(scheme: str, layers: int) -> list[dict[str, Any]]:
    """One curve a seed: from the uniform loss to the final one, with the seed's own offset."""
    final, wall_s, _ = CATALOGUE[scheme][4][layers]
    seeds = [0] if (scheme, layers) == ("block-attention-residuals", 2) else [0, 1, 2]
    return [_run(scheme, layers, seed, final, wall_s) for seed in seeds]


def _run(scheme: str, layers: int, seed: int, final: float, wall_s: float) -> dict[str, Any]:
    noise = random.Random(f"{scheme}{layers}{seed}")
    common = random.Random(seed * 100 + layers).gauss(0, 0.02)
    diverges = math.isinf(final)
    target = (UNIGRAM if diverges else final) + (0 if final == UNIGRAM else common) + noise.gauss(0, 0.006)
    pace = noise.gauss(1, 0.01)
    points = range(4 + seed if diverges else 11)
    losses = [target + (math.log(256) + 0.1 - target) * math.exp(-5.2 * (i / 10) ** 0.72) for i in points]
    if diverges:
        losses[-1] = math.inf
    tokens = [round(i / 10 * BUDGET[layers]) for i in points]
    return {
        "seed": seed,
        "tokens": tokens,
        "wall_s": [round(pace * wall_s * i / 10, 3) for i in points],
        "validation_loss": losses,
    }


def _arm(scheme: str, layers: int, group: dict[str, list[dict[str, Any]]], equal_s: float) -> dict[str, Any]:
    title, equation, reference, diagram, depths, connection = CATALOGUE[scheme]
    runs, base = group[scheme], group["pre-norm"]
    final = {run["seed"]: run["validation_loss"][-1] for run in runs}
    base_final = {run["seed"]: run["validation_loss"][-1] for run in base}
    timed = {run["seed"]: _at(run, equal_s) for run in runs}
    base_timed = {run["seed"]: _at(run, equal_s) for run in base}
    speed = {run["seed"]: run["tokens"][-1] / run["wall_s"][-1] for run in runs}
    base_speed = {run["seed"]: run["tokens"][-1] / run["wall_s"][-1] for run in base}
    difference = None if scheme == "pre-norm" else paired_difference(final, base_final)
    at_time = None if scheme == "pre-norm" else paired_difference(timed, base_timed)
    diagnosis = _diagnosis(scheme, layers)
    verdict, text = _verdict(scheme, layers, difference, diagnosis)
    activation = depths[layers][2]
    return {
        "id": f"{scheme}-L{layers}-lr0.002",
        "scheme": scheme,
        "equation": equation,
        "title": title,
        "reference": reference,
        "diagram": diagram,
        "layers": layers,
        "learning_rate": 0.002,
        "seeds": sorted(final),
        "parameters": 8_192 + layers * 12_672 + 2 * layers * connection,
        "connection_parameters": 2 * layers * connection,
        "validation_loss": estimate(list(final.values())).as_dict(),
        "difference": difference and difference.as_dict(),
        "loss_at_equal_time": estimate(list(timed.values())).as_dict(),
        "difference_at_equal_time": at_time and at_time.as_dict(),
        "equal_time_s": equal_s,
        "tokens_per_s": estimate(list(speed.values())).as_dict(),
        "speed_ratio": _ratio(speed, base_speed).as_dict(),
        "activation_bytes": activation,
        "activation_ratio": activation / CATALOGUE["pre-norm"][4][layers][2],
        "diagnosis": diagnosis,
        "verdict": verdict,
        "verdict_text": text,
        "decision_at_equal_time": {"word": _word(at_time)},
        "curves": runs,
        "signals": _signals(scheme, layers),
    }


def _ratio(these: dict[int, float], those: dict[int, float]) -> Estimate:
    ratio = paired_ratio(these, those)
    assert ratio is not None
    return ratio


def _at(run: dict[str, Any], wall_s: float) -> float:
    pairs = list(zip(run["wall_s"], run["validation_loss"], strict=True))
    for (x0, y0), (x1, y1) in zip(pairs, pairs[1:], strict=False):
        if x0 <= wall_s <= x1:
            return y0 + (y1 - y0) * (wall_s - x0) / (x1 - x0)
    return pairs[-1][1]


def _diagnosis(scheme: str, layers: int) -> dict[str, Any]:
    if (scheme, layers) == ("post-norm", 24):
        return {
            "kind": "diverged",
            "site": 47,
            "layer": "blocks.47.sublayer.fc2",
            "figure": "gradient norm 3.1e+08",
            "seeds": 3,
        }
    if (scheme, layers) == ("plain", 24):
        figure = "gradient 4.1e-13 of the largest"
        return {
            "kind": "vanishing gradients",
            "site": 6,
            "layer": "blocks.6.sublayer.out",
            "figure": figure,
            "seeds": 3,
        }
    return {"kind": "trains", "site": None, "layer": None, "figure": "", "seeds": 3}


def _verdict(scheme: str, layers: int, difference: Estimate | None, diagnosis: dict[str, Any]) -> tuple[str, str]:
    if scheme == "pre-norm":
        return "baseline", "The others are held against this scheme."
    if diagnosis["kind"] != "trains":
        kind = diagnosis["kind"].capitalize()
        return "does not train", f"{kind} in 3 of 3 seeds, from sublayer {diagnosis['site']} on: {diagnosis['figure']}."
    assert difference is not None
    if not difference.excludes(0):
        return "not decided", f"The interval of {difference.mean:+.3f} nats/token includes zero."
    word = "better" if difference.mean < 0 else "worse"
    return word, f"{abs(difference.mean):.3f} nats/token {word} than pre-norm at equal tokens."


def _word(difference: Estimate | None) -> str:
    if difference is None or not difference.excludes(0):
        return "not decided"
    return "better" if difference.mean < 0 else "worse"


def _signals(scheme: str, layers: int) -> dict[str, Any]:
    """Smooth profiles through depth that differ by scheme; the plain stack's gradients vanish, Post-LN's explode."""
    noise = random.Random(f"signals{scheme}{layers}")
    n = 2 * layers
    bend = {"plain": -0.62 if layers == 24 else -0.2, "post-norm": 0.09, "deep-norm": 0.004, "mhc": -0.012}.get(
        scheme, -0.02
    )
    rise = {"pre-norm": 0.5, "mhc": 0.4, "block-attention-residuals": 0.3}.get(scheme, 0.0)

    def profile(scale: float, slope: float, length: int) -> list[list[float]]:
        rows = []
        for number, _ in enumerate(STEPS):
            calm = 1 / (1 + 0.6 * number)
            rows.append([scale * calm * math.exp(slope * (n - i) + noise.gauss(0, 0.1)) for i in range(length)])
        return rows

    gradients = profile(0.3, bend, n + 1)
    weights = profile(0.2, bend, n)
    if (scheme, layers) == ("post-norm", 24):
        gradients[-2:] = [[math.nan] * (n + 1), [math.inf] * (n + 1)]
    if (scheme, layers) == ("mhc", 2):
        weights[0] = [0.0] * n  # a zero-initialised branch
    growth = [[(1 + i * (1 + 0.2 * s)) ** rise for i in range(n + 1)] for s in range(len(STEPS))]
    return {
        "steps": STEPS,
        "state_grad_norm": gradients,
        "weight_grad_norm": weights,
        "state_rms": growth,
        "read_rms": [[1.0 + noise.gauss(0, 0.02) for _ in range(n)] for _ in STEPS],
        "update_rms": profile(0.6, 0.0, n),
        "update_ratio": profile(0.01, 0.0, n),
    }


def _frame() -> dict[str, Any]:
    return {
        "addnorm": "0.1.0",
        "title": "Six residual schemes on Shakespeare, 2 and 24 layers",
        "spec": {
            "schemes": list(CATALOGUE),
            "baseline": "pre-norm",
            "layers": [2, 24],
            "tokens": [65_536],
            "learning_rates": [0.002],
            "seeds": 3,
            "data": "shakespeare",
            "d_model": 32,
            "num_heads": 4,
            "context": 64,
            "batch_size": 8,
        },
        "environment": {
            "python": "3.11.2",
            "torch": "2.13.0",
            "cpu": "a CPU of two cores",
            "threads": 1,
            "platform": "Linux x86_64",
        },
        "baseline": "pre-norm",
        "data": {"name": "shakespeare", "tokenizer": "byte", "unigram_entropy": UNIGRAM, "bytes_per_token": 1.0},
        "created": "2026-11-23T15:40:00+00:00",
        "wall_s": 274.3,
        "failures": [],
    }


def _answers() -> list[dict[str, Any]]:
    return [
        {
            "question": "Do shallow nets need residuals?",
            "answer": "At 2 layers the plain stack trains and ends 0.088 nats/token above Pre-LN; at 24 it stays "
            "at the unigram entropy of 3.318.",
            "figures": {"difference_at_2": 0.088},
        },
        {
            "question": "Which schemes train at 24 layers?",
            "answer": "pre-norm, deep-norm, mhc and block-attention-residuals train; post-norm diverges and plain has "
            "vanishing gradients.",
            "figures": {},
        },
        {
            "question": "Is the best scheme worth its time?",
            "answer": "At 24 layers mhc is 0.033 nats/token better at equal tokens and worse at equal time: it runs at "
            "0.46 of the speed.",
            "figures": {},
        },
    ]
