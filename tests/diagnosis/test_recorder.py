"""Recording somebody's training: right figures, nothing changed, in whatever form the model is trained."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils.checkpoint import checkpoint

import addnorm
from addnorm.errors import UserError
from diagnosis import zoo


def trained(steps: int, recorder: Any = None, model: nn.Module | None = None, parts: int = 1) -> nn.Module:
    model = zoo.Net("pre", 3) if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        for part in range(parts):
            ids = zoo.batch(rows=2, seed=10 * step + part)
            loss = nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) / parts
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("make", [lambda: zoo.Net("pre", 3), lambda: ours("pre-norm"), lambda: ours("mhc")])
def test_no_bit_of_training_changes(make: Any) -> None:
    alone, beside = make(), make()
    trained(5, model=alone)
    with addnorm.Recorder(beside, every=2) as recorder:
        trained(5, model=beside)
    assert all(torch.equal(one, two) for one, two in zip(alone.parameters(), beside.parameters(), strict=True))
    assert [row["step"] for row in recorder.rows] == [0, 2, 4]


def ours(scheme: str) -> nn.Module:
    return addnorm.Transformer(scheme, vocab_size=zoo.VOCABULARY, d_model=32, num_heads=4, num_layers=2)


def test_the_figures_are_those_of_the_blocks() -> None:
    model, seen = zoo.Net("pre", 3), []
    model.layers[1].register_forward_hook(lambda block, given, made: seen.append((given[0].detach(), made)))
    before = {name: p.detach().clone() for name, p in model.layers[1].named_parameters()}
    with addnorm.Recorder(model) as recorder:
        ids = zoo.batch()
        loss = model(ids).square().mean()
        seen[0][1].retain_grad()
        loss.backward()
        gradients = [p.grad.clone() for p in model.layers[1].parameters()]
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    (row,), (given, made) = recorder.rows, seen[0]
    assert recorder.names == ("layers.0", "layers.1", "layers.2")
    assert row["state_rms"][1] == pytest.approx(float(given.square().mean().sqrt()), rel=1e-5)
    assert row["update_rms"][1] == pytest.approx(float((made - given).detach().square().mean().sqrt()), rel=1e-5)
    assert row["gradient_rms"][1] == pytest.approx(float(made.grad.square().mean().sqrt()), rel=1e-5)
    norm = float(torch.cat([g.flatten() for g in gradients]).norm())
    assert row["weight_gradient"][1] == pytest.approx(norm, rel=1e-5)
    size = float(torch.cat([p.flatten() for p in before.values()]).norm())
    assert row["update_to_weight"][1] == pytest.approx(0.1 * norm / size, rel=1e-4)


def test_a_gradient_scaler_leaves_the_gradients_size() -> None:
    class Scaler:
        def get_scale(self) -> float:
            return 1024.0

    plain, scaled = zoo.Net("pre", 3), zoo.Net("pre", 3)
    with addnorm.Recorder(plain) as one:
        plain(zoo.batch()).square().mean().backward()
        torch.optim.SGD(plain.parameters(), lr=0.0).step()
    with addnorm.Recorder(scaled, scaler=Scaler()) as two:
        (1024 * scaled(zoo.batch()).square().mean()).backward()
        torch.optim.SGD(scaled.parameters(), lr=0.0).step()
    assert two.rows[0]["gradient_rms"] == pytest.approx(one.rows[0]["gradient_rms"], rel=1e-4)


class Checkpointed(zoo.Net):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(self.norm(x))


def test_checkpointing_and_accumulation_give_the_same_figures() -> None:
    rows = []
    for model, parts in ((zoo.Net("pre", 3), 2), (Checkpointed("pre", 3), 2)):
        with addnorm.Recorder(model) as recorder:
            trained(1, model=model, parts=parts)
        rows.append(recorder.rows[0])
    assert rows[0]["state_rms"] == pytest.approx(rows[1]["state_rms"], rel=1e-6)
    assert rows[0]["gradient_rms"] == pytest.approx(rows[1]["gradient_rms"], rel=1e-5)


def test_under_autocast_figures_are_finite_and_near() -> None:
    model, plain = zoo.Net("pre", 3), zoo.Net("pre", 3)
    with addnorm.Recorder(model) as recorder, torch.autocast("cpu", torch.bfloat16):
        trained(1, model=model)
    with addnorm.Recorder(plain) as other:
        trained(1, model=plain)
    assert recorder.rows[0]["state_rms"] == pytest.approx(other.rows[0]["state_rms"], rel=2e-2)


def test_a_compiled_model_says_what_is_hidden() -> None:
    model = torch.compile(zoo.Net("pre", 3), backend="eager")
    with addnorm.Recorder(model) as recorder:
        trained(1, model=model)
    (row,) = recorder.rows
    assert "compiled" in row["note"] and row["state_rms"] == [None] * 3
    assert all(value > 0 for value in row["weight_gradient"])


def test_rows_go_to_lines_a_writer_and_a_tracker(tmp_path: Path) -> None:
    class Writer:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.seen.append(name)

    class Tracker:
        logged: dict[str, float] = {}

        def log(self, values: dict[str, float], step: int) -> None:
            self.logged |= values

    writer, tracker = Writer(), Tracker()
    model = zoo.Net("pre", 3)
    with addnorm.Recorder(model, to=[tmp_path / "a" / "rows.jsonl", writer, tracker]):
        trained(1, model=model)
    (line,) = (tmp_path / "a" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["blocks"] == ["layers.0", "layers.1", "layers.2"]
    assert "state_rms/layers.1" in writer.seen and "update_to_weight/layers.2" in tracker.logged


def test_the_trainer_of_transformers_takes_it_as_a_callback(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 61}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=2, **size))
    recorder = addnorm.Recorder(model, every=2)
    data = [{"input_ids": ids, "labels": ids} for ids in zoo.batch(rows=8)]
    arguments = transformers.TrainingArguments(str(tmp_path), max_steps=4, report_to=[], use_cpu=True)
    transformers.Trainer(model, arguments, train_dataset=data, callbacks=[recorder.as_trainer_callback()]).train()
    assert [row["step"] for row in recorder.rows] == [0, 2]
    assert all(value > 0 for value in recorder.rows[0]["gradient_rms"])


def _recorded_by_two(rank: int, port: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of a replicated and of a sharded model, of which this process is one of two."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    where = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group(
        "gloo", where, rank=rank, world_size=2, timeout=timedelta(minutes=2)
    )  # a partner that fails is not waited for long
    try:
        sharded, mesh = zoo.Net("pre", 3), init_device_mesh("cpu", (2,))
        for layer in sharded.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        rows = {}
        for name, model in {
            "replicated": nn.parallel.DistributedDataParallel(zoo.Net("pre", 3)),
            "sharded": sharded,
        }.items():
            with addnorm.Recorder(model) as recorder:
                trained(2, model=model)
            rows[name] = recorder.rows
        return rows
    finally:
        torch.distributed.destroy_process_group()


def _partner(index: int, port: int) -> None:
    _recorded_by_two(1 + index, port)


@pytest.mark.slow
def test_two_processes_record_what_one_does() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    partner = mp.spawn(_partner, args=(port,), nprocs=1, join=False)
    try:
        found = _recorded_by_two(0, port)
    finally:
        partner.join()
    model = zoo.Net("pre", 3)
    with addnorm.Recorder(model, every=50) as alone:
        trained(1, model=model)
    for name, rows in found.items():
        for measure in ("state_rms", "gradient_rms", "weight_gradient", "update_to_weight"):
            assert rows[0][measure] == pytest.approx(alone.rows[0][measure], rel=1e-4), f"{name}: {measure}"


def test_what_has_no_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="blocks="):
        addnorm.Recorder(nn.Linear(3, 3))
    with pytest.raises(UserError, match="every=0"):
        addnorm.Recorder(zoo.Net("pre", 3), every=0)
    with pytest.raises(UserError, match="JSON lines"):
        addnorm.Recorder(zoo.Net("pre", 3), to=3)
