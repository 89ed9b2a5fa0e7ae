"""Whatever a user does wrong is one line: what came, what is allowed, what to do."""

from __future__ import annotations

import pytest

from addnorm.errors import UserError
from command_line import apart, here

MISTAKES = [
    ("", "a command is missing; give one of compare, train"),
    ("compair", "command 'compair' is unknown; did you mean 'compare'?"),
    ("--verson", "flag '--verson' is unknown; did you mean '--version'?"),
    ("compare --layerz 4", "flag '--layerz' is unknown; did you mean '--layers'? `addnorm compare --help`"),
    ("train --learn 1", "flag '--learn' is unknown"),
    ("compare -x", "flag '-x' is unknown"),
    ("compare --layers", "--layers has no value; give one or more whole numbers"),
    ("train --data --tokens 5", "--data has no value; '--tokens' came; give a text"),
    ("train --learning-rate abc", "--learning-rate abc is not allowed; give a number, such as 0.002"),
    ("train --learning-rate nan", "--learning-rate nan is not allowed"),
    ("train --learning-rate inf", "--learning-rate inf is not allowed"),
    ("train --tokens 1e5", "--tokens 1e5 is not allowed; give a whole number, such as 200000"),
    ("compare --layers 2 x", "--layers 2 x is not allowed; give one or more whole numbers, such as 2 24"),
    ("train --seconds soon", "--seconds soon is not allowed; give a number or none"),
    (
        "train --schedule cosin",
        "--schedule 'cosin' is unknown; did you mean 'cosine'? Allowed: constant, cosine, linear",
    ),
    ("train --bias=no", "--bias takes no value; write --bias or --no-bias"),
    ("compare --layers 2 --layers 4", "--layers came twice"),
    ("compare extra", "'extra' is too much: addnorm compare takes flags only"),
    ("compare --schemes prenorm", "scheme 'prenorm' is unknown; did you mean 'pre-norm'?"),
    ("compare --schemes pre-norm,pre-norm", "schemes has pre-norm twice"),
    ("compare --task transltion", "task 'transltion' is unknown; did you mean 'translation'?"),
    ("compare --d-model 512 --num-heads 6", "num_heads=6 does not divide d_model=512; use 4 or 8"),
    ("train --d-model 999999999999 --num-heads 8", "num_heads=8 does not divide d_model=999999999999"),
    ("compare --layers 0", "layers=0 is not allowed"),
    ("train --num-layers 0", "num_layers=0 is not allowed"),
    ("train --learning-rate -1", "learning_rate=-1"),
    ("train --learning-rate=-1 --schedule cosine", "learning_rate=-1"),
    ("compare --schemes mhc(streams=x) --dry-run", "streams=x is not allowed; use 1 or more"),
    ("compare --learning-rates 0.1 -1", "learning_rates=-1"),
    ("compare --seeds 0", "seeds=0 is not allowed"),
    ("compare --seeds 9999999999", "seeds=9999999999 is not allowed; use 1000 or fewer"),
    ("train --dropout 1.5", "dropout=1.5 is not allowed"),
    ("train --resume", "there is no runs/train-* here to resume; name the folder with --out"),
    ("generate", "RUN is missing"),
    ("generate somewhere", "PROMPT is missing"),
    ("generate somewhere a b", "'b' is too much: addnorm generate takes RUN and PROMPT"),
    ("generate somewhere a --top-p 0", "top_p=0.0 is not allowed"),
    ("generate somewhere a --top-k 0", "top_k=0 is not allowed"),
    ("generate -- --run --prompt", "--run does not exist; give the folder of a run"),
    ("generate nowhere a", "nowhere does not exist; give the folder of a run"),
    ("generate . a", "is no run's folder (it has no config.json); give the folder of a run"),
    ("schemes mhcc", "scheme 'mhcc' is unknown; did you mean 'mhc'?"),
    ("schemes pre-norm(nrm=rms)", "field of pre-norm 'nrm' is unknown; did you mean 'norm'?"),
    ("schemes pre-norm(norm=rmss)", "norm 'rmss' is unknown; did you mean 'rms'?"),
    ("schemes --num-layers 1000000000", "num_layers=1000000000 is not allowed; use 1000 or less"),
    ("doctor --jsn", "flag '--jsn' is unknown; did you mean '--json'?"),
    ("train --config missing.toml", "--config missing.toml cannot be read: No such file"),
    ("train --data missing.txt", "missing.txt does not exist"),
    ("train --data empty.txt", "empty.txt is empty"),
    ("train --data binary.txt", "has a NUL byte, so it is no text"),
    ("train --data short.txt", "use a longer text or a smaller context"),
    ("train --tokenizer words", "tokenizer 'words' is not understood; use byte, bpe:SIZE"),
    ("train --scheme pre-norm(norm=rms", "the parentheses do not match"),
    ("train --seed 100000000000000000000000", "seed=100000000000000000000000 is not allowed"),
    ("train --out taken", "taken exists already"),
    ("train --out file", "file is a file"),
    ("compare --out taken", "taken exists already"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with the files that users have."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "short.txt").write_text("To be, or not to be.")
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    return tmp_path


@pytest.mark.parametrize(("line", "said"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(line, said, folder):
    seen = here(*line.split())
    assert seen.code == 2
    assert seen.is_one_line_of_error(), seen.err
    assert said in seen.err
    assert seen.out == ""


@pytest.mark.parametrize(
    "line", ["compare --layerz 4", "nonsense"]
)  # `test_fuzz.py` has one from behind torch's import
def test_a_mistake_is_one_line_in_a_process_of_its_own(line, folder):
    seen = apart(*line.split(), cwd=folder)
    assert seen.code == 2
    assert seen.is_one_line_of_error(), seen.err


def test_nothing_is_written_when_something_is_wrong(folder):
    before = sorted(folder.rglob("*"))
    for line in ("train --data short.txt", "train --scheme nonsense", "compare --tokenizer words"):
        assert here(*line.split()).code == 2
    assert sorted(folder.rglob("*")) == before


def test_no_sign_of_an_argument_reaches_the_terminal_as_a_command(folder):
    seen = here("train", "--data", "a\x1b[2J\u2028\n\x85b")
    assert seen.is_one_line_of_error()
    assert "\x1b" not in seen.err


def test_a_nul_character_is_refused(folder):
    seen = here("train", "--data", "a\0b")
    assert seen.code == 2
    assert "NUL" in seen.err


def test_debug_gives_the_traceback_of_a_mistake(folder):
    seen = apart("compare", "--layerz", "4", "--debug", cwd=folder)
    assert seen.code == 1
    assert "Traceback" in seen.err
    with pytest.raises(UserError, match=r"empty\.txt"):
        here("train", "--data", "empty.txt", "--debug")
