"""The commands as a user runs them, in an empty folder, with the smallest budgets."""

from __future__ import annotations

import json
import os
import pty
import re
import sys

import pytest
import torch

from addnorm import schemes
from addnorm.kernels.choice import choose
from addnorm.probes import machine as machine_probe
from command_line import apart, here

pytestmark = pytest.mark.slow  # one training and one comparison, read by most

SMALL = ["--num-layers", "1", "--d-model", "16", "--context", "16", "--evaluation-tokens", "256", "--evaluations", "2"]
SMALL_ARMS = [
    "--schemes",
    "pre-norm,post-norm",
    "--layers",
    "1,2",
    "--seeds",
    "2",
    "--tokens",
    "512",
    "--d-model",
    "16",
]
SMALL_ARMS += ["--evaluation-tokens", "256", "--evaluations", "2", "--signals", "1", "--workers", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained run, and what training printed."""
    folder = tmp_path_factory.mktemp("user")
    return folder, apart("train", *SMALL, "--tokens", "1024", "--out", "run", cwd=folder)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with a comparison, and what it printed."""
    folder = tmp_path_factory.mktemp("user")
    return folder, apart("compare", *SMALL_ARMS, "--out", "arms", cwd=folder)


def test_train_says_what_came_out_and_what_to_do_next(trained):
    folder, seen = trained
    assert seen.code == 0, seen.err
    assert re.search(r"validation loss +\d\.\d{4} nats per token", seen.out)
    assert "addnorm evaluate run" in seen.out
    assert (folder / "run" / "result.json").exists()


def test_where_nobody_sees_a_bar_progress_is_plain_lines_and_nothing_else(trained, compared):
    for seen in (trained[1], compared[1]):
        assert all(re.match(r"(training|comparing) \d+%: ", line) for line in seen.err.splitlines())
        assert "\x1b" not in seen.out + seen.err


def test_generate_continues_the_prompt_and_repeats_itself(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    seen = here("generate", "run", "To be", "--max-new-tokens", "12")
    assert seen.code == 0, seen.err
    assert seen.out.startswith("To be")
    assert here("generate", "run", "To be", "--max-new-tokens", "12").out == seen.out
    assert here("generate", "run", "To be", "--max-new-tokens", "12", "--seed", "1").out != seen.out
    told = json.loads(here("generate", "run", "To be", "--max-new-tokens", "12", "--json").out)
    assert told["prompt"] == "To be" and told["text"].startswith("To be")


def test_generated_control_characters_do_not_reach_the_terminal(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    seen = here("generate", "run", "\x1b[2J", "--max-new-tokens", "1")
    assert seen.code == 0
    assert "\x1b" not in seen.out


def test_a_prompt_may_begin_with_a_dash(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    assert here("generate", "run", "--max-new-tokens", "1", "--", "-ROMEO").out.startswith("-ROMEO")


def test_a_finished_run_is_not_trained_twice(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    seen = here("train", "--resume", "--out", "run")
    assert (seen.code, seen.out) == (0, trained[1].out)


def test_resume_with_another_config_shows_the_difference(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    seen = here("train", "--resume", "--out", "run", "--learning-rate", "0.5")
    assert seen.code == 2
    assert seen.is_one_line_of_error()
    assert "learning_rate" in seen.err and "0.5" in seen.err


def test_a_runs_config_is_a_config_file(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    seen = here("train", "--config", "run/config.json", "--print-config")
    assert "d_model = 16" in seen.out


def test_a_damaged_checkpoint_is_told_in_one_line(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("train", *SMALL, "--tokens", "512", "--out", "run").code == 0
    for weights in (tmp_path / "run" / "checkpoints").rglob("model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    seen = here("generate", "run", "a")
    assert seen.code == 2
    assert seen.is_one_line_of_error(), seen.err


def test_new_folders_are_named_by_time_and_resume_takes_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("train", *SMALL, "--tokens", "256").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"train-\d{8}-\d{6}", folder.name)
    assert str(folder.name) in here("train", "--resume").out


def test_compare_prints_the_table_the_answers_and_where_the_report_is(compared):
    folder, seen = compared
    assert seen.code == 0, seen.err
    for word in ("val.", "loss", "post-norm", "1 layer", "2 layers", "Which schemes train at 1 layer?"):
        assert word in seen.out
    assert seen.out.splitlines()[-1].endswith("results in arms; open arms/report.html")
    assert (folder / "arms" / "report.html").exists()


def test_json_is_the_results_and_nothing_else(compared, monkeypatch):
    monkeypatch.chdir(compared[0])
    seen = here("compare", "--resume", "--out", "arms", "--json")
    assert seen.code == 0
    stored = json.loads((compared[0] / "arms" / "results.json").read_text())
    assert json.loads(seen.out)["arms"] == stored["arms"]


def test_resume_of_another_comparison_shows_the_difference(compared, monkeypatch):
    monkeypatch.chdir(compared[0])
    seen = here("compare", "--resume", "--out", "arms", "--seeds", "3")
    assert seen.code == 2
    assert "seeds" in seen.err and seen.is_one_line_of_error()


def test_a_run_of_a_comparison_can_speak(compared, monkeypatch):
    monkeypatch.chdir(compared[0])
    run = next((compared[0] / "arms" / "runs").glob("pre-norm-L1*/seed-0"))
    assert here("generate", str(run), "a", "--max-new-tokens", "2").code == 0


def test_a_dry_run_writes_nothing_and_names_what_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = here("compare", *SMALL_ARMS, "--dry-run")
    assert seen.code == 0, seen.err
    for heading in ("params", "memory", "FLOPs/token", "time", "8 runs, about"):
        assert heading in seen.out
    assert not list(tmp_path.iterdir())
    rows = json.loads(here("compare", *SMALL_ARMS, "--dry-run", "--json").out)["arms"]
    assert [row["scheme"] for row in rows] == ["pre-norm", "post-norm"] * 2
    # 4 d^2 + 8 d^2 matrix entries a layer at d = 16, and the second layer adds only that, biases and norms.
    assert rows[2]["parameters"] - rows[0]["parameters"] == 12 * 16**2 + 4 * 16 + 5 * 16 + 4 * 16


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_a_terminal_sees_progress_and_the_time_left(variables, tmp_path):
    seen = _on_a_terminal(["train", *SMALL, "--tokens", "5120", "--out", "run"], tmp_path, variables)
    assert "training" in seen
    assert re.search(r"step \d+/40, loss \d\.\d{3}, (\d+ min )?[\d.]+ s left", seen)
    assert ("\x1b[38;5;" in seen) != ("NO_COLOR" in variables)


def _on_a_terminal(words, folder, variables):
    """What a terminal gets."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "120", "OMP_NUM_THREADS": "1", **variables})
        os.execv(sys.executable, [sys.executable, "-m", "addnorm", *words])
    received = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        received += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, received[-500:]
    return received.decode()


def test_the_catalogue_lists_every_scheme():
    seen = here("schemes")
    assert seen.code == 0, seen.err
    for name in schemes.names():
        assert f"\n{name} " in f"\n{seen.out}"
    rows = json.loads(here("schemes", "--json").out)
    assert [row["name"] for row in rows] == list(schemes.names())
    assert all(row["equation"] and row["reference"] and row["cost"] for row in rows)


def test_a_scheme_is_shown_in_full_with_its_fields():
    seen = here("schemes", "layer-scale(init=0.1)", "--d-model", "10")
    for part in ("layer-scale(init=0.1)", "x <- x + g * F(n(x))", "arXiv:2103.17239", "starts as", "init = None"):
        assert part in seen.out
    # LayerNorm has 2 d, g has d; 24 sublayers and the final norm.
    counted = json.loads(here("schemes", "layer-scale", "--d-model", "10", "--json").out)["parameters"]
    assert counted["per_sublayer"] == [30, 30]
    assert counted["total"] == 24 * 30 + 20


def test_what_a_scheme_starts_as_depends_on_its_fields():
    assert json.loads(here("schemes", "stochastic-depth", "--json").out)["starts_as"] == "pre-norm"


@pytest.fixture
def quick_probe(monkeypatch):
    """Of a few tokens and once: on a processor without bfloat16, five products of the full size take three seconds."""
    for name, value in {"REPEAT_S": 1e-4, "REPEATS": 1, "TOKENS": 16, "LARGE_ELEMENTS": 2**18}.items():
        monkeypatch.setattr(machine_probe, name, value)


@pytest.mark.usefixtures("quick_probe")
def test_doctor_tells_the_machine_and_what_to_do(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen = here("doctor")
    assert seen.code == 0, seen.err
    for part in ("processor", "threads", "OMP_NUM_THREADS=1", "GFLOP/s", "bfloat16", "GB/s", " slow"):
        assert part in seen.out
    told = json.loads(here("doctor", "--json").out)
    assert told["variables"]["OMP_NUM_THREADS"] == "1"
    assert all(product["linear_gflops"] > 0 for product in told["machine"]["products"])
    assert told["kernels"]["add_norm"] == "C++"
    assert told["kernels"]["linear, float32"] in ("torch", "onednn")


@pytest.mark.usefixtures("quick_probe")
@pytest.mark.parametrize("able", [True, False])
def test_doctor_goes_on_where_onednn_has_no_bfloat16_for_the_processor(able, monkeypatch):
    def of_some_processor(x, weight):
        if not able and x.is_mkldnn and x.dtype == torch.bfloat16:
            raise RuntimeError("mkldnn_linear: bf16 path needs the cpu support avx_ne_convert or avx512bw")

    monkeypatch.setattr(machine_probe.F, "linear", of_some_processor)
    rates = {(item.precision, item.onednn_gflops is not None) for item in machine_probe.measure().products}
    assert rates == {("float32", True), ("bfloat16", able)}
    seen = here("doctor")
    assert seen.code == 0, seen.err
    assert seen.out.count("not on this processor") == (0 if able else 2)


@pytest.mark.usefixtures("quick_probe")
def test_the_environment_switches_the_kernels_off(monkeypatch):
    monkeypatch.setenv("ADDNORM_KERNELS", "torch")
    try:
        told = json.loads(here("doctor", "--json").out)
        assert told["kernels"]["add_norm"].startswith("torch")
        assert told["kernels"]["linear, bfloat16"] == "torch"
        monkeypatch.setenv("ADDNORM_KERNELS", "mkl")
        refused = here("doctor", "--json")
        assert refused.code == 2
        assert "auto, torch" in refused.err
    finally:
        choose("auto")
