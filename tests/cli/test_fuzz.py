"""Any words after `addnorm` end in 0 or 2, and 2 comes with one line; never a traceback.

Training, sampling and measuring are replaced by recorders: what is tested is everything between the words and them.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addnorm.cli import (
    COMMANDS,
    bench,
    certify,
    compare,
    completion,
    diagnose,
    doctor,
    evaluate,
    forecast,
    generate,
    lr_range,
    predict,
    prune,
    report,
    reproduce,
    runs,
    schemes,
    task_defaults,
    tasks,
    tokenize,
    train,
)
from addnorm.cli.flags import flags_of
from addnorm.config import RunConfig
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.studies.spec import CompareConfig
from command_line import apart, here

PARTS = {
    "compare": (CompareConfig, compare.CompareOptions),
    "train": (RunConfig, train.TrainOptions),
    "tokenize": (TokenizeConfig, tokenize.TokenizeOptions),
    "forecast": (CompareConfig, forecast.ForecastOptions),
    "lr-range": (RunConfig, lr_range.LrRangeOptions),
    "generate": (generate.GenerateOptions,),
    "evaluate": (evaluate.EvaluateOptions,),
    "predict": (predict.PredictOptions,),
    "report": (report.ReportOptions,),
    "runs": (runs.RunsOptions,),
    "tasks": (tasks.TasksOptions,),
    "schemes": (schemes.SchemesOptions,),
    "certify": (certify.CertifyOptions,),
    "reproduce": (reproduce.ReproduceOptions,),
    "doctor": (doctor.DoctorOptions,),
    "bench": (bench.BenchOptions,),
    "prune": (prune.PruneOptions,),
    "diagnose": (diagnose.DiagnoseOptions,),
    "completion": (completion.CompletionOptions,),
}
FLAGS = sorted({flag.flag for parts in PARTS.values() for flag in flags_of(*parts).values() if not flag.positional})
CHOICES = [
    "cosine",
    "linear",
    "rms",
    "none",
    "swiglu",
    "parallel",
    "best",
    "float32",
    "language-modeling",
    "shakespeare",
]
SCHEMES = ["pre-norm", "post-norm", "mhc(streams=2)", "layer-scale(init=0.1)", "pre-norm(", "prenorm", "mhc(streams=x)"]
NUMBERS = [
    "0",
    "1",
    "2",
    "4",
    "8",
    "64",
    "-1",
    "0.5",
    "1e-3",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "9" * 30,
    "9" * 5000,
    "1_0",
]
ODD = [
    "",
    " ",
    "-",
    "--",
    "---",
    "=",
    "--=",
    "-h1",
    "a,b",
    ",",
    "2,4",
    "None",
    "none",
    "\0",
    "\n",
    "é\x1b[31m",
    "\udcff",
    "a" * 300,
]
CONFIGS = {
    "good.toml": "d_model = 32\nbias = false\n",
    "arms.toml": "layers = [2, 4]\nseeds = 2\n",
    "odd.toml": "layerz = [2]\n",
    "bad.toml": "layers = [\n",
    "good.json": '{"d_model": 32, "num_kv_heads": null}',
    "odd.json": "[1]",
}
FILES = [*CONFIGS, "nowhere", ".", "/"]


def near(flag: str) -> st.SearchStrategy[str]:
    """A flag with a letter less, twice, or other."""
    places = st.integers(2, len(flag) - 1)
    return st.one_of(
        places.map(lambda i: flag[:i] + flag[i + 1 :]),
        places.map(lambda i: flag[:i] + flag[i] + flag[i:]),
        places.map(lambda i: f"{flag[:i]}x{flag[i + 1 :]}"),
        st.just(flag.replace("-", "_")),
        st.just(flag[1:]),
        st.just(f"--no-{flag[2:]}"),
    )


def fitting(flag) -> st.SearchStrategy[list[str]]:
    """A flag with a value of its kind, so that what lies behind the conversion is reached too."""
    item = get_args(flag.type)[0] if flag.is_list else flag.type
    if flag.is_switch:
        return st.just([flag.flag])
    if get_origin(item) is Literal:
        value = st.sampled_from(get_args(item))
    elif item is int:
        value = st.integers(-1, 12).map(lambda number: str(2**number if number > 3 else number))
    elif item is float:
        value = st.floats(-0.1, 2).map(str)
    else:
        value = st.sampled_from(SCHEMES[:4] if "scheme" in flag.name else [*FILES, "byte", "bpe:300", "shakespeare"])
    values = st.lists(value, min_size=1, max_size=3 if flag.is_list else 1)
    return values.map(lambda several: [flag.flag, *several])


def words_for(command: str) -> st.SearchStrategy[list[str]]:
    """Half of the lines hold only flags with fitting values, the others anything."""
    own = [flag for flag in flags_of(*PARTS[command]).values() if not flag.positional]
    flags = own or list(flags_of(*PARTS["doctor"]).values())  # completion has none
    names = [flag.flag for flag in flags]
    flag = st.sampled_from(names) | st.sampled_from(FLAGS) | st.sampled_from(names).flatmap(near)
    value = st.sampled_from(CHOICES + SCHEMES + NUMBERS + ODD + FILES) | st.text(max_size=8)
    anything = st.one_of(
        st.tuples(flag, value).map(list),
        st.sampled_from(flags).flatmap(fitting),
        flag.map(lambda word: [word]),
        value.map(lambda word: [word]),
        st.tuples(flag, value).map(lambda pair: ["=".join(pair)]),
    )
    places = {"generate": [["runs/a", "Once"]], "tokenize": [["a.txt"]]}.get(command, [[]])
    right = st.lists(st.sampled_from(flags).flatmap(fitting), max_size=4).map(lambda pieces: [*pieces, *places])
    return (right | st.lists(anything, max_size=5)).map(lambda pieces: [word for piece in pieces for word in piece])


LINES = st.one_of(
    *(st.tuples(st.just(command), words_for(command)).map(lambda line: [line[0], *line[1]]) for command in PARTS),
    st.lists(st.sampled_from([*COMMANDS, *ODD, "--help", "--version", "--debug", "compar"]), max_size=3),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with config files, and recorders where work would begin; gives what reached them."""
    reached = []
    folder = tmp_path_factory.mktemp("user")
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
    back = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for name in PARTS.keys() - {"schemes", "runs", "completion"}:  # the first and the last only print
            stem = name.replace("-", "_")
            module = importlib.import_module(f"addnorm.cli.{stem}")
            patch.setattr(module, f"_{stem}", _recorder(reached, getattr(module, f"_{stem}")))
        for name in ("_runs", "_show", "_rename", "_delete", "_open"):
            patch.setattr(runs, name, _recorder(reached, getattr(runs, name)))
        # The data are not read for the steps of an epoch.
        patch.setattr(task_defaults, "_in_steps", lambda epochs, given, values, kind: dict(values))
        patch.setattr(schemes, "_parameters", lambda *_: {"d_model": 1, "num_layers": 1, "per_sublayer": [0, 0]} | ENDS)
        os.chdir(folder)
        yield reached
        os.chdir(back)


ENDS = {"entrance": 0, "exit": 0, "total": 0}


def _recorder(reached, function):
    def record(*parts):
        reached.append(parts)
        return 0

    record.__doc__ = function.__doc__
    return record


def test_every_command_is_tried_with_its_own_flags():
    assert PARTS.keys() == COMMANDS.keys()


@settings(max_examples=300)
@given(line=LINES)
def test_any_words_end_well(recorded, line):
    before = len(recorded)
    seen = here(*[word for word in line if word != "--debug"])
    assert seen.code in (0, 2), seen.err
    if seen.code == 2:
        assert seen.is_one_line_of_error(), (line, seen.err)
        assert "\x1b" not in seen.err
        assert len(recorded) == before
    else:
        assert seen.err == ""
        assert seen.out or len(recorded) > before


@settings(max_examples=100)
@given(
    flags=st.dictionaries(
        st.sampled_from(
            ["--d-model", "--num-heads", "--num-layers", "--tokens", "--batch-size", "--context", "--seed"]
        ),
        st.integers(-3, 70),
    )
)
def test_numbers_that_reach_training_are_the_ones_that_were_given(recorded, flags):
    seen = here("train", *[word for pair in flags.items() for word in map(str, pair)])
    if seen.code == 0:
        config, _ = recorded[-1]
        for flag, number in flags.items():
            assert getattr(config, flag[2:].replace("-", "_")) == number
        assert config.d_model % config.num_heads == 0
    else:
        assert seen.is_one_line_of_error()


# A start costs two seconds: one that says the words again, and one from deep inside.
REAL = [
    ["schemes", "\x1b[31m"],
    ["train", "--scheme", "stochastic-depth(base=mhc(streams=0))", "--tokens", "512"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", REAL, ids=lambda words: " ".join(words).replace("\x1b", "ESC"))
def test_odd_words_end_well_in_a_process_of_their_own(words, tmp_path):
    seen = apart(*words, cwd=tmp_path)
    assert seen.code == 2, seen.err
    assert seen.is_one_line_of_error(), seen.err
