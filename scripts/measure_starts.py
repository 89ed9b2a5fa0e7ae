"""Measure from which function every scheme starts, with the norms' own eps, and write docs/starts.md.

python scripts/measure_starts.py        some minutes of one core

Every specification of tests/test_conformance.py beside the scheme that it claims to start as, or beside Pre-LN with its
kind of norm where it claims nothing: decoders of 24 layers and width 64 from the same sublayers, in float64 and in
evaluation, on random tokens. Differences are relative to the largest entry: of the hidden vectors, and the largest over
the gradients of what both have.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from addnorm import Transformer, schemes
from addnorm.layers.initialise import InitRule
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import own_parameters
from test_conformance import SPECIFICATIONS

FILE = Path(__file__).parents[1] / "docs" / "starts.md"
LAYERS, WIDTH, VOCABULARY = 24, 64, 64
STARTS: dict[InitRule, str] = {"xavier": "init=xavier", "normal": "init=normal"}
HEAD = f"""# From which function each scheme starts

Written by `python scripts/measure_starts.py`: decoders of {LAYERS} layers and width {WIDTH} before training, float64,
with the norms' own eps, each beside the scheme that it claims to start as, from the same sublayers. The largest
relative difference of the hidden vectors, and of any gradient of what both have. `init=xavier` starts from an embedding
of RMS {WIDTH**-0.5:g}, `init=normal` draws all weights and the embedding from N(0, 0.02^2): a stream whose mean square
is 4e-4, beside which a norm's eps of 1e-5 is no trifle. Where nothing is claimed the differences are those from Pre-LN
with the same kind of norm, in brackets. What the eps did before is in
[0010](decisions/0010-starts-at-the-real-eps.md).

| scheme | starts as | {" | ".join(f"{text}: value | gradient" for text in STARTS.values())} |
|---|---|{"---|" * 2 * len(STARTS)}
"""


def start(text: str, init: InitRule) -> tuple[Tensor, dict[str, Tensor]]:
    """Hidden vectors, and the gradients of what every scheme has."""
    scheme = schemes.parse(text)
    ids, labels = torch.randint(VOCABULARY, (2, 4, 16), generator=torch.Generator().manual_seed(0))
    attention = "plain" if text.startswith("real-former") else "fused"
    model = Transformer(
        scheme, vocab_size=VOCABULARY, d_model=WIDTH, num_heads=4, num_layers=LAYERS, seed=0, init=init,
        attention=attention, calibration=ids, tie_embeddings=False,
    )  # fmt: skip
    model = model.double().eval()
    seen: list[Tensor] = []
    model.stack.register_forward_hook(lambda module, given, output: seen.append(output.detach()))
    F.cross_entropy(model(ids).flatten(0, 1), labels.flatten()).backward()
    return seen[0], {path: p.grad for path, p in own_parameters(model).items() if p.grad is not None}


def differences(one: tuple[Tensor, dict[str, Tensor]], two: tuple[Tensor, dict[str, Tensor]]) -> tuple[float, float]:
    """In value, and the largest in a gradient; one that is zero in exact arithmetic is compared with the largest."""
    largest = max(float(gradient.abs().max()) for gradient in two[1].values())
    gradients = [
        float((one[1][path] - other).abs().max()) / max(float(other.abs().max()), 1e-9 * largest)
        for path, other in two[1].items()
        if path in one[1]
    ]
    return float((one[0] - two[0]).abs().max() / two[0].abs().max()), max(gradients)


def row(text: str) -> str:
    """One line of the table."""
    scheme = schemes.parse(text)
    claim = scheme.starts_as()
    other = claim or PreNorm(norm=scheme.norm)
    cells = []
    for init in STARTS:
        found = differences(start(text, init), start(schemes.format(other), init))
        cells += [f"{size:.0e}".replace("0e+00", "0") if claim else f"({size:.2g})" for size in found]
    return f"| `{text}` | {f'`{schemes.format(claim)}`' if claim else ''} | {' | '.join(cells)} |"


def main() -> None:
    """Every specification, those with a claim first."""
    texts = [text for line in SPECIFICATIONS for text in line]
    texts.sort(key=lambda text: schemes.parse(text).starts_as() is None)
    rows = []
    for number, text in enumerate(texts, start=1):
        print(f"{number} of {len(texts)}: {text}", flush=True)
        rows.append(row(text))
    FILE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
