"""Layers are dropped by what they do, and what is left is a model that can be read, evaluated and trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from addnorm.config import RunConfig
from addnorm.diagnosis.layer_influence import layer_influences, least
from addnorm.diagnosis.prune_run import fill_, prune_run
from addnorm.errors import UserError
from addnorm.training.load import load_run
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from addnorm.training.snapshot import weights_of
from command_line import here
from diagnosis.hand_made import language_model, tokens

SMALL: dict[str, Any] = {"d_model": 16, "num_heads": 2, "context": 16, "batch_size": 2, "evaluation_tokens": 256}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers, a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(RunConfig(num_layers=4, steps=20, evaluations=2, score_items=0, **SMALL), folder)
    return folder


def test_a_layer_that_does_nothing_has_no_influence_and_goes_first() -> None:
    model = language_model("pre-norm", num_layers=3)
    with torch.no_grad():
        for block in (2, 3):
            for parameter in model.stack.blocks[block].sublayer.parameters():
                parameter.zero_()
    first = [model.stack.blocks[i] for i in (0, 2, 4)]
    runs = [lambda: model(tokens())]
    found = layer_influences(model, first, model.stack.exit, runs, inside=False)
    assert found[1] == pytest.approx(0, abs=1e-12)
    assert min(found[0], found[2]) > 1e-3
    assert least(found, 1) == [1]


def test_at_least_one_layer_stays() -> None:
    assert least([0.1, 0.3, 0.2], 2) == [0, 2]
    for wrong in (0, 3):
        with pytest.raises(UserError, match="the model has 3"):
            least([0.1, 0.3, 0.2], wrong)


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm", "mhc", "attention-residuals"])
def test_what_is_left_computes_what_the_whole_does_without_those_layers(scheme: str) -> None:
    whole, pruned = (language_model(scheme, num_layers=layers, shake=0.1) for layers in (3, 2))
    fill_(pruned, whole, [2])
    whole.stack.blocks = nn.ModuleList(list(whole.stack.blocks)[:4])
    ids = tokens()
    # The eps of a depth attention's norm is by the number of sources, which are the same for the first layers.
    assert torch.allclose(pruned(ids), whole(ids), atol=1e-6)


def test_a_scheme_whose_weights_are_of_the_depth_is_refused() -> None:
    with pytest.raises(UserError, match="other weights where there are fewer layers"):
        fill_(language_model("dense-former", num_layers=2), language_model("dense-former", num_layers=3), [0])


def test_the_pruned_run_is_a_run_that_is_evaluated_and_trained_further(run: Path, tmp_path: Path) -> None:
    found = prune_run(run, 2, tmp_path / "pruned")
    loaded = load_run(tmp_path / "pruned")
    assert loaded.config.num_layers == 2
    assert len(loaded.model.stack.blocks) == 4
    assert len(found.influences) == 4
    assert found.parameters == tuple(sum(p.numel() for p in one.model.parameters()) for one in (load_run(run), loaded))
    kept = [layer for layer in range(4) if layer not in found.dropped]
    before, after = (weights_of(one.model)[0] for one in (load_run(run), loaded))
    for new, old in enumerate(kept):
        for part in (0, 1):
            name = "connection.norm.weight"
            assert torch.equal(
                after[f"stack.blocks.{2 * new + part}.{name}"], before[f"stack.blocks.{2 * old + part}.{name}"]
            )
    assert here("evaluate", str(tmp_path / "pruned"), "--limit", "20", "--no-baselines").code == 0
    assert not RunFolder(tmp_path / "pruned").faults()
    result = train(loaded.config, tmp_path / "pruned", resume=True)
    assert result["status"] == "finished"
    assert result["validation_loss"] < found.after


def test_the_losses_are_those_of_the_two_models(run: Path, tmp_path: Path) -> None:
    from addnorm import tasks

    found = prune_run(run, 1, tmp_path / "pruned")
    for folder, loss in ((run, found.before), (tmp_path / "pruned", found.after)):
        loaded = load_run(folder)
        assert tasks.prepare(loaded.config, loaded.reader).evaluate(loaded.model) == loss


def test_the_command_says_what_it_dropped_and_what_it_cost(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "pruned"
    seen = here("prune", str(run), "--layers", "1", "--out", str(out), "--json")
    assert seen.code == 0, seen.err
    told = json.loads(seen.out)
    assert told["dropped"] == [min(range(4), key=told["influences"].__getitem__)]
    again = here("prune", str(run), "--layers", "1", "--out", str(out))
    assert again.code == 2 and again.is_one_line_of_error() and "exists already" in again.err
    table = here("prune", str(run), "--layers", "3", "--out", str(tmp_path / "one"))
    assert table.out.count("dropped") == 3 and "before" in table.out
    many = here("prune", str(run), "--layers", "4", "--out", str(tmp_path / "none"))
    assert many.code == 2 and many.is_one_line_of_error() and not (tmp_path / "none").exists()


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    seen = here("prune", str(tmp_path / "nowhere"))
    assert seen.code == 2 and seen.is_one_line_of_error()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of transformers, fresh, with a tokenizer of bytes."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    shape = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    kinds = {
        "llama": transformers.LlamaConfig(num_hidden_layers=4, num_key_value_heads=1, **shape),
        "gpt2": transformers.GPT2Config(n_layer=4, n_embd=32, n_head=2, vocab_size=300),
        "qwen3": transformers.Qwen3Config(num_hidden_layers=4, num_key_value_heads=1, head_dim=16, **shape),
        "gemma2": transformers.Gemma2Config(num_hidden_layers=4, num_key_value_heads=1, head_dim=16, **shape),
    }
    byte = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = {}
    for name, config in kinds.items():
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp(name)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(found[name])
        byte.save(str(found[name] / "tokenizer.json"))
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3", "gemma2"])
def test_a_model_of_transformers_stays_one(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from addnorm.diagnosis.prune_folder import prune_folder

    found = prune_folder(folders[kind], 2, tmp_path / "pruned")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", local_files_only=True)
    assert again.config.get_text_config().num_hidden_layers == 2
    assert found.parameters[1] == sum(parameter.numel() for parameter in again.parameters())
    assert len(getattr(again.config, "layer_types", None) or [0, 0]) == 2
    assert (tmp_path / "pruned" / "tokenizer.json").is_file()
    assert found.before != found.after
    assert not list(tmp_path.glob(".*"))


def test_a_model_without_its_head_is_not_given_one(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    body = tmp_path / "body"
    AutoModel.from_pretrained(folders["llama"], local_files_only=True).save_pretrained(body)
    (body / "tokenizer.json").write_bytes((folders["llama"] / "tokenizer.json").read_bytes())
    seen = here("prune", str(body), "--out", str(tmp_path / "pruned"))
    assert seen.code == 2 and "lm_head.weight" in seen.err and not (tmp_path / "pruned").exists()


def test_streams_of_transformers_are_pruned_and_weights_that_count_the_layers_are_refused(tmp_path: Path) -> None:
    from addnorm.diagnosis.prune_folder import prune_folder
    from diagnosis.models_of_others import MODELS

    for name in ("deepseek_v4", "gemma3n"):
        pytest.importorskip("transformers")
        MODELS[name]()[0].save_pretrained(tmp_path / name)
        ids = {chr(0x4E00 + i): i for i in range(50)}
        tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": ids, "unk_token": chr(0x4E00)}}
        tokenizer |= dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
        tokenizer |= {"pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert prune_folder(tmp_path / "deepseek_v4", 1, tmp_path / "pruned").parameters[1] > 0
    with pytest.raises(UserError, match="weights beside them are of their number"):
        prune_folder(tmp_path / "gemma3n", 1, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_folder_without_a_tokenizer_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    (folders["gpt2"] / "tokenizer.json").rename(tmp_path / "aside.json")
    seen = here("prune", str(folders["gpt2"]), "--out", str(tmp_path / "pruned"))
    (tmp_path / "aside.json").rename(folders["gpt2"] / "tokenizer.json")
    assert seen.code == 2 and seen.is_one_line_of_error() and not (tmp_path / "pruned").exists()
