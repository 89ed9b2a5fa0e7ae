"""A run calibrates its scheme on its first batch."""

from __future__ import annotations

import torch

from addnorm.config import RunConfig
from addnorm.training.load import load_model
from addnorm.training.run import train


def test_a_scheme_that_needs_a_batch_trains_and_its_model_loads(tmp_path):
    scheme = "by-layer(first=admin(growth=profile), share=0.5)"
    config = RunConfig(scheme=scheme, tokens=2_000, d_model=16, num_layers=2, evaluations=1, evaluation_tokens=512)
    assert train(config, tmp_path / "run")["status"] == "finished"
    model, _, _ = load_model(tmp_path / "run")
    assert model(torch.zeros(1, 3, dtype=torch.long)).isfinite().all()
    factors = [float(block.connection.omega.detach().mean()) for block in model.stack.blocks[:2]]
    # One, and the root of one and what the first update varies by; training has moved both a little.
    assert abs(factors[0] - 1) < 0.1
    assert 0.9 < factors[1] < 1.5
