"""What a command is given becomes a model with a batch that it runs on; what cannot be opened is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.diagnosis.find import find
from addnorm.diagnosis.loading import load_model
from addnorm.diagnosis.loading.of_run import given_in_training
from addnorm.diagnosis.tracer import trace
from addnorm.errors import UserError
from addnorm.training.run import train
from diagnosis.models_of_others import MODELS

FACTORY = """
import torch
from torch import nn

def model():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)

def with_batch():
    return model(), torch.zeros(1, 3, 16)

def three():
    return 3

def fails():
    raise RuntimeError("no weights\\nhere")

class Needs(nn.Module):
    def forward(self, a, b):
        return a + b

def needs():
    return Needs()
"""


@pytest.mark.parametrize(("name", "targets"), [("llama", True), ("bert", False), ("t5", True), ("vit", False)])
def test_a_folder_of_transformers_is_opened_with_a_batch(name: str, targets: bool, tmp_path: Path) -> None:
    MODELS[name]()[0].save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert not loaded.model.training and (loaded.targets is not None) == targets
    assert find(loaded.model, loaded.batch) == find(*MODELS[name]())
    if targets:
        (*_, found) = trace(loaded.model, loaded.batch, targets=loaded.targets)
        assert found.loss == pytest.approx(3.9, abs=1)  # ln 50; fresh logits of T5 are large


def test_a_run_reads_a_sentence(tmp_path: Path) -> None:
    size: dict[str, Any] = {"d_model": 16, "num_heads": 2, "context": 16, "batch_size": 2, "evaluation_tokens": 256}
    train(RunConfig(num_layers=2, steps=2, evaluations=1, score_items=0, **size), tmp_path / "run")
    loaded = load_model(str(tmp_path / "run"))
    assert loaded.batch.shape == (1, 16) and "".join(loaded.words) == "The quick brown "
    assert len(find(loaded.model, loaded.batch)[0].sublayers) == 4


def test_of_another_task_the_batch_is_what_its_loss_hands_to_the_model() -> None:
    problem = tasks.prepare(RunConfig(num_layers=1, d_model=16, num_heads=2, context=16, batch_size=2, steps=1))
    model = problem.build()
    batch = given_in_training(model, problem)
    assert list(batch) == ["tokens"] and torch.equal(batch["tokens"], problem.train_batch(0)[0])
    assert not model._forward_pre_hooks and len(find(model, batch)[0].sublayers) == 2


def test_a_factory_gives_a_model_alone_or_with_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_to_load.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    for text in ("mine_to_load:model", str(tmp_path / "mine_to_load.py:model")):
        loaded = load_model(text)
        assert loaded.batch.shape == (2, 16, 16) and len(find(loaded.model, loaded.batch)[0].sublayers) == 4
    assert torch.equal(load_model("mine_to_load:with_batch").batch, torch.zeros(1, 3, 16))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "factory 'nothing' is unknown"),
        ("three", "returned a int; it must return a torch.nn.Module"),
        ("fails", "raised RuntimeError: no weights here"),
        ("needs", "return (model, batch)"),
    ],
)
def test_a_factory_that_gives_no_model_is_refused_in_one_line(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine_to_load.py").write_text(FACTORY)
    with pytest.raises(UserError) as refused:
        load_model(f"{tmp_path / 'mine_to_load.py'}:{name}")
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-such-folder", "is no folder and names no factory"),
        ("no.such_module:make", "module 'no.such_module' is not imported"),
    ],
)
def test_what_is_not_there_is_said(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(text)


def test_code_of_a_folder_never_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w').close()")
    config = {"model_type": "own_kind", "auto_map": {"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="needs the code that its folder brings, which is never run"):
        load_model(str(tmp_path))
    assert not ran.exists()


def test_weights_that_would_be_unpickled_are_refused(tmp_path: Path) -> None:
    model, _ = MODELS["llama"]()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="has no safetensors, and nothing is unpickled"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_no_json_object_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is not read"):
        load_model(str(tmp_path))
