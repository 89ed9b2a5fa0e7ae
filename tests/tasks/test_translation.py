"""Translation: batches, loss, BLEU and its baselines, what a run leaves, bad input."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import random
from pathlib import Path

import pytest
import sacrebleu
import torch
from torch import Tensor, nn

from addnorm import tasks
from addnorm.data.texts.records import Translation as Pair
from addnorm.errors import UserError
from addnorm.interop.start import configured
from addnorm.layers.cross_entropy import IGNORED
from addnorm.models.beam_search import BeamSearch
from addnorm.tasks import translation
from addnorm.tasks.pairs import bleu_words, translation_scores
from addnorm.tasks.pairs.translation_scores import TranslationMemory, measured
from addnorm.training.load import load_model, load_run
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train

ENGLISH = ["red", "green", "big", "small", "dog", "cat", "house", "sees", "has"]
SPANISH = ["rojo", "verde", "grande", "chico", "perro", "gato", "casa", "mira", "tiene"]
WORDS = dict(zip(ENGLISH, SPANISH, strict=True))
SHAPE = {"tokenizer": "bpe:300", "context": 16, "batch_size": 16, "d_model": 32, "num_heads": 2, "num_layers": 1}
QUICK = {"dropout": 0.0, "evaluations": 2, "signals": 1, "evaluation_tokens": 400, "score_items": 0}


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """English words, and their Spanish in reverse order: nothing can be copied, and order matters."""
    draw = random.Random(seed)
    chosen = [draw.choices(list(WORDS), k=draw.randint(2, 5)) for _ in range(count)]
    return [(" ".join(words), " ".join(WORDS[word] for word in reversed(words))) for words in chosen]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("translation") / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in sentences(1200)))
    return path


@pytest.fixture
def problem_of(table):
    def make(task: str = "translation", **changes):
        return tasks.prepare(tasks.config(task, **({"data": str(table)} | SHAPE | QUICK | changes)))

    return make


@pytest.fixture(scope="module")
def run(table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    budget = {"steps": 260, "learning_rate": 1e-2, "warm_up": 0.1, "ema": 0.98, "score_items": 30}
    train(tasks.config("translation", data=str(table), **(SHAPE | QUICK | budget)), folder)
    return folder


class Uniform(nn.Module):
    """All tokens alike."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, source: Tensor, target: Tensor, keep: Tensor | None) -> Tensor:
        return torch.zeros(*target.shape, self.vocab_size)


def test_a_target_begins_and_ends_with_the_end_token(problem_of):
    problem = problem_of()
    vocabulary = problem.tokens.vocabulary
    source, target = problem.train_batch(3)
    assert len(source) == len(target) > 16  # shorter pairs, so more of them fit
    assert (target[:, 0] == vocabulary.end).all()
    for row, expected in zip(source, problem._expected(target), strict=True):
        text = vocabulary.tokenizer.decode(row[row < vocabulary.end].numpy())
        real = expected[expected != IGNORED]
        assert real[-1] == vocabulary.end
        wanted = " ".join(WORDS[word] for word in reversed(text.split()))
        assert vocabulary.tokenizer.decode(real[:-1].numpy()) == wanted


def test_batches_are_a_function_of_seed_and_step(problem_of):
    one, again, other = problem_of(seed=1), problem_of(seed=1), problem_of(seed=2)
    again.train_batch(0)  # what was drawn before has no part in it
    for step in (0, 5, 10**4):
        assert all(map(torch.equal, one.train_batch(step), again.train_batch(step)))
        assert not all(map(torch.equal, one.train_batch(step), other.train_batch(step)))


def test_padding_changes_nothing_of_the_loss(problem_of):
    problem = problem_of()
    model = problem.build().eval()
    source, target = problem.train_batch(2)
    pad = problem.tokens.vocabulary.pad
    wider = [torch.nn.functional.pad(side, (0, 3), value=pad) for side in (source, target)]
    loss = problem.loss(model, (source, target)).item()
    # float32; the kernels sum the same products in another order.
    assert problem.loss(model, tuple(wider)).item() == pytest.approx(loss, rel=1e-5)
    assert problem.targets(tuple(wider)) == problem.targets((source, target)) == (target[:, 1:] != pad).sum()


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(problem_of):
    problem = problem_of(label_smoothing=0.0)
    size = problem.tokens.vocabulary.size
    assert problem.evaluate(Uniform(size)) == pytest.approx(math.log(size), rel=1e-6)
    assert problem.loss(Uniform(size), problem.train_batch(0)).item() == pytest.approx(math.log(size), rel=1e-6)
    assert problem.chance_loss < 0.7 * math.log(size)


def test_evaluation_takes_no_smoothing_and_gives_the_mode_back(problem_of):
    smoothed, plain = problem_of(label_smoothing=0.3, dropout=0.5), problem_of(label_smoothing=0.0)
    model = smoothed.build().train()
    assert smoothed.evaluate(model) == plain.evaluate(model)
    assert model.training and model.encoder.training


def test_tokens_of_a_step_are_those_that_are_no_padding(problem_of):
    problem = problem_of()
    steps = len(problem.batches)
    total = sum(problem.targets(problem.train_batch(step)) for step in range(steps))
    assert problem.tokens_per_step == round(total / steps)
    assert all(max(side.numel() for side in problem.train_batch(step)) <= 16 * 16 + 16 for step in range(steps))


def test_long_pairs_are_left_out_of_training_only(problem_of):
    problem = problem_of(context=9)
    assert 0 < problem.left_out == problem.facts()["training_pairs_left_out"]
    assert len(problem.batches.pairs) == len(problem.tokens.train) - problem.left_out
    assert max(map(len, problem.tokens.validation.sources)) > 9 or max(map(len, problem.tokens.validation.targets)) > 9
    with pytest.raises(UserError, match="every training pair"):
        problem_of(context=2)


@pytest.mark.slow
def test_it_learns_what_cannot_be_copied(run):
    loaded = load_run(run)
    problem = tasks.prepare(loaded.config, loaded.reader)
    bleu, chrf = problem.scores(loaded.model)
    result = json.loads((run / "result.json").read_text())
    assert result["validation_loss"] < 0.4 * problem.chance_loss
    assert result["scores"][0]["name"] == bleu.name == "BLEU" and chrf.name == "chrF"
    assert bleu.value > bleu.baseline + 10 and chrf.value > chrf.baseline + 10
    assert bleu.baseline_name == "target of the nearest training source"
    assert "copy of the source 0.0" in bleu.note and "version:" in bleu.note


def test_scores_are_sacrebleus_own(run):
    loaded = load_run(run)
    problem = tasks.prepare(loaded.config, loaded.reader)
    translations = loaded.reader.translate(loaded.model, [pair.source for pair in problem.splits.validation])
    references = [[pair.target for pair in problem.splits.validation]]
    bleu, chrf = problem.scores(loaded.model, "validation", baselines=False)
    assert bleu.value == sacrebleu.corpus_bleu(translations, references).score
    assert chrf.value == sacrebleu.corpus_chrf(translations, references).score
    assert bleu.baseline is None


def test_the_metrics_of_known_texts():
    # All words of four are right but the last: precisions 3/4, 2/3, 1/2, 1/4 (sacrebleu's smoothing of 0/1: half).
    [bleu, _] = measured(["a b c d"], ["a b c e"])
    assert bleu.value == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)
    assert [each.value for each in measured(["uno dos tres cuatro"], ["uno dos tres cuatro"])] == [
        pytest.approx(100.0),
        pytest.approx(100.0),
    ]


def test_a_translation_memory_gives_the_target_with_most_rare_words_in_common():
    memory = TranslationMemory(
        [
            Pair(source="the old dog and the cat", target="A"),
            Pair(source="the house and the cat", target="B"),
            Pair(source="the old house", target="C"),
        ]
    )
    assert [memory.translate(text) for text in ("the dog", "a house!", "The Old", "zzz")] == ["A", "C", "C", "A"]


def test_a_run_answers_as_it_was_scored(run, tmp_path):
    loaded = load_run(run)
    sources = [source for source, _ in sentences(5, seed=9)]
    expected = loaded.reader.translate(loaded.model, sources)
    typed = loaded.reader.predict(loaded.model, sources[0], loaded.config)
    assert typed.text == expected[0] == typed.values["translations"][0]["target"]
    file = tmp_path / "text.en"
    file.write_text("\n".join(sources) + "\n")
    assert loaded.reader.predict(loaded.model, str(file), loaded.config).text.splitlines() == expected


def test_a_report_shows_samples(run, tmp_path):
    loaded = load_run(run)
    [path] = tasks.prepare(loaded.config, loaded.reader).report(loaded.model, tmp_path)
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert header == ["source", "translation", "reference"]
    assert len(rows) == 20 and all(len(row) == 3 for row in rows)


def test_a_wider_beam_finds_likelier_translations(run):
    loaded = load_run(run)
    sources = [loaded.reader.vocabulary.source(source) for source, _ in sentences(30, seed=5)]

    def likelihood(beam: int) -> float:
        loaded.reader.search = BeamSearch(beam=beam, length_penalty=0.0)
        return sum(row[0].log_probability for row in loaded.reader.hypotheses(loaded.model, sources))

    assert likelihood(8) > likelihood(1)


def test_a_resumed_run_takes_the_same_steps(table, tmp_path):
    config = tasks.config("translation", data=str(table), **(SHAPE | QUICK | {"steps": 9, "saves": 3}))
    whole, stopped = train(config, tmp_path / "whole"), tmp_path / "stopped"
    train(config, stopped)
    (stopped / "result.json").unlink()
    checkpoints = sorted((stopped / "checkpoints").glob("step-*"))
    for late in checkpoints[1:]:
        for file in late.iterdir():
            file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="damaged"):
        again = train(config, stopped, resume=True)
    assert again["validation_loss"] == whole["validation_loss"]


SCHEMES = ["post-norm", "deep-norm", "mhc", "attention-residuals", "admin", "by-layer(first=post-norm)"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_scheme_learns_and_translates(problem_of, scheme):
    problem = problem_of(scheme=scheme, num_layers=2)
    model = problem.build()
    problem.calibrate_(model)
    optimizer, before = Optimizer(model, problem.config), problem.evaluate(model)
    for step in range(12):
        problem.loss(model, problem.train_batch(step)).backward()
        optimizer.step(3e-3)
        optimizer.clear_gradient()
        model.after_step_()
    assert problem.evaluate(model) < before - 0.3
    assert len(problem.translator.translate(model, ["red dog", "a word never seen"])) == 2


def test_the_encoder_may_be_deeper_than_the_decoder(problem_of):
    model = problem_of("translation(encoder_layers=3)").build()
    assert len(model.encoder.blocks) == 3 * 2 and len(model.decoder.blocks) == 1 * 3


def test_columns_can_be_chosen(tmp_path, problem_of):
    path = tmp_path / "pairs.tsv"
    rows = [f"{number}\t{target}\t{source}" for number, (source, target) in enumerate(sentences(300))]
    path.write_text("\n".join(["id\tspanish\tingles", *rows]))
    problem = problem_of("translation(source=ingles, target=spanish)", data=str(path))
    assert problem.splits.train[0].source.split()[0] in WORDS
    assert problem_of("translation(source=3, target=2)", data=str(path)).splits.test[0].target.split()[0]


def test_parallel_line_files_are_read_and_misaligned_ones_refused(tmp_path, problem_of):
    for name, side in (("text.en", 0), ("text.es", 1)):
        (tmp_path / name).write_text("\n".join(pair[side] for pair in sentences(300)) + "\n")
    data = f"{tmp_path / 'text.en'}+{tmp_path / 'text.es'}"
    assert set(problem_of(data=data).splits.train[0].source.split()) <= set(WORDS)
    with (tmp_path / "text.es").open("a") as file:
        file.write("una mas\n")
    with pytest.raises(UserError, match="line 301"):
        problem_of(data=data)


@pytest.mark.parametrize("given", ["", "   \n", "one\n\ntwo"])
def test_nothing_to_translate_is_refused(run, given):
    loaded = load_run(run)
    with pytest.raises(UserError, match="empty"):
        loaded.reader.predict(loaded.model, given, loaded.config)


def test_an_empty_line_of_a_file_is_named(run, tmp_path):
    file = tmp_path / "text.en"
    file.write_text("red dog\n\nbig cat\n")
    loaded = load_run(run)
    with pytest.raises(UserError, match=r"line 2 of .*text\.en"):
        loaded.reader.predict(loaded.model, str(file), loaded.config)


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ("translation(beam=0)", "beam=0"),
        ("translation(length_penalty=-1)", "length_penalty=-1"),
        ("translation(encoder_layers=-1)", "encoder_layers=-1"),
        ("translation(encoder_layers=1.5)", "encoder_layers=1.5"),
        ("translation(beams=2)", "did you mean 'beam'"),
    ],
)
def test_choices_that_cannot_be_are_refused(task, named):
    with pytest.raises(UserError, match=named.replace("(", r"\(")):
        tasks.parse(task)


def test_without_sacrebleu_a_run_that_needs_it_does_not_start(problem_of, monkeypatch):
    whole = importlib.import_module

    def missing(name: str):
        if name.startswith("sacrebleu"):
            raise ImportError(name)
        return whole(name)

    monkeypatch.setattr(translation_scores.importlib, "import_module", missing)
    problem_of(score_items=0)
    with pytest.raises(UserError, match=r"pip install 'addnorm\[translation\]'"):
        problem_of(score_items=10)


def test_a_run_of_it_is_no_language_model(run):
    with pytest.raises(UserError, match="addnorm predict"):
        load_model(run)


def test_a_run_may_start_from_another_with_its_vocabulary(run, table, tmp_path):
    config = load_run(run).config
    again = configured(dataclasses.replace(config, init=str(run), steps=1, learning_rate=1e-6, ema=0.0))
    result = train(again, tmp_path / "again")
    before = json.loads((run / "result.json").read_text())
    assert result["validation_loss"] == pytest.approx(before["validation_loss"], abs=0.01)  # after a step of 1e-6
    kept = load_run(tmp_path / "again").reader.vocabulary.tokenizer
    assert kept.fingerprint() == load_run(run).reader.vocabulary.tokenizer.fingerprint()


def test_a_damaged_run_is_refused(tmp_path, problem_of):
    problem = problem_of()
    problem.reader.save(tmp_path)
    again = tasks.parse("translation").reader(tmp_path)
    assert again.tokens_per_token == problem.reader.tokens_per_token
    assert again.vocabulary.tokenizer.fingerprint() == problem.reader.vocabulary.tokenizer.fingerprint()
    (tmp_path / "translation.json").write_text("{}")
    with pytest.raises(UserError, match=r"translation\.json cannot be read"):
        tasks.parse("translation").reader(tmp_path)


CHINESE = ["他在图书馆里看书。", "明天我们去北京旅行。", "这家饭店的菜很好吃。"]
JAPANESE = ["彼は図書館で本を読んでいます。", "明日、私たちは東京へ旅行に行きます。"]


@pytest.mark.parametrize(
    "targets, words",
    [
        (["Er liest ein Buch.", "東京 ist groß."], "13a"),
        (["그는 도서관에서 책을 읽는다."], "13a"),
        (CHINESE, "zh"),
        (["เขาอ่านหนังสือในห้องสมุด"], "char"),
        (["123 ..."], "13a"),
    ],
)
def test_bleu_splits_words_by_the_script(targets, words):
    assert bleu_words.of_script(targets) == words


def test_japanese_is_split_by_mecab_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(bleu_words, "find_spec", lambda name: None)
    assert bleu_words.of_script(JAPANESE) == "char"
    with pytest.raises(UserError, match=r"bleu=ja-mecab needs MeCab and ipadic; run: pip install 'sacrebleu\[ja\]'"):
        bleu_words.chosen("ja-mecab", JAPANESE)
    monkeypatch.setattr(bleu_words, "find_spec", lambda name: name)
    assert bleu_words.of_script(JAPANESE) == "ja-mecab"


def test_bleu_of_a_perfect_chinese_translation_is_100():
    [bleu, _] = measured(CHINESE, CHINESE, bleu_words.of_script(CHINESE))
    assert bleu.value == pytest.approx(100) and "tok:zh" in bleu.signature
    assert measured(CHINESE, CHINESE, "13a")[0].value == 0  # what the default of sacrebleu says of it


def test_the_field_sets_how_bleu_splits():
    assert bleu_words.chosen("char", CHINESE) == "char"
    with pytest.raises(UserError, match="bleu 'zh-tw' is unknown"):
        translation.Translation(bleu="zh-tw")  # pyrefly: ignore
