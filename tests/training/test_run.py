from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, replace

import pytest
import torch

from addnorm.data.texts.repeats import RepeatWarning
from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.training.checkpoint import WEIGHTS, CheckpointWarning
from addnorm.training.description import ResumeWarning
from addnorm.training.load import load_model
from addnorm.training.metrics import FILE, Metrics
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder

TIMES = ("wall_s", "cpu_s")


class Crash(Exception):
    pass


def crash_at(step):
    def on_progress(progress):
        if progress.step == step:
            raise Crash

    return on_progress


def rows_of(folder):
    """The rows without what differs from run to run: times."""
    rows = Metrics(folder / FILE).rows()
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def last_of(folder):
    name = (folder / "checkpoints" / "last").read_text().strip()
    return folder / "checkpoints" / name


def assert_the_same_run(one, other):
    assert rows_of(one) == rows_of(other)
    for file in (WEIGHTS, "optimizer.safetensors"):
        assert sha256(last_of(one) / file) == sha256(last_of(other) / file), file


def test_a_run_learns_and_its_folder_holds_everything(tiny, tmp_path):
    config = tiny(tokens=150 * 64, learning_rate=1e-2, saves=2)
    result = train(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.config() == config
    assert json.loads((run.path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["status"] == "finished"
    assert result["tokens"] == 150 * 64
    assert result["diagnosis"]["kind"] == "trains"
    about = run.read("run.json")
    assert result["validation_loss"] < about["unigram_entropy"] - 0.3
    assert {"fingerprint", "addnorm", "parameters", "vocab_size", "bytes_per_token"} <= set(about)
    assert about["activation_bytes"] > 0 and about["flops_per_token"] > 6 * 2 * 12 * 16**2 / 2
    assert run.read("environment.json")["threads"] == torch.get_num_threads()
    assert len(run.checkpoints.names()) == 2


def test_rows_come_in_the_promised_form(tiny, tmp_path):
    train(tiny(evaluations=4, signals=4), tmp_path / "run")
    rows = Metrics(tmp_path / "run" / FILE).rows()
    steps = {event: [row["step"] for row in rows if row["event"] == event] for event in {row["event"] for row in rows}}
    assert steps == {
        "validation": [0, 5, 10, 15, 20],
        "signal": [0, 4, 9, 14, 19],
        "train": list(range(1, 21)),
        "end": [20],
    }
    for row in rows:
        assert row["tokens"] == 64 * row["step"]
        assert {"wall_s", "cpu_s"} <= set(row)
    signal = next(row for row in rows if row["event"] == "signal")
    assert {key: len(value) for key, value in signal.items() if isinstance(value, list)} == {
        "read_rms": 2,
        "update_rms": 2,
        "state_rms": 3,
        "state_grad_norm": 3,
        "weight_grad_norm": 2,
        "update_ratio": 2,
    }
    times = [row["wall_s"] for row in rows]
    assert times == sorted(times)


def test_a_long_run_has_two_hundred_rows_of_training_loss(tiny, tmp_path):
    train(tiny(tokens=250 * 4, context=4, batch_size=1, evaluations=1, signals=0, saves=0), tmp_path / "run")
    train_rows = [row for row in rows_of(tmp_path / "run") if row["event"] == "train"]
    assert len(train_rows) == 200
    assert train_rows[-1]["step"] == 250


def test_the_same_config_gives_the_same_run_bit_for_bit(tiny, tmp_path):
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)  # what the caller draws has no part in it
        train(tiny(dropout=0.1), tmp_path / name)
    assert_the_same_run(tmp_path / "one", tmp_path / "two")


def test_a_run_gives_the_callers_random_stream_back(tiny, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tiny(dropout=0.1), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        ("pre-norm", {"dropout": 0.1, "attention_dropout": 0.1}),
        ("post-norm(norm=batch)", {}),
        ("stochastic-depth(p_max=0.5)", {"arrangement": "parallel"}),
        ("layer-scale", {"precision": "bfloat16", "tie_embeddings": False}),
    ],
)
@pytest.mark.parametrize("crash", [2, 9, 13, 20])
def test_a_crashed_run_goes_on_as_if_nothing_had_happened(tiny, tmp_path, scheme, changes, crash):
    config = tiny(scheme=scheme, saves=4, evaluations=3, **changes)
    train(config, tmp_path / "whole")
    with pytest.raises(Crash):
        train(config, tmp_path / "crashed", on_progress=crash_at(crash))
    train(config, tmp_path / "crashed", resume=True)
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")


def test_a_run_may_crash_again_and_again(tiny, tmp_path):
    config = tiny(saves=10, signals=20, dropout=0.1)
    train(config, tmp_path / "whole")
    for step in (1, 3, 4, 9, 15, 19):
        with pytest.raises(Crash):
            train(config, tmp_path / "crashed", resume=True, on_progress=crash_at(step))
        with (tmp_path / "crashed" / "metrics.jsonl").open("a") as file:
            file.write('{"event": "tra')  # the crash tore a line
    train(config, tmp_path / "crashed", resume=True)
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")


def test_resume_falls_back_to_the_checkpoint_before_a_damaged_one_and_says_so(tiny, tmp_path):
    config = tiny(saves=4, dropout=0.1)
    train(config, tmp_path / "whole")
    with pytest.raises(Crash):
        train(config, tmp_path / "crashed", on_progress=crash_at(12))
    damaged = last_of(tmp_path / "crashed")
    assert damaged.name == "step-00000010"
    content = bytearray((damaged / WEIGHTS).read_bytes())
    content[-5] ^= 16
    (damaged / WEIGHTS).write_bytes(bytes(content))
    with pytest.warns(CheckpointWarning, match=r"step-00000010 is damaged: model.safetensors.*taking step 5"):
        train(config, tmp_path / "crashed", resume=True)
    assert_the_same_run(tmp_path / "whole", tmp_path / "crashed")
    assert (damaged.parent / "damaged-step-00000010").exists()  # nothing is lost


def test_a_run_that_has_ended_is_not_trained_again(tiny, tmp_path):
    result = train(tiny(), tmp_path / "run")
    before = sha256(tmp_path / "run" / "metrics.jsonl")
    again = train(tiny(), tmp_path / "run", resume=True, on_progress=crash_at(1))
    assert again == json.loads(json.dumps(result))
    assert sha256(tmp_path / "run" / "metrics.jsonl") == before


def test_resume_without_a_folder_starts_one(tiny, tmp_path):
    assert train(tiny(), tmp_path / "run", resume=True)["status"] == "finished"


def test_load_model_gives_the_best_checkpoint(tiny, tmp_path):
    config = tiny(tokens=40 * 64, evaluations=8, saves=8, learning_rate=3.0, warm_up=0.9, clip_norm=0)
    train(config, tmp_path / "run")
    losses = {row["step"]: row["loss"] for row in rows_of(tmp_path / "run") if row["event"] == "validation"}
    best = min((step for step in losses if step > 0), key=lambda step: losses[step])
    assert best < 40  # at this learning rate the loss rises again
    model, tokenizer, loaded = load_model(tmp_path / "run")
    assert loaded == config
    assert not model.training
    assert tokenizer.decode(tokenizer.encode("king")) == "king"
    from addnorm import tasks

    # float32 sums are stored and read back exactly, and the windows are the same.
    assert tasks.prepare(config).evaluate(model) == losses[best]


def test_load_model_takes_another_checkpoint_if_the_best_is_damaged(tiny, tmp_path):
    train(tiny(saves=2, evaluations=2, learning_rate=1e-2), tmp_path / "run")
    (last_of(tmp_path / "run") / WEIGHTS).write_bytes(b"")
    with pytest.warns(CheckpointWarning, match="taking step 10"):
        load_model(tmp_path / "run")
    assert last_of(tmp_path / "run").exists()  # reading moves nothing


def test_load_model_says_what_is_missing(tiny, tmp_path):
    with pytest.raises(UserError, match="give the folder of a run"):
        load_model(tmp_path / "nothing")
    train(tiny(saves=0), tmp_path / "run")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        load_model(tmp_path / "run")


def test_a_bpe_run_loads_with_its_own_tokenizer(tiny, tmp_path):
    train(tiny(tokenizer="bpe:300"), tmp_path / "run")
    model, tokenizer, _ = load_model(tmp_path / "run")
    assert model.config.vocab_size == tokenizer.vocab_size == RunFolder(tmp_path / "run").read("run.json")["vocab_size"]
    assert tokenizer.vocab_size > 256


def test_a_budget_of_seconds_ends_the_run_in_time(tiny, tmp_path):
    config = tiny(seconds=0.5, evaluations=5, signals=2)
    result = train(config, tmp_path / "run")
    assert 0.5 <= result["wall_s"] < 2.0  # a step takes a few ms; a busy machine may stall one
    rows = rows_of(tmp_path / "run")
    assert [row["event"] for row in rows].count("validation") <= 6
    assert rows[-2]["event"] == "validation"
    rates = [row["learning_rate"] for row in rows if row["event"] == "train"]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.1)
    assert rates[-1] < 0.2 * config.learning_rate


def test_progress_counts_to_the_end(tiny, tmp_path):
    seen = []
    train(tiny(), tmp_path / "run", on_progress=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 21))
    assert seen[-1].step == seen[-1].steps
    assert seen[-1].tokens == 20 * 64
    assert seen[-1].eta_s == pytest.approx(0, abs=1e-6)
    assert all(math.isfinite(progress.loss) for progress in seen)


def test_bfloat16_trains_close_to_float32(tiny, tmp_path):
    losses = [
        train(tiny(tokens=100 * 64, learning_rate=1e-2, precision=precision), tmp_path / precision)["validation_loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.2)  # 8 bits of mantissa; the losses fall from 5.9 to about 2


def test_clipping_bounds_the_step_and_zero_means_none(tiny, tmp_path):
    for name, clip in (("off", 0.0), ("loose", 1e9), ("tight", 1e-3)):
        train(tiny(clip_norm=clip, evaluations=1, signals=0), tmp_path / name)
    assert rows_of(tmp_path / "off") == rows_of(tmp_path / "loose")
    assert rows_of(tmp_path / "off") != rows_of(tmp_path / "tight")


def test_a_checkpoint_of_a_warning_free_run_warns_of_nothing(tiny, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", RepeatWarning)  # the text of these tests is one sentence again and again
        train(tiny(), tmp_path / "run")
        load_model(tmp_path / "run")


def test_the_config_is_read_back_with_every_field(tiny, tmp_path):
    config = replace(tiny(), warm_up=0.3, max_bad_steps=2, num_kv_heads=1)
    train(config, tmp_path / "run")
    assert asdict(RunFolder(tmp_path / "run").config()) == asdict(config)


@pytest.mark.slow
def test_training_does_not_wait_for_torchs_compiler_to_be_imported(tiny, tmp_path):
    program = """
import json, sys
from addnorm.config import RunConfig
from addnorm.training.run import train
train(RunConfig(**json.loads(sys.argv[1])), sys.argv[2])
assert "torch._dynamo" not in sys.modules, "its import takes 2 s of every command"
"""
    command = [sys.executable, "-c", program, json.dumps(asdict(tiny())), str(tmp_path / "run")]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_going_on_with_another_number_of_threads_is_said(tiny, tmp_path):
    with pytest.raises(Crash):
        train(tiny(saves=4), tmp_path / "run", on_progress=crash_at(12))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with pytest.warns(ResumeWarning, match=f"started with {threads} threads and goes on with {threads + 1}"):
            train(tiny(saves=4), tmp_path / "run", resume=True)
    finally:
        torch.set_num_threads(threads)
