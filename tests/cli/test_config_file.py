"""`--config` and `--print-config`."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addnorm.cli.config_file import read_config, to_toml
from addnorm.cli.flags import flags_of
from addnorm.config import RunConfig
from addnorm.studies.spec import CompareConfig
from command_line import here


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(*words):
    seen = here(*words, "--print-config")
    assert seen.code == 0, seen.err
    return seen.out


@pytest.mark.parametrize("command", ["compare", "train"])
def test_what_is_printed_is_read_back(command, folder):
    before = printed(command, "--d-model", "48", "--seconds", "2.5", "--no-bias", "--data", 'a "text"\\')
    (folder / "a.toml").write_text(before)
    assert printed(command, "--config", "a.toml") == before
    assert tomllib.loads(before)["d_model"] == 48
    assert tomllib.loads(before)["bias"] is False


@pytest.mark.parametrize(("command", "config"), [("compare", CompareConfig), ("train", RunConfig)])
def test_every_field_is_printed_with_its_meaning(command, config, folder):
    lines = printed(command).splitlines()
    for field in fields(config):
        place = next(i for i, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{field.name} = "))
        assert lines[place - 1].startswith("# ") and len(lines[place - 1]) > 4


def test_flags_override_the_file(folder):
    (folder / "a.toml").write_text("layers = [1, 2, 3]\nseeds = 5\n")
    values = tomllib.loads(printed("compare", "--config", "a.toml", "--layers", "7"))
    assert (values["layers"], values["seeds"]) == ([7], 5)


def test_json_is_read_where_the_name_says_so(folder):
    (folder / "a.json").write_text(json.dumps(asdict(RunConfig(d_model=32, seconds=None, tie_embeddings=False))))
    values = tomllib.loads(printed("train", "--config", "a.json"))
    assert (values["d_model"], values["tie_embeddings"]) == (32, False)
    assert "seconds" not in values


def test_a_lone_value_is_a_list_of_one_and_dashes_are_underscores(folder):
    (folder / "a.toml").write_text('layers = 3\nlearning-rates = 0.1\nschemes = "pre-norm, mhc(streams=2)"\n')
    values = tomllib.loads(printed("compare", "--config", "a.toml"))
    assert values["layers"] == [3]
    assert values["learning_rates"] == [0.1]
    assert values["schemes"] == ["pre-norm", "mhc(streams=2)"]


def test_none_can_be_said_in_words(folder):
    (folder / "a.json").write_text('{"num_kv_heads": null, "d_ff": "none"}')
    assert "d_ff" not in tomllib.loads(printed("train", "--config", "a.json"))
    assert "num_kv_heads" not in tomllib.loads(printed("train", "--num-kv-heads", "None"))


MISTAKES = [
    ("a.toml", "\nlayerz = [2]", "a.toml line 2: field 'layerz' is unknown; did you mean 'layers'?"),
    ("a.toml", "[model]\nd_model = 3", "a.toml line 1: field 'model' is unknown"),
    ("a.toml", "layers = [2,\nseeds = 3", "a.toml is not TOML: "),
    ("a.toml", "layers = [2]\nlayers = [3]", "a.toml is not TOML: Cannot overwrite a value"),
    ("a.toml", "seeds = 3\nseeds-x = 1", "line 2: field 'seeds-x' is unknown; did you mean 'seeds'?"),
    ("a.toml", "d_model = 32\nd-model = 64", "a.toml line 2: field 'd-model' came twice"),
    ("a.toml", 'seeds = "many"', "a.toml line 1: seeds = many is not allowed; give a whole number, such as 5"),
    ("a.toml", "seeds = 2.0", "a.toml line 1: seeds = 2.0 is not allowed; give a whole number"),
    ("a.toml", "seeds = true", "a.toml line 1: seeds = true is not allowed; give a whole number"),
    ("a.toml", "seeds = [1, 2]", "seeds = [1, 2] is not allowed"),
    ("a.toml", "layers = []", "layers = [] is not allowed; give one or more whole numbers"),
    ("a.toml", "layers = [[1]]", "layers = [[1]] is not allowed"),
    ("a.toml", "layers = 2026-11-23", "layers = 2026-11-23 is not allowed"),
    ("a.toml", "bias = 1", "bias = 1 is not allowed; give true or false"),
    ("a.toml", "learning_rates = [inf]", "a.toml line 1: learning_rates = inf is not allowed"),
    ("a.toml", 'schedule = "cosin"', "schedule = 'cosin' is unknown; did you mean 'cosine'?"),
    ("a.toml", "layers = [0]", "layers=0 is not allowed"),
    ("a.toml", "\x00\x01", "a.toml is not TOML"),
    ("a.json", "", "a.json line 1 is not JSON"),
    ("a.json", "{", "a.json line 1 is not JSON"),
    ("a.json", "[1]", "a.json must hold the fields by name"),
    ("a.json", '{"seeds": 1,\n "seeds": 2}', "seeds twice"),
    ("a.json", '{"seeds": NaN}', "seeds = nan is not allowed"),
    ("a.json", "[" * 100_000, "a.json is not JSON"),
    ("a.json", '{"seeds": ' + "9" * 5000 + "}", "a.json is not JSON"),
]


@pytest.mark.parametrize(
    ("name", "text", "said"), MISTAKES, ids=[f"{name} {text[:20]!r}" for name, text, _ in MISTAKES]
)
def test_a_mistake_in_the_file_is_one_line_that_says_where(name, text, said, folder):
    (folder / name).write_text(text)
    seen = here("compare", "--config", name)
    assert seen.code == 2
    assert seen.is_one_line_of_error(), seen.err
    assert said in seen.err


def test_a_file_that_is_no_config_is_refused(folder):
    (folder / "weights").write_bytes(b"\xff\xfe\x00" * 10)
    (folder / "long").write_bytes(b"#" * 2_000_000)
    assert "not text in UTF-8" in here("train", "--config", "weights").err
    assert "longer than" in here("train", "--config", "long").err
    assert "Is a directory" in here("train", "--config", ".").err


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())


@given(
    data=TEXTS,
    seconds=st.none() | st.floats(0.1, 1e30),
    weight_decay=st.floats(0, 1e30),
    d_ff=st.none() | st.integers(1, 10**30),
    bias=st.booleans(),
)
def test_any_config_survives_printing_and_reading(tmp_path_factory, data, seconds, weight_decay, d_ff, bias):
    config = RunConfig(data=data, seconds=seconds, weight_decay=weight_decay, d_ff=d_ff, bias=bias)
    flags = flags_of(RunConfig)
    path = tmp_path_factory.mktemp("config") / "a.toml"
    path.write_text(to_toml(asdict(config), flags), encoding="utf-8")
    entries = read_config(path, flags)
    for name, value in asdict(config).items():
        if value is not None:
            assert entries[name].words == (str(value),)
        else:
            assert name not in entries
