"""Starting from earlier weights: what is taken, what is new, and what does not fit."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from addnorm import Encoder, EncoderDecoder, Transformer, UserError, schemes
from addnorm.config import RunConfig
from addnorm.data.tokens.tokenizer import BPETokenizer, ByteTokenizer, build
from addnorm.interop.init_sources import identity_of, read, shape_of, tokenizer_of
from addnorm.interop.start import completed, configured, start_from
from addnorm.training.run import train
from interop import theirs

SMALL = {"d_model": 24, "num_heads": 3, "num_layers": 2}


class Classifier(nn.Module):
    """A task's model: a body and a head of its own."""

    def __init__(self, body: nn.Module, labels: int = 2) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(24, labels)


@pytest.fixture
def bert(tmp_path: Path) -> str:
    theirs.made("BERT", torch.float32).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short language modeling run."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("The quality of mercy is not strained.\n" * 400)
    train(run_config(str(text)), folder)
    return str(folder)


def run_config(text: str, **changes: object) -> RunConfig:
    small = {"context": 16, "tokens": 256, "evaluations": 1, "evaluation_tokens": 64, "signals": 0}
    return RunConfig(data=text, **(SMALL | small | changes))


def encoder(init: str, **changes: object) -> Encoder:
    """The encoder that a config with this init builds."""
    config = configured(RunConfig(init=init, **changes), given=changes)
    return Encoder(schemes.parse(config.scheme), **asdict(config.model(theirs.VOCAB)))


def untouched(before: dict, after: nn.Module, names: tuple[str, ...]) -> bool:
    return all(torch.equal(before[name], after.state_dict()[name]) for name in names)


def copied(model: nn.Module) -> dict:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_config_takes_scheme_shape_and_tokenizer_from_minilm():
    config = configured(RunConfig(init="minilm", dropout=0.3, batch_size=3), given=("init", "dropout", "batch_size"))
    assert config.scheme == "post-norm(entrance_norm=layer, eps=1e-12)"
    assert (config.d_model, config.num_heads, config.num_layers, config.d_ff) == (384, 12, 6, 1536)
    assert (config.position, config.max_tokens, config.segments, config.activation) == ("learned", 512, 2, "gelu")
    assert (config.tokenizer, config.dropout, config.batch_size) == ("hf:minilm", 0.3, 3)
    assert config.model(30522).init == "normal"
    assert build(config.tokenizer, []).vocab_size == 30522


def test_a_fresh_start_changes_no_config_and_no_model():
    config = RunConfig(init="normal")
    assert configured(config) is config
    model = Transformer(schemes.parse("pre-norm"), vocab_size=7, **SMALL)
    before = copied(model)
    assert start_from(model, "xavier") is None
    assert untouched(before, model, tuple(before))


def test_a_size_that_was_given_and_is_another_is_refused(bert):
    assert configured(RunConfig(init=bert, d_model=24), given=("d_model",)).d_model == 24
    with pytest.raises(UserError, match="d_model=48 came, but .*bert has d_model=24; leave --d-model out"):
        configured(RunConfig(init=bert, d_model=48), given=("d_model",))


def test_given_fields_are_completed_before_they_must_fit_each_other():
    # 12 heads do not divide the default width of 64, but MiniLM's of 384.
    values = completed({"num_heads": 12, "attention": "plain", "tokenizer": "byte"}, "minilm")
    assert (values["d_model"], values["num_heads"], values["attention"]) == (384, 12, "plain")
    assert (values["tokenizer"], values["init"]) == ("byte", "minilm")
    assert RunConfig(**values).num_layers == 6
    assert completed({"d_model": 8}, "normal") == {"d_model": 8}


def test_a_name_that_is_nothing_is_told():
    with pytest.raises(UserError, match="init 'xaver' is neither xavier, normal, minilm nor a folder"):
        shape_of("xaver")
    with pytest.raises(UserError, match="config.json cannot be read"):
        shape_of(str(Path(__file__).parent))


def test_a_body_takes_all_and_a_head_is_new(bert):
    model = Classifier(encoder(bert))
    before = copied(model)
    started = start_from(model, bert)
    assert started is not None
    assert started.new == ("head.weight", "head.bias")
    assert untouched(before, model, started.new)
    assert set(started.loaded) == set(before) - set(started.new)
    assert started.left_out == ("pooler.dense.bias", "pooler.dense.weight")
    assert started.warnings == ()
    weights = load_file(Path(bert) / "model.safetensors")
    assert torch.equal(model.body.embedding.tokens.weight, weights["embeddings.word_embeddings.weight"])
    expected = weights["encoder.layer.1.output.LayerNorm.bias"]
    assert torch.equal(model.body.stack.blocks[3].connection.norm.bias, expected)
    assert started.lines()[1] == "new: head.weight, head.bias"


@pytest.mark.parametrize("scheme", ["pre-norm(eps=1e-12)", "mhc", "hybrid-norm(norm=layer)", "n-gpt"])
def test_under_a_scheme_of_other_places_only_sublayers_and_embeddings_are_taken(bert, scheme):
    model = encoder(bert, scheme=scheme)
    before = copied(model)
    started = start_from(model, bert)
    assert started is not None
    assert started.warnings == (
        f"{bert} was trained under post-norm(entrance_norm=layer, eps=1e-12), the run is under {scheme}: its "
        "sublayers are loaded, the connections (norms, gates) are new.",
    )
    own = {"connection", "entrance", "exit", "inside"}
    assert set(started.new) == {name for name in before if own & set(name.split("."))}
    assert untouched(before, model, started.new)
    weights = load_file(Path(bert) / "model.safetensors")
    query = weights["encoder.layer.1.attention.self.query.weight"]
    if scheme == "n-gpt":  # which keeps every row at length one
        query = query / query.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.stack.blocks[2].sublayer.q_proj.weight, query)


def test_gpt2_is_pre_norm_whether_or_not_it_says_how_it_was_initialised(tmp_path):
    other = theirs.made("GPT-2", torch.float32)
    other.save_pretrained(tmp_path)
    for scheme in ("gpt2-init", "pre-norm"):
        config = configured(RunConfig(init=str(tmp_path), scheme=scheme), given=("scheme",))
        model = Transformer(schemes.parse(config.scheme), **asdict(config.model(theirs.VOCAB))).eval()
        started = start_from(model, str(tmp_path))
        assert started is not None
        assert (started.new, started.warnings) == ((), ())
        with torch.no_grad():
            logits = theirs.output(other, theirs.ids(), theirs.keep())
            torch.testing.assert_close(model(theirs.ids(), theirs.keep())[theirs.keep()], logits[theirs.keep()])


def test_a_decoder_read_as_an_encoder_is_warned_of(tmp_path):
    theirs.made("Llama", torch.float32).save_pretrained(tmp_path)
    started = start_from(encoder(str(tmp_path)), str(tmp_path))
    assert started is not None
    assert "a token saw earlier tokens only, here every token" in started.warnings[0]
    assert started.left_out == ("head.own.weight",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 9}, r"embedding.tokens.weight has shape \(9, 24\), but \(23, 24\) in .*; take its tokenizer"),
        ({"d_ff": 48}, r"stack.blocks.1.sublayer.fc1.weight has shape \(48, 24\), but \(40, 24\) in"),
        ({"num_layers": 1}, "has stack.blocks.2.sublayer.q_proj.weight, which the model has not"),
        ({"bias": False}, "has stack.blocks.0.sublayer.q_proj.bias, which the model has not"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_changed(bert, changes, message):
    found = shape_of(bert)
    scheme = schemes.parse(found.pop("scheme"))
    model = Encoder(scheme, **({"vocab_size": theirs.VOCAB} | found | changes))
    before = copied(model)
    with pytest.raises(UserError, match=message):
        start_from(model, bert)
    assert untouched(before, model, tuple(before))


def test_another_kind_of_body_is_refused(bert):
    config = configured(RunConfig(init=bert))
    shape = asdict(config.model(theirs.VOCAB)) | {"segments": 0}
    with pytest.raises(UserError, match="which the model has not"):
        start_from(EncoderDecoder(schemes.parse(config.scheme), **shape), bert)
    with pytest.raises(UserError, match="Linear holds no Stack"):
        start_from(nn.Linear(2, 2), bert)


def test_a_run_goes_on_from_the_best_weights_of_another(run):
    assert tokenizer_of(run) == f"hf:{run}"
    assert isinstance(build(f"hf:{run}", []), ByteTokenizer)
    config = configured(RunConfig(init=run))
    assert (config.d_model, config.scheme) == (24, "pre-norm")
    model = Transformer(schemes.parse(config.scheme), **asdict(config.model(256)))
    started = start_from(model, run, task="language-modeling")
    assert started is not None
    assert (started.new, started.left_out, started.warnings) == ((), (), ())
    best = Path(run) / "checkpoints" / (Path(run) / "checkpoints" / "best").read_text().strip()
    for name, tensor in load_file(best / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_a_runs_body_goes_under_another_task_without_its_head(run):
    config = configured(RunConfig(init=run))
    model = Classifier(Encoder(schemes.parse(config.scheme), **asdict(config.model(256))))
    started = start_from(model, run, task="classification")
    assert started is not None
    assert started.new == ("head.weight", "head.bias")
    assert len(started.loaded) == len(model.body.state_dict())


@pytest.mark.parametrize(
    ("task", "labels", "new"),
    [
        ("same(labels=2)", 2, ()),
        ("same(labels=2)", 5, ("head.weight", "head.bias")),
        ("other", 2, ("head.weight", "head.bias")),
    ],
)
def test_a_head_is_taken_from_a_run_of_the_same_task_where_it_fits(bert, monkeypatch, task, labels, new):
    trained = Classifier(encoder(bert), labels=2)
    whole = read(bert)
    head = {"head.weight": trained.head.weight.detach(), "head.bias": trained.head.bias.detach()}
    of_a_run = replace(whole, task="same(labels=2)", outside=head, left_out=())
    monkeypatch.setattr("addnorm.interop.start.read", lambda init: of_a_run)
    model = Classifier(encoder(bert), labels)
    started = start_from(model, bert, task=task)
    assert started is not None
    assert started.new == new
    assert torch.equal(model.head.weight, trained.head.weight) == (new == ())
    assert started.left_out == (new if new else ())


def test_a_runs_own_bpe_is_found_again(tmp_path):
    BPETokenizer.train(["some text " * 20], 260).save(tmp_path / "tokenizer.json")
    assert isinstance(build(f"hf:{tmp_path}", []), BPETokenizer)


def test_a_damaged_checkpoint_of_a_run_is_refused(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = next(other.glob("checkpoints/step-*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    model = Transformer(schemes.parse("pre-norm"), vocab_size=256, **SMALL)
    with pytest.raises(UserError, match="model.safetensors is damaged or missing"):
        start_from(model, str(other))
    shutil.rmtree(other / "checkpoints")
    (other / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        start_from(model, str(other))


def test_weights_are_known_by_their_content(run, bert, tmp_path):
    shutil.copytree(bert, tmp_path / "copy")
    assert identity_of(bert) == identity_of(str(tmp_path / "copy")) != identity_of(run)


def test_of_frozen_layers_the_loaded_tensors_alone_stay_frozen(bert):
    def frozen_model(scheme: str) -> Classifier:
        model = Classifier(encoder(bert, scheme=scheme))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("embedding" not in name and not re.search(r"blocks\.[01]\.", name))
        return model

    def trained(model: Classifier) -> set[str]:
        own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        return {name for name in own if "embedding" in name or re.search(r"blocks\.[01]\.", name)}

    own = frozen_model(shape_of(bert)["scheme"])
    started = start_from(own, bert)
    assert started is not None and started.warnings == ()
    assert trained(own) == set()
    other = frozen_model("pre-norm")
    started = start_from(other, bert)
    assert started is not None
    assert "4 tensors of the frozen layers are new: these are trained" in started.warnings[1]
    assert len(trained(other)) == 4 and all(".connection." in name for name in trained(other))


def test_a_run_goes_on_only_from_the_weights_it_was_started_from(run, tmp_path):
    init, text = tmp_path / "init", tmp_path / "text.txt"
    shutil.copytree(run, init)
    text.write_text("The quality of mercy is not strained.\n" * 400)
    config = run_config(str(text), init=str(init), tokenizer="byte")
    train(config, tmp_path / "next")
    (tmp_path / "next" / "result.json").unlink()
    assert train(config, tmp_path / "next", resume=True)["status"] == "finished"
    (tmp_path / "next" / "result.json").unlink()
    shutil.rmtree(init)
    train(run_config(str(text), seed=1), init)
    with pytest.raises(UserError, match="was started from other weights: .*init' has changed since"):
        train(config, tmp_path / "next", resume=True)
