from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rows = list[dict[str, Any]]


@pytest.fixture
def rows() -> Rows:
    """Those of a run of twenty steps, as metrics.jsonl has them."""
    found: Rows = []
    for step in range(1, 21):
        at = {"step": step, "tokens": 64 * step, "wall_s": 0.1 * step}
        found.append({"event": "train", "loss": 5 - 0.1 * step, "grad_norm": 1.5, "learning_rate": 1e-3, **at})
        if step % 10 == 0:
            found.append({"event": "validation", "loss": 4.0, **at})
            signal = {"state_rms": [0.1, 0.2, 0.3], "update_rms": [0.5, "nan"], "state_grad_norm": [3.0, 2.0, 1.0]}
            found.append({"event": "signal", **signal, **at})
    return found


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Rows], Path]:
    """Writes rows into a run's folder, as a resume leaves them; gives the folder."""

    def write(rows: Rows) -> Path:
        (tmp_path / "config.json").write_text('{"scheme": "pre-norm"}')
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return write
