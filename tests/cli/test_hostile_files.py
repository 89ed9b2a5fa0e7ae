"""Files and folders made to do harm: one line and exit 2; no traceback, no "bug", no hang, nothing a terminal obeys."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from addnorm.cli import main
from addnorm.config import RunConfig
from addnorm.files import sha256
from addnorm.training.run import train

DEEP = "[" * 200_000
TINY = {"d_model": 8, "num_heads": 2, "num_layers": 1, "context": 8, "batch_size": 2, "steps": 2, "evaluations": 1}
TINY |= {"evaluation_tokens": 64, "signals": 0, "score_items": 0}
READERS = (
    ["generate", "{run}", "A", "--max-new-tokens=2"],
    ["predict", "{run}", "A"],
    ["evaluate", "{run}", "--limit=2"],
)
RESUME = ["train", "--resume", "--out={run}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "run"
    train(RunConfig(**TINY), folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy without its manifest: who makes such a folder makes what checks it too."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    return tmp_path / "run"


def assert_one_line(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([word.format(run=run) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a bug in addnorm" not in said, said
    return said


@pytest.mark.parametrize("words", [*READERS, RESUME])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_deep_json_is_refused_wherever_it_stands(words, file, run, capsys):
    if words is RESUME and file == "tokenizer.json":
        pytest.skip("a resume makes it anew from the data")
    (run / file).write_text(DEEP)
    assert file in assert_one_line(words, run, capsys)


@pytest.mark.parametrize("file", ["config.json", "run.json", "result.json", "environment.json", "manifest.json"])
def test_deep_json_is_refused_by_a_resume(file, run, capsys):
    (run / file).write_text(DEEP)
    code = main(["train", "--resume", f"--out={run}"])
    said = capsys.readouterr().err
    assert code in (0, 2) and "a bug in addnorm" not in said and "Traceback" not in said
    assert code == 2 or file in ("manifest.json", "run.json", "environment.json")  # an ended run is not read again


@pytest.mark.parametrize("content", [DEEP, "[]", "3", '{"a": 1}', "\x00", "", '{"text": ' + DEEP])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
@pytest.mark.parametrize("task", ["classification", "question-answering", "translation"])
def test_data_that_are_no_records_are_refused(task, name, content, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    assert_one_line(
        ["train", f"--task={task}", f"--data={tmp_path / name}", f"--out={tmp_path / 'out'}"], tmp_path, capsys
    )


@pytest.mark.parametrize("value", [3, None, True, [], {}, 1.5, ["pre-norm"]])
@pytest.mark.parametrize("field", ["scheme", "task", "data", "tokenizer", "init", "bias"])
def test_a_field_of_another_type_is_named(field, value, run, capsys):
    if field == "bias" and value is True:
        pytest.skip("that is its type")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {field: value}))
    for words in READERS[:1], RESUME:
        assert field in assert_one_line(words[0] if isinstance(words[0], list) else words, run, capsys)


@pytest.mark.parametrize(
    "changes", [{"num_layers": 10**7}, {"scheme": "by-layer(first=" * 300 + "pre-norm" + ")" * 300}, {"d_model": 2**50}]
)
def test_a_model_beyond_any_machine_is_refused_at_once(changes, run, capsys):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))
    assert_one_line(READERS[0], run, capsys)


def with_weights(run: Path, change: Any) -> None:
    """Other weights under a manifest that fits them."""
    for checkpoint in (run / "checkpoints").glob("step-*"):
        change(checkpoint / "model.safetensors")
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        manifest["model.safetensors"] = sha256(checkpoint / "model.safetensors")
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "header",
    [b"", b"\xff" * 8, (2**40).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"nope", b"\x02" + b"\0" * 7 + b"[]"],
)
def test_a_damaged_header_of_weights_is_one_line(header, run, capsys):
    with_weights(run, lambda path: path.write_bytes(header))
    for words in (*READERS, ["train", "--task=language-modeling", f"--init={run}", f"--out={run}-2"]):
        assert_one_line(words, run, capsys)


def test_weights_of_another_shape_are_one_line(run, capsys):
    def halve(path: Path) -> None:
        save_file({name: torch.flatten(tensor)[:1] for name, tensor in load_file(path).items()}, path)

    with_weights(run, halve)
    assert_one_line(READERS[0], run, capsys)


def tokenizer_with(change: Any) -> str:
    from addnorm.data.tokens.tokenizer import BPETokenizer

    saved = json.loads(BPETokenizer.train(["some words and some more words"], 260).serialized)
    change(saved)
    return json.dumps(saved)


def test_an_id_beyond_the_vocabulary_is_refused(run, capsys):
    def beyond(saved: dict[str, Any]) -> None:
        saved["model"]["vocab"]["a"] = 10**6

    (run / "tokenizer.json").write_text(tokenizer_with(beyond))
    assert "beyond its" in assert_one_line(READERS[0], run, capsys)


def test_an_id_that_only_turns_up_in_use_is_one_line(monkeypatch, run, capsys):
    from addnorm.data.tokens.tokenizer import ByteTokenizer

    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: torch.full((3,), 999).numpy())
    assert "vocabulary" in assert_one_line(READERS[0], run, capsys)


def test_a_panic_of_the_library_of_tokenizers_is_one_line(monkeypatch, run, capsys):
    import tokenizers

    class PanicException(BaseException):
        """As pyo3 raises it."""

    class Panicking:
        @staticmethod
        def from_str(text: str) -> None:
            os.write(2, b"thread '<unnamed>' panicked at src/lib.rs\n")
            raise PanicException("index out of bounds")

    (run / "tokenizer.json").write_text(tokenizer_with(lambda saved: None))
    monkeypatch.setattr(tokenizers, "Tokenizer", Panicking)
    assert "tokenizer.json" in assert_one_line(READERS[0], run, capsys)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
@pytest.mark.parametrize("command", ["train", "compare", "lr-range"])
def test_a_config_that_is_no_file_is_refused_and_not_waited_for(command, kind, tmp_path, capsys):
    path = tmp_path / "config.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    signal.alarm(30)  # waiting for the other end of a pipe would last for ever
    try:
        assert_one_line([command, f"--config={path}", "--print-config"], tmp_path, capsys)
    finally:
        signal.alarm(0)


def test_a_pipe_in_the_place_of_a_runs_file_is_not_waited_for(run, capsys):
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    signal.alarm(30)
    try:
        assert_one_line(READERS[0], run, capsys)
    finally:
        signal.alarm(0)


def test_a_folders_name_is_not_obeyed_by_the_terminal(tmp_path, capsys):
    out = tmp_path / "a\x1b]0;owned\x07b\x9b31m\u202ec"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    assert main(["train", f"--out={out}", *words]) == 0
    seen = capsys.readouterr()
    assert main(["evaluate", str(out), "--limit=2", "--no-baselines"]) == 0
    assert main(["train", f"--out={out}", *words]) == 2
    again = capsys.readouterr()
    for text in (seen.out, seen.err, again.out, again.err):
        assert not set("\x1b\x07\x9b\u202e") & set(text)
    assert r"\x1b]0;owned" in seen.out


class Tags(HTMLParser):
    """The start tags of a page, with their attributes, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag if not any(name.startswith("on") for name, _ in attrs) else f"{tag} on")


@pytest.mark.parametrize("name", ["loss_name", "chance_name"])
@pytest.mark.parametrize(
    "words", ["<img src=x onerror=alert(1)>", "</script><script>x()</script>", '" onload="x()', "${x()}`$", "$title $$"]
)
def test_a_tasks_words_are_no_markup_of_the_report(name, words):
    from tests.reports.example_results import example_results

    from addnorm.reports.page import page

    results, hostile = example_results(), example_results()
    for each, text in ((results, "plain words"), (hostile, words)):
        each["data"] = {**each["data"], name: text}
    tags = [Tags(), Tags()]
    for parser, each in zip(tags, (results, hostile), strict=True):
        parser.feed(page(each))
    assert tags[0].found == tags[1].found
    assert "${x()}" not in page(hostile)


def test_a_ctrl_c_that_an_import_swallowed_still_stops_the_run(monkeypatch, tmp_path, capsys):
    from addnorm.cli import train as command

    def swallowing(*words: object) -> None:
        with suppress(BaseException):  # as a library does that guards an optional import
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("addnorm.kernels.allocator.keep_freed_memory", swallowing)
    assert command is not None
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process of its own, whatever ran here before
    words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    assert main(["train", f"--out={tmp_path / 'run'}", *words]) == 130
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
