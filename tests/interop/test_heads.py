"""A head is tied to the embedding where the weights say so; config.json alone does not decide, as in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from addnorm import UserError
from addnorm.interop import hugging_face
from addnorm.interop.init_sources import shape_of
from interop import theirs

TABLES = {"GPT-2": "transformer.wte.weight", "Llama, tied, with another rotary base": "model.embed_tokens.weight"}
HEADS = {
    "of other numbers": lambda table: {"lm_head.weight": torch.randn_like(table)},
    "the same twice": lambda table: {"lm_head.weight": table.clone()},
    "none": lambda table: {},
}


def saved(folder: Path, name: str, head: str, **config: object) -> Path:
    """A checkpoint whose config ties the head."""
    torch.manual_seed(5)
    theirs.made(name, torch.float32).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors |= HEADS[head](tensors[TABLES[name]])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def assert_same_logits(folder: Path):
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = other(input_ids=theirs.ids()).logits
        torch.testing.assert_close(hugging_face.open_model(folder)(theirs.ids()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", TABLES)
def test_the_head_that_lies_in_the_file_is_the_head(name, head, tmp_path):
    folder = saved(tmp_path / "theirs", name, head)
    assert_same_logits(folder)
    model = hugging_face.open_model(folder)
    assert model.config.tie_embeddings == shape_of(str(folder))["tie_embeddings"] == (head != "of other numbers")
    assert hugging_face.load(folder).left_out == ()
    hugging_face.save(model, tmp_path / "ours")
    assert_same_logits(tmp_path / "ours")


@pytest.mark.parametrize("name", TABLES)
def test_a_tied_pair_may_lie_in_the_file_under_the_heads_name(name, tmp_path):
    folder = saved(tmp_path, name, "none")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop(TABLES[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert_same_logits(folder)
    assert shape_of(str(folder))["tie_embeddings"]


def test_an_embedding_that_nothing_is_tied_to_must_be_there(tmp_path):
    folder = saved(tmp_path, "GPT-2", "of other numbers", tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    del tensors[TABLES["GPT-2"]]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"has no tensor wte.weight; it is damaged"):
        hugging_face.load(folder)


def test_a_bias_of_a_tied_head_is_not_left_out_in_silence(tmp_path):
    folder = saved(tmp_path, "GPT-2", "none")
    tensors = load_file(folder / "model.safetensors") | {"lm_head.bias": torch.ones(theirs.VOCAB)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"has the tensor lm_head.bias, which a gpt2 has not"):
        hugging_face.load(folder)
