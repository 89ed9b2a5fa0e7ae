"""GPT-2's initialisation: output projections divided by the root of the number of sublayers."""

from __future__ import annotations

import pytest

from addnorm import Transformer
from addnorm.schemes.gpt2_init import Gpt2Init
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import initial_factors
from transcription import assert_agrees, pre_norm


@pytest.mark.parametrize("kind", ["layer", "rms", "none"])
def test_it_computes_pre_norm(kind):
    assert_agrees(Gpt2Init(norm=kind), pre_norm)


@pytest.mark.parametrize(
    ("arrangement", "sublayers", "outputs"),
    [
        ("sequential", 6, ("o_proj", "fc2")),
        ("parallel", 3, ("o_proj", "fc2")),
        ("composed", 3, ("fc2",)),  # the attention's output goes to the feed-forward, not to the stream
    ],
)
def test_what_writes_to_the_stream_is_scaled_and_nothing_else(arrangement, sublayers, outputs):
    size = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": 3, "arrangement": arrangement}
    factors = initial_factors(Transformer(Gpt2Init(), **size), Transformer(PreNorm(), **size))
    assert {name: factor for name, factor in factors.items() if factor != 1.0} == {
        name: pytest.approx(sublayers**-0.5) for name in outputs
    }
