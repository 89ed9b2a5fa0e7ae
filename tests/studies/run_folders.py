"""Run folders as training writes them, with made-up figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from addnorm.files import append_json_line, write_json

UNIGRAM = 3.3
TRAINS = {"kind": "trains", "site": None, "layer": None, "figure": ""}
FADING = {"kind": "vanishing gradients", "site": 3, "layer": "blocks.3", "figure": "falls by 1e4"}
STALLED = {"kind": "stalled", "site": 5, "layer": "blocks.5", "figure": "the loss stays at 3.30"}


def write_run(
    folder: Path,
    config: dict[str, Any],
    *,
    losses: list[float],
    seconds: float = 4.0,
    diagnosis: dict[str, Any] | None = None,
    status: str = "finished",
    tokens: int = 1000,
) -> None:
    """A run that ended: its losses evenly over its tokens and seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_json(folder / "environment.json", {"cpu": "made up", "threads": 1})
    about = {"fingerprint": "f", "addnorm": "0.1.0", "parameters": 123, "connection_parameters": 12}
    about |= {"vocab_size": 256, "unigram_entropy": UNIGRAM}
    write_json(folder / "run.json", {**about, "bytes_per_token": 1.0, "activation_bytes": 1000, "flops_per_token": 10})
    (folder / "metrics.jsonl").write_text("")
    last = len(losses) - 1
    for i, loss in enumerate(losses):
        place = {"step": i, "tokens": tokens * i // last, "wall_s": seconds * i / last, "cpu_s": seconds * i / last}
        append_json_line(folder / "metrics.jsonl", {"event": "validation", **place, "loss": loss})
        signals = {"read_rms": [1.0], "update_rms": [1.0], "state_rms": [1.0, 1.0], "state_grad_norm": [0.1, 0.2]}
        signals |= {"weight_grad_norm": [0.3], "update_ratio": [0.01]}
        append_json_line(folder / "metrics.jsonl", {"event": "signal", **place, **signals})
    result = {"status": status, "tokens": tokens, "wall_s": seconds, "cpu_s": seconds, "validation_loss": losses[-1]}
    result |= {"train_loss": losses[-1], "tokens_per_s": tokens / seconds, "diagnosis": diagnosis or TRAINS}
    write_json(folder / "result.json", result)


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())
