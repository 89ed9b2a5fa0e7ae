"""The real Post-LN weights of MiniLM: what our encoder makes of sentences is what transformers does."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertModel, BertTokenizerFast

from addnorm import Encoder
from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer, checkpoint_folder
from addnorm.files import sha256
from addnorm.interop import hugging_face

# What the project promises; float64: sums in another order over six layers.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
PAIRS = [
    ("Where is the Eiffel Tower?", "The Eiffel Tower stands in Paris, near the Seine."),
    ("A short one.", "Yes."),
    ("What does normalisation do to the residual stream of a deep network?", "It keeps its variance " * 12),
]


@cache
def minilm() -> Encoder:
    model = hugging_face.open_model(checkpoint_folder("minilm"))
    assert isinstance(model, Encoder)
    return model


@cache
def tokenizer() -> PretrainedTokenizer:
    return PretrainedTokenizer.of("minilm")


def batch(rows: list) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, which tokens are real, segments; padded on the right."""
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), tokenizer().pad_id)
    keep, segments = np.zeros(ids.shape, dtype=bool), np.zeros(ids.shape, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)], keep[i, : len(row.ids)], segments[i, : len(row.ids)] = row.ids, True, row.segments
    return torch.from_numpy(ids), torch.from_numpy(keep), torch.from_numpy(segments)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@torch.no_grad()
def test_hidden_vectors_are_those_of_transformers_with_padding_and_segments(dtype):
    ids, keep, segments = batch([tokenizer().encode_pair(*pair) for pair in PAIRS])
    assert not keep.all()
    assert segments.any()
    theirs = BertModel.from_pretrained(checkpoint_folder("minilm"), dtype=dtype).eval()
    expected = theirs(input_ids=ids, attention_mask=keep.long(), token_type_ids=segments).last_hidden_state
    ours = hugging_face.open_model(checkpoint_folder("minilm")).to(dtype)(ids, keep, segments)
    difference = (ours - expected)[keep].abs().max().item()
    print(f"largest difference in {dtype}: {difference:.1e}, largest entry {expected[keep].abs().max():.2f}")
    assert difference <= TOLERANCE[dtype]


@torch.no_grad()
def sentence_vectors(texts: list[str]) -> Tensor:
    """The mean of a sentence's hidden vectors, of length one: how the model was trained to be read."""
    ids, keep, segments = batch([tokenizer().encode_single(text) for text in texts])
    hidden = minilm()(ids, keep, segments) * keep[..., None]
    return F.normalize(hidden.sum(1) / keep.sum(1, keepdim=True), dim=-1)


def test_paraphrases_are_nearer_than_other_sentences():
    vectors = sentence_vectors(
        [
            "A man is playing a guitar.",
            "Someone plays the guitar.",
            "How do I get my money back?",
            "I would like a refund.",
            "The stock market fell sharply today.",
            "Share prices dropped a lot this day.",
        ]
    )
    similar = vectors @ vectors.T - 2 * torch.eye(6)
    assert similar.argmax(1).tolist() == [1, 0, 3, 2, 5, 4]
    partner = torch.arange(6) ^ 1
    assert similar[torch.arange(6), partner].min() > 0.5


def test_padding_and_batching_change_nothing():
    alone = sentence_vectors(["A short one."])
    padded = sentence_vectors(["A short one.", "A much longer sentence that makes the first one wait for its end."])
    torch.testing.assert_close(padded[:1], alone, rtol=0, atol=1e-6)  # float32, another order of sums


def test_the_weights_are_the_ones_the_figures_were_measured_with():
    assert sha256(checkpoint_folder("minilm") / "model.safetensors") == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_its_scheme_is_post_norm_and_its_pooler_is_left_out():
    found = hugging_face.load(checkpoint_folder("minilm"))
    assert found.scheme == "post-norm(entrance_norm=layer, eps=1e-12)"
    assert found.left_out == ("embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight")
    assert sum(parameter.numel() for parameter in minilm().parameters()) == 22_565_376


@torch.no_grad()
def test_it_goes_out_with_its_tokenizer_and_transformers_reads_both(tmp_path):
    hugging_face.save(minilm(), tmp_path, tokenizer())
    text = "Norms keep the stream's variance."
    theirs = BertTokenizerFast.from_pretrained(tmp_path)(text, return_tensors="pt")
    encoded = tokenizer().encode_single(text)
    assert theirs["input_ids"][0].tolist() == encoded.ids.tolist()
    expected = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()(**theirs).last_hidden_state
    difference = (minilm()(torch.from_numpy(encoded.ids)[None]) - expected).abs().max()
    assert difference <= TOLERANCE[torch.float32]
