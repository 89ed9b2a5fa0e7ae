"""Bodies of transformers come in and go out as they are: the same hidden vectors and logits."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, BertForMaskedLM

from addnorm import Encoder, Transformer, UserError, schemes
from addnorm.interop import hugging_face
from interop import theirs
from oracles.wide import Wide

# What the project promises; in float64 sums in another order are left, and no rounding to float32 on either side.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def hidden_of_theirs(model, *inputs):
    theirs.with_exact_angles_(model)
    with torch.no_grad(), Wide() if model.dtype == torch.float64 else nullcontext():
        return theirs.output(model, *inputs)


def ours_and_theirs(ours: Encoder | Transformer, other) -> tuple[Tensor, Tensor]:
    tokens, real = theirs.ids(), theirs.keep()
    segments = theirs.ids(vocabulary=3) if isinstance(ours, Encoder) else None
    with torch.no_grad():
        mine = ours(tokens, real, segments) if isinstance(ours, Encoder) else ours(tokens, real)
    return mine[real], hidden_of_theirs(other, tokens, real, segments)[real]


def assert_close(ours: Tensor, other: Tensor):
    assert other.abs().max() > 0.1
    error = (ours - other).abs().max() / other.abs().max().clamp(min=1)
    assert error <= TOLERANCE[other.dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", theirs.MODELS)
def test_a_checkpoint_comes_in_and_goes_out_as_it_was(name, dtype, tmp_path):
    other = theirs.made(name, dtype)
    other.save_pretrained(tmp_path / "theirs")
    ours = hugging_face.open_model(tmp_path / "theirs")
    assert_close(*ours_and_theirs(ours, other))
    hugging_face.save(ours, tmp_path / "ours")
    auto = AutoModel if isinstance(ours, Encoder) else AutoModelForCausalLM
    back, report = auto.from_pretrained(tmp_path / "ours", dtype=dtype, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all(key.startswith("pooler.") for key in report["missing_keys"])
    for key, tensor in back.eval().state_dict().items():
        assert key.startswith("pooler.") or torch.equal(tensor, other.state_dict()[key])
    assert_close(*ours_and_theirs(ours, back))


@pytest.mark.parametrize("name", theirs.MODELS)
def test_shape_and_scheme_come_back_through_their_config(name, tmp_path):
    theirs.made(name, torch.float32).save_pretrained(tmp_path / "theirs")
    first = hugging_face.read_shape(tmp_path / "theirs")
    hugging_face.save(hugging_face.open_model(tmp_path / "theirs"), tmp_path / "ours")
    second = hugging_face.read_shape(tmp_path / "ours")
    assert first.scheme == second.scheme
    sizes = {key: value for key, value in first.shape.items() if value is not None}
    assert sizes.items() <= second.shape.items()


def test_a_model_of_ours_goes_out_and_comes_back(tmp_path):
    shape = {"vocab_size": theirs.VOCAB, "d_model": 24, "num_heads": 3, "num_layers": 2, "max_tokens": 19}
    for scheme, options in (
        ("pre-norm", {"position": "learned", "activation": "gelu-tanh"}),
        ("gpt2-init(norm=rms)", {"activation": "swiglu", "bias": False, "tie_embeddings": False}),
    ):
        model = Transformer(schemes.parse(scheme), **shape, **options).eval()
        hugging_face.save(model, tmp_path / scheme)
        other = AutoModelForCausalLM.from_pretrained(tmp_path / scheme, dtype=torch.float32).eval()
        assert_close(*ours_and_theirs(model, other))
        again = hugging_face.open_model(tmp_path / scheme)
        assert torch.equal(again(theirs.ids()), model(theirs.ids()))


def test_an_encoder_padded_on_the_left_counts_the_padding_as_theirs_does(tmp_path):
    other = theirs.made("BERT", torch.float32)
    other.save_pretrained(tmp_path)
    ours, tokens, real = hugging_face.open_model(tmp_path), theirs.ids(), theirs.keep().flip(1)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens, real)[real], theirs.output(other, tokens, real)[real])
    hugging_face.save(ours, tmp_path / "again")
    assert hugging_face.open_model(tmp_path / "again").config.count_padding


@pytest.mark.parametrize("name", ["GPT-2", "Llama"])
def test_a_decoder_padded_on_the_left_continues_as_theirs_does(name, tmp_path):
    other = theirs.made(name, torch.float32)
    other.save_pretrained(tmp_path)
    ours, tokens, real = hugging_face.open_model(tmp_path), theirs.ids(), theirs.keep().flip(1)
    expected = other.generate(
        input_ids=tokens, attention_mask=real.long(), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=-1
    )
    assert torch.equal(ours.generate(tokens, 6, keep=real), expected)


def test_the_config_of_a_model_is_fixed_but_for_what_the_trainer_of_transformers_notes_there(tmp_path):
    theirs.made("GPT-2", torch.float32).save_pretrained(tmp_path)
    config = hugging_face.open_model(tmp_path).config
    before = repr(config)
    config.use_cache = False
    assert repr(config) == before
    with pytest.raises(UserError, match="config of a model cannot be changed; build the model anew with d_model=3"):
        config.d_model = 3


def test_a_head_that_our_body_has_no_place_for_is_named(tmp_path):
    config = theirs.bert().config
    model = BertForMaskedLM(config)
    model.save_pretrained(tmp_path)
    found = hugging_face.load(tmp_path)
    assert "cls.predictions.bias" in found.left_out
    assert torch.equal(found.weights["embedding.tokens.weight"], model.bert.embeddings.word_embeddings.weight)


def test_norms_named_gamma_and_beta_are_read(tmp_path):
    saved(tmp_path)
    names = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    before, renamed = hugging_face.load(tmp_path).weights, {}
    for key, tensor in load_file(tmp_path / "model.safetensors").items():
        for new, old in names.items():
            key = key.replace(new, old)
        renamed[f"bert.{key}"] = tensor
    save_file(renamed, tmp_path / "model.safetensors")
    after = hugging_face.load(tmp_path).weights
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_sharded_weights_are_read(tmp_path):
    model = theirs.made("Llama", torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="10kB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_close(*ours_and_theirs(hugging_face.open_model(tmp_path), model))


def saved(folder: Path, name: str = "BERT", **config: object) -> Path:
    theirs.made(name, torch.float32).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("BERT", {"model_type": "roberta"}, "model_type='roberta'; supported are bert, gpt2, llama, mistral"),
        ("BERT", {"hidden_act": "silu"}, "hidden_act='silu' of a bert is not supported, only 'gelu' or"),
        ("BERT", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' of a bert"),
        ("BERT", {"is_decoder": True}, "is_decoder=True of a bert is not supported, only False"),
        ("GPT-2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True of a gpt2"),
        ("Llama", {"attention_bias": True}, "attention_bias=True of a llama is not supported, only False"),
        ("Llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type='yarn' of a llama"),
        ("Llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type='linear' of a llama"),
        ("Llama", {"head_dim": 8}, "head_dim=8 of a llama is not supported, only 6"),
        ("Mistral without sliding window", {"sliding_window": 64}, "sliding_window=64 of a mistral"),
    ],
)
def test_a_body_that_does_not_match_is_told_by_its_field(name, config, message, tmp_path):
    with pytest.raises(UserError) as error:
        hugging_face.load(saved(tmp_path, name, **config))
    assert message in str(error.value)


def test_a_missing_size_is_named(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no hidden_size, which a bert must have"):
        hugging_face.load(tmp_path)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("bomb-went-off"),)


def test_a_pickle_is_refused_and_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="has pytorch_model.bin, a pickle.*only model.safetensors is read"):
        hugging_face.load(tmp_path)
    assert not (tmp_path / "bomb-went-off").exists()


def test_damaged_and_missing_files_are_told(tmp_path):
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        hugging_face.load(tmp_path)
    saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"encoder.layer.0.extra.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="has the tensor encoder.layer.0.extra.weight, which a bert has not"):
        hugging_face.load(tmp_path)
    tensors.pop("encoder.layer.1.output.dense.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="has no tensor encoder.layer.1.output.dense.bias"):
        hugging_face.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="model.safetensors cannot be read"):
        hugging_face.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no model.safetensors"):
        hugging_face.load(tmp_path)


def test_a_fused_tensor_that_cannot_be_split_is_told(tmp_path):
    saved(tmp_path, "GPT-2")
    tensors = load_file(tmp_path / "model.safetensors")
    for wrong in (torch.ones(24, 71), torch.ones(72)):
        key = next(name for name in tensors if name.endswith("h.1.attn.c_attn.weight"))
        save_file(tensors | {key: wrong}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=r"h.1.attn.c_attn.weight has shape .*; it is damaged"):
            hugging_face.load(tmp_path)


def test_weights_of_another_shape_than_the_config_are_told(tmp_path):
    with pytest.raises(UserError, match="embedding.tokens.weight.*its config.json is another model's"):
        hugging_face.open_model(saved(tmp_path, vocab_size=99))


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("deep-norm", {}, "bert: it is an encoder; gpt2: its scheme is gpt2-init, not deep-norm; llama"),
        # mHC's eps of 1e-20 is none of a norm's: norms have 1e-5 there.
        ("mhc", {}, "gpt2: its scheme is gpt2-init, not mhc; llama: its scheme is pre-norm(norm=rms), not mhc;"),
        ("altup", {}, "gpt2: its scheme is gpt2-init, not altup; llama: its scheme is pre-norm(norm=rms), not altup;"),
        ("pre-norm(eps=0.001)", {"bias": False}, "llama: its scheme is pre-norm(norm=rms, eps=0.001), not pre-norm(e"),
        ("pre-norm", {}, "gpt2: it has position=learned, not rotary; llama: its scheme is pre-norm(norm=rms)"),
        ("pre-norm(norm=rms)", {"activation": "swiglu"}, "llama: it has bias=False, not True"),
        ("pre-norm(norm=rms)", {"attention": "linear"}, "llama: its attention is full, not linear"),
        ("pre-norm(norm=rms)", {"bias": False}, "llama: it has activation=swiglu, not gelu"),
    ],
)
def test_a_model_that_is_none_of_theirs_is_told_why(scheme, options, message, tmp_path):
    model = Transformer(schemes.parse(scheme), vocab_size=5, d_model=8, num_heads=2, num_layers=1, **options)
    with pytest.raises(UserError) as error:
        hugging_face.save(model, tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()
