"""The functions of the library: what the command does, by keywords."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import addnorm
from addnorm import UserError
from addnorm.config import ModelConfig, RunConfig
from addnorm.schemes.layer_scale import LayerScale
from addnorm.studies.spec import CompareConfig

ROOT = Path(__file__).parent.parent
SMALL = {"d_model": 16, "num_heads": 2, "context": 16, "evaluation_tokens": 64, "evaluations": 1, "signals": 0}


def test_a_model_is_trained_and_loaded(tmp_path: Path) -> None:
    seen = []
    out = tmp_path / "run"
    scheme = LayerScale(init=0.5)
    result = addnorm.train(out, scheme=scheme, num_layers=1, steps=3, on_progress=seen.append, **SMALL)
    assert result["folder"] == out and result["status"] == "finished" and seen
    assert json.loads((out / "result.json").read_text())["validation_loss"] == result["validation_loss"]
    loaded = addnorm.load(out)
    assert loaded.model.scheme == scheme and loaded.config.steps == 3
    assert loaded.reader.predict(loaded.model, "To be", loaded.config).text


def test_a_task_brings_its_defaults_as_in_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read|no such|not found|does not exist"):
        addnorm.train(tmp_path / "run", task="classification", data=str(tmp_path / "missing"))


def test_schemes_are_compared_and_the_report_is_written(tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    results = addnorm.compare(
        out, schemes=["pre-norm", "post-norm"], layers=[1], seeds=2, steps=[2], workers=1, **SMALL
    )
    assert results["folder"] == out and (out / "report.html").is_file()
    assert {arm["scheme"] for arm in results["arms"]} == {"pre-norm", "post-norm"}
    again = addnorm.compare(
        out, resume=True, schemes=("pre-norm", "post-norm"), layers=(1,), seeds=2, steps=(2,), workers=1, **SMALL
    )
    assert [arm["id"] for arm in again["arms"]] == [arm["id"] for arm in results["arms"]]


def test_an_unknown_choice_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choice 'learning_rat' is unknown; did you mean 'learning_rate'"):
        addnorm.train(tmp_path / "run", learning_rat=1e-3)  # pyrefly: ignore
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("function", [addnorm.Transformer, addnorm.Encoder, addnorm.EncoderDecoder])
def test_the_shape_of_a_model_is_in_its_signature(function: type) -> None:
    shown = inspect.signature(function).parameters
    for item in fields(ModelConfig):
        assert shown[item.name].kind is inspect.Parameter.KEYWORD_ONLY
    needed = {"vocab_size", "d_model", "num_heads", "num_layers"}
    assert {name for name in needed if shown[name].default is inspect.Parameter.empty} == needed
    assert shown["position"].default == "rotary" and "shape" not in shown


def test_the_choices_of_a_run_are_in_its_signature() -> None:
    shown = inspect.signature(addnorm.train).parameters
    assert {item.name for item in fields(RunConfig)} < set(shown) and "choices" not in shown
    assert "schemes" in inspect.signature(addnorm.compare).parameters


def test_the_keywords_are_the_fields() -> None:
    spec = importlib.util.spec_from_file_location("build_keywords", ROOT / "scripts" / "build_keywords.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    again = "run python scripts/build_keywords.py"
    assert script.HOME.read_text() == script.source(), again


def test_tab_completion_sees_the_public_names() -> None:
    assert dir(addnorm) == sorted(addnorm.__all__)
    assert {"Transformer", "compare", "load", "schemes", "summary", "train"} <= set(dir(addnorm))


def public() -> dict[str, Callable[..., object]]:
    """All public functions, classes and methods of the package's own, by name."""
    found: dict[str, Callable[..., object]] = {}
    for name in {*addnorm.__all__} - {"UserError"}:
        item = getattr(addnorm, name)
        if not inspect.isclass(item):
            found |= {name: item} if inspect.isroutine(item) else {}
            continue
        if "__init__" in vars(item):  # else it takes what a module takes
            found[name] = item
        for kind in (kind for kind in item.__mro__ if kind.__module__.startswith("addnorm.")):
            methods = {f"{kind.__name__}.{key}": value for key, value in vars(kind).items() if not key.startswith("_")}
            found |= {key: value for key, value in methods.items() if inspect.isroutine(value)}
    return found | {f"schemes.{name}": getattr(addnorm.schemes, name) for name in ("get", "name_of", "parse", "format")}


@pytest.mark.parametrize("name", sorted(public()))
def test_every_public_function_says_what_it_takes(name: str) -> None:
    item = public()[name]
    doc = inspect.getdoc(item)
    assert doc and doc.splitlines()[0].endswith((".", ":", "`"))
    _, _, said = doc.partition("Args:")
    taken = inspect.signature(item).parameters.values()
    # Fields of a dataclass are explained where the dataclass is.
    shape = {item.name for kind in (ModelConfig, RunConfig, CompareConfig) for item in fields(kind)}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in taken:
        explained = re.search(rf"\b{each.name}\b", said) or each.name == "self"
        assert (
            explained or each.name in shape and "config" in doc.lower() or each.kind in variadic and each.name == "_"
        ), each.name
