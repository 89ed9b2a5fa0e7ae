"""A step by the tape leaves the bits that it leaves without, or no tape is played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.kernels.call_tape import Tape
from addnorm.training import taped_gradient
from addnorm.training.accumulation import BatchGradient
from addnorm.training.optimizer import Optimizer
from addnorm.training.run import train
from addnorm.training.seeding import seeded
from addnorm.training.taped_gradient import TapedGradient

SMALL = {"num_layers": 2, "d_model": 16, "num_heads": 2, "context": 24, "batch_size": 2}


class Steps:
    """A training without a folder."""

    def __init__(self, **changes: object) -> None:
        self.config = RunConfig(**SMALL | changes)
        with seeded(0):
            self.problem = tasks.prepare(self.config)
            self.model = self.problem.build(self.config).train()
        self.optimizer = Optimizer(self.model, self.config)
        gradient = BatchGradient(self.config, self.problem)
        self.taped = TapedGradient(gradient, self.problem, self.model, self.optimizer)
        self.at = 0

    def run(self, count: int, *, tape: bool = True) -> list[float]:
        if not tape:
            self.taped.why_not = "not asked for"
        torch.manual_seed(1)
        return [self.step() for _ in range(count)]

    def step(self) -> float:
        loss = self.taped.backward(self.problem.train_batch(self.at))
        self.at += 1
        assert self.optimizer.gradient_norm().isfinite()
        self.optimizer.step(1e-2)
        getattr(self.model, "after_step_", lambda: None)()
        self.optimizer.clear_gradient()
        return loss

    def state(self) -> list[Tensor]:
        live = self.optimizer.live().values()
        return [one.clone() for one in (*live, *self.model.buffers(), torch.get_rng_state())]


def assert_same_bits(count: int = 8, **changes: object) -> TapedGradient:
    taped, plain = Steps(**changes), Steps(**changes)
    losses = taped.run(count)
    state = taped.state()
    assert losses == plain.run(count, tape=False)
    assert all(map(torch.equal, state, plain.state()))
    return taped.taped


SCHEMES = ("pre-norm", "post-norm", "mhc", "block-attention-residuals", "n-gpt", "krom-hc", "stochastic-depth", "mudd")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_train_by_the_tape_to_the_bit(scheme):
    found = assert_same_bits(scheme=scheme)
    assert found.why_not == "" and found.checks == 2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["image-classification", "classification"])
def test_tasks_train_by_the_tape_to_the_bit(task):
    shape = {**tasks.get(task).defaults, "task": task, "num_layers": 1, "d_model": 32, "num_heads": 2}
    found = assert_same_bits(6, **{key: shape[key] for key in shape if key not in ("steps", "tokens")})
    assert found.checks >= 1  # batches of texts differ in length


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.2, "attention_dropout": 0.1},
        {"precision": "bfloat16"},
        {"memory": "rebuild"},
        {"memory": "checkpoint"},
    ],
    ids=str,
)
def test_dropout_precision_and_memory_change_nothing_of_that(changes):
    assert assert_same_bits(**changes).why_not == ""


def test_a_batch_of_another_shape_runs_the_model():
    steps = Steps()
    steps.run(6)
    long = torch.cat([steps.problem.train_batch(9)[0]] * 2)
    batch = tuple(torch.cat([one] * 2) for one in steps.problem.train_batch(9))
    assert len(long) == len(batch[0])
    plain = Steps()
    plain.run(6, tape=False)
    assert steps.taped.backward(batch) == plain.taped.backward(batch)


class Counting(nn.Module):
    """Does another thing from its tenth call on, as a schedule inside a model would."""

    def __init__(self, inner: nn.Module, changes_at: int) -> None:
        super().__init__()
        self.inner, self.calls, self.changes_at = inner, 0, changes_at

    def forward(self, *given: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(*given) * (1.0 if self.calls < self.changes_at else 2.0)


def put_in(steps: Steps, changes_at: int) -> Counting:
    block = steps.model.stack.blocks[1]
    block.sublayer = Counting(block.sublayer, changes_at)
    return block.sublayer


def test_a_module_of_others_is_always_run():
    steps = Steps()
    counting = put_in(steps, 5)
    again = TapedGradient(steps.taped.gradient, steps.problem, steps.model, steps.optimizer)
    assert again.why_not == "Counting may do another thing at every step"
    steps.taped = again
    steps.run(7)
    assert counting.calls == 7


def test_a_tape_that_leaves_other_bits_is_never_played_again(monkeypatch):
    monkeypatch.setattr(taped_gradient, "_is_ours", lambda kind: True)
    steps, plain = Steps(), Steps()
    put_in(steps, 4)  # the call after the one that was taped
    put_in(plain, 4)
    assert steps.run(8) == plain.run(8, tape=False)
    assert steps.taped.why_not == "a step by the tape had other bits"


def test_a_tape_is_looked_at_again_and_again(monkeypatch):
    monkeypatch.setattr(taped_gradient, "_is_ours", lambda kind: True)
    monkeypatch.setattr(taped_gradient, "EVERY", 6)
    steps = Steps()
    counting = put_in(steps, 6)
    steps.run(5)
    assert counting.calls == 4 and steps.taped.why_not == ""  # the fifth was played
    steps.run(1)
    assert steps.taped.why_not == "" and counting.calls == 5
    steps.taped.steps = 11
    steps.run(1)
    assert steps.taped.why_not == "a step by the tape had other bits"


def test_what_numbers_decide_cannot_be_played():
    x = torch.ones(4)
    for run in (lambda: x.sum().item(), lambda: x.nonzero(), lambda: x[x > 0], lambda: bool((x > 0).all())):
        tape = Tape(1_000_000)
        with tape.taking():
            run()
        assert "lets numbers decide" in tape.spoilt
    tape = Tape(8)
    with tape.taking():
        torch.ones(100) + 1
    assert "would keep more than" in tape.spoilt


def test_a_tape_plays_what_was_called_on_new_numbers():
    x, total = torch.arange(4.0), torch.zeros(2)
    tape = Tape(1_000_000)
    with tape.taking():
        y = (x.view(2, 2).t() * 3).sum(0).sort().values
        total.add_(y)
    x.copy_(torch.tensor([5.0, 1.0, 2.0, 0.0]))
    total.zero_()
    tape.play()
    assert y.tolist() == [6.0, 18.0] and total.tolist() == [6.0, 18.0]


def test_a_whole_run_leaves_the_same_rows(tmp_path: Path, monkeypatch):
    config = RunConfig(**SMALL, steps=12, evaluations=2, signals=2)
    train(config, tmp_path / "tape")
    monkeypatch.setattr(taped_gradient, "_why_not", lambda *_: "not asked for")
    train(config, tmp_path / "plain")
    rows = [map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines()) for name in ("tape", "plain")]
    clock = ("wall_s", "cpu_s", "crc32")
    one, two = ([{key: row[key] for key in row if key not in clock} for row in found] for found in rows)
    assert one == two and sum(row["event"] == "signal" for row in one) == 3


def test_hooks_that_are_hung_in_later_are_called():
    steps, plain, seen = Steps(), Steps(), []
    assert steps.run(6) == plain.run(6, tape=False)
    handle = steps.model.stack.blocks[0].register_forward_hook(lambda *_: seen.append(1))
    assert steps.step() == plain.step() and seen == [1]
    handle.remove()
    assert steps.step() == plain.step() and seen == [1]


def test_a_step_without_a_number_proves_nothing_of_a_tape():
    steps = Steps()
    steps.run(3)
    weight = steps.model.embedding.tokens.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    assert steps.taped.backward(steps.problem.train_batch(3)) != 0.0
    assert steps.taped.checks == 1 and steps.taped.why_not == ""
    with torch.no_grad():
        weight.copy_(before)
    steps.optimizer.clear_gradient()
    steps.step()
    assert steps.taped.checks == 2
