"""AutoTokenizer of transformers gives the ids that a model was trained with, and knows its special tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from addnorm import Encoder, Transformer, UserError, schemes
from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer
from addnorm.data.tokens.tokenizer import BPETokenizer, ByteTokenizer, build
from addnorm.interop import hugging_face

TRAINING = ["Hello World hello world 12 don't Þýska ÿ <s> [PAD] \n\n  x"] * 20
TEXTS = (
    "Hello World  12 don't",
    "Þýska ÿ þ ý",
    "<s>hello</s> <pad> [PAD] [SEP] <|endoftext|>",
    " a\tb\r\n\n c  ",
    "naïve 北京 🙂 a\u0301",
    "",
)
BODIES = {
    "gpt2": ("gpt2-init", {"activation": "gelu-tanh", "position": "learned", "max_tokens": 96}),
    "llama": ("pre-norm(norm=rms)", {"activation": "swiglu", "bias": False, "tie_embeddings": False}),
    "bert": ("post-norm(entrance_norm=layer)", {"position": "learned", "segments": 2, "max_tokens": 96}),
}


def body(name: str, vocab_size: int) -> Encoder | Transformer:
    scheme, shape = BODIES[name]
    shape = {"d_model": 16, "num_heads": 2, "num_layers": 1, "vocab_size": vocab_size} | shape
    return (Encoder if name == "bert" else Transformer)(schemes.parse(scheme), **shape).eval()


def bpe(**parts: object) -> PretrainedTokenizer:
    """A byte-level BPE of another program."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name, part in parts.items():
        setattr(made, name, part)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, show_progress=False, special_tokens=special
    )
    made.train_from_iterator(TRAINING, trainer)
    return PretrainedTokenizer(made.to_str())


def cased() -> PretrainedTokenizer:
    """BERT's WordPiece, but that it keeps case and accents, cuts texts and pads them."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "Hello",
        "hello",
        "Zoë",
        "zoe",
        "World",
        "[",
        "]",
        "PAD",
        "12",
    ]
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(words[:5])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made.enable_truncation(4)
    made.enable_padding(length=9)
    return PretrainedTokenizer(made.to_str())


DIGITS = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
TOKENIZERS: dict[str, Callable[[], ByteTokenizer | BPETokenizer | PretrainedTokenizer]] = {
    "bytes": ByteTokenizer,
    "a BPE of ours": lambda: BPETokenizer.train(TRAINING, 290),
    "another BPE": bpe,
    "in lower case": lambda: bpe(normalizer=normalizers.Lowercase()),
    "with a space before": lambda: bpe(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "digit by digit": lambda: bpe(pre_tokenizer=pre_tokenizers.Sequence(DIGITS)),
    "a cased WordPiece": cased,
    "MiniLM's": lambda: PretrainedTokenizer.of("minilm"),
}
EVERY = pytest.mark.parametrize("name", TOKENIZERS)


def written(folder: Path, model: str, name: str):
    """A tokenizer, and the one that transformers makes of its files."""
    tokenizer = TOKENIZERS[name]()
    hugging_face.save(body(model, tokenizer.vocab_size), folder, tokenizer)
    return tokenizer, AutoTokenizer.from_pretrained(folder)


@EVERY
@pytest.mark.parametrize("model", BODIES)
def test_the_ids_are_those_that_the_model_was_trained_with(model, name, tmp_path):
    ours, other = written(tmp_path, model, name)
    for text in TEXTS:
        assert other(text, add_special_tokens=False)["input_ids"] == ours.encode(text).tolist()
    assert len(other) == ours.vocab_size
    assert all(number < ours.vocab_size for number in other.all_special_ids)
    assert other.split_special_tokens


def test_mistral_is_given_the_tokenizer_that_it_was_trained_with(tmp_path):
    ours, _ = written(tmp_path, "llama", "a BPE of ours")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    other = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert other(text, add_special_tokens=False)["input_ids"] == ours.encode(text).tolist()


@EVERY
def test_the_files_are_read_again_here(name, tmp_path):
    ours, _ = written(tmp_path, "bert", name)
    again = build(f"hf:{tmp_path}", [])
    for text in TEXTS:
        assert again.encode(text).tolist() == ours.encode(text).tolist()
    if name not in ("another BPE", "in lower case", "with a space before", "digit by digit"):  # these have no frame
        assert again.frame == ours.frame


@pytest.mark.parametrize("name", ["bytes", "a BPE of ours", "a cased WordPiece", "MiniLM's"])
def test_an_encoders_texts_stand_between_the_tokens_that_they_stood_between_in_training(name, tmp_path):
    ours, other = written(tmp_path, "bert", name)
    frame, texts = ours.frame, ("Hello World", "Zoë 12")
    one, two = (ours.encode(text).tolist() for text in texts)
    single = [frame.cls, *one, frame.sep]
    assert other(texts[0])["input_ids"] == single
    pair = other(*texts)
    assert pair["input_ids"] == [*single, *two, frame.sep]
    assert pair["token_type_ids"] == [0] * len(single) + [1] * (len(two) + 1)
    assert (other.cls_token_id, other.sep_token_id, other.pad_token_id) == (frame.cls, frame.sep, frame.pad)
    batch = other(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(tmp_path)(**batch).last_hidden_state
    assert hidden.shape[:2] == batch["input_ids"].shape


@pytest.mark.parametrize("name", ["bytes", "a BPE of ours"])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_a_decoder_continues_a_padded_batch_as_it_continues_each_prompt(model, name, tmp_path):
    tokenizer, other = written(tmp_path, model, name)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompts = ["Hello", "Hello World 12 don't"]
    batch = other(prompts, padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}  # GPT-2 would add vectors of tokens for token types
    found = theirs.generate(**batch, max_new_tokens=5, do_sample=False)
    ours = hugging_face.open_model(tmp_path)
    for row, prompt in zip(found, prompts, strict=True):
        ids = torch.as_tensor(tokenizer.encode(prompt))[None]
        assert row[-5:].tolist() == ours.generate(ids, 5)[0, -5:].tolist()


@EVERY
def test_config_and_generation_config_name_the_special_tokens_of_the_tokenizer(name, tmp_path):
    _, other = written(tmp_path, "llama", name)
    config, generation = json.loads((tmp_path / "config.json").read_text()), GenerationConfig.from_pretrained(tmp_path)
    for kind in ("bos", "eos", "pad"):
        expected = getattr(other, f"{kind}_token_id")
        assert config[f"{kind}_token_id"] == getattr(generation, f"{kind}_token_id") == expected
    if name in ("bytes", "a BPE of ours"):
        assert None not in (other.bos_token_id, other.eos_token_id, other.pad_token_id)


@pytest.mark.parametrize("name", BODIES)
def test_without_a_tokenizer_no_token_is_special(name, tmp_path):
    # The classes' own are 50256, 1 and 2, and 0: beyond the vocabulary, or an ordinary token that would end a text.
    hugging_face.save(body(name, 64), tmp_path)
    model = (AutoModel if name == "bert" else AutoModelForCausalLM).from_pretrained(tmp_path)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (None, None, None)
    assert (tmp_path / "generation_config.json").exists() == (name != "bert")


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="the tokenizer has 256 ids and the model 255; save it with its own"):
        hugging_face.save(body("gpt2", 255), tmp_path / "out", ByteTokenizer())
    assert not (tmp_path / "out").exists()


def test_a_bpe_that_uses_the_bytes_that_no_text_has_keeps_them(tmp_path):
    # One of another program, on characters: here they are letters.
    made = Tokenizer(models.BPE({token: number for number, token in enumerate("aýþÿ")}, []))
    tokenizer = BPETokenizer(made.to_str())
    hugging_face.save(body("gpt2", tokenizer.vocab_size), tmp_path, tokenizer)
    other = AutoTokenizer.from_pretrained(tmp_path)
    assert other("aýþÿ")["input_ids"] == tokenizer.encode("aýþÿ").tolist() == [0, 1, 2, 3]
    assert other.pad_token is None
