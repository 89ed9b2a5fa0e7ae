"""LAuReL of Gemma 3n: its equation; its modules are held against transformers in tests/oracles."""

from __future__ import annotations

import pytest
from torch import Tensor

from addnorm import UserError
from addnorm.schemes.gemma_laurel import GemmaLaurel
from transcription import Parts, assert_agrees, norm


def equation(parts: Parts) -> Tensor:
    x = parts.x
    for i in range(0, len(parts.F), 2):
        p, q = parts.at[i : i + 2]
        h = norm(x, p, "input_norm", eps=1e-6)
        laurel = h + norm(h @ p["down.weight"].mT @ p["up.weight"].mT, p, "laurel_norm", eps=1e-6)
        x = (x + norm(parts.F[i](h), p, "output_norm", eps=1e-6) + laurel) / 2**0.5
        x = x + norm(parts.F[i + 1](norm(x, q, "input_norm", eps=1e-6)), q, "output_norm", eps=1e-6)
    return norm(x, parts.exit, "norm", eps=1e-6)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(GemmaLaurel(norm=kind, rank=3), equation)


def test_a_rank_of_nothing_is_refused():
    with pytest.raises(UserError, match="rank"):
        GemmaLaurel(rank=0)
