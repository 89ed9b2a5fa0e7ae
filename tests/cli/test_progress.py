"""Lines of progress where standard error is no terminal."""

from __future__ import annotations

import re

import pytest

from addnorm.cli import progress
from addnorm.cli.progress import Lines
from command_line import here

BRIEF = ("train", "--steps", "60", "--d-model", "16", "--num-heads", "2", "--num-layers", "1", "--evaluations", "1")


@pytest.fixture
def clock(monkeypatch):
    """A time that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def _told(lines, clock, capsys, moments):
    """At which of the moments, seconds and share, a line came."""
    found = []
    for seconds, share in moments:
        clock[0] = 100.0 + seconds
        lines.tell("training", share, "step 1")
        found += [(seconds, share)] if capsys.readouterr().err else []
    return found


def test_a_line_comes_every_30_seconds_or_5_percent(clock, capsys):
    slow = [(float(second), second / 10_000) for second in range(100)]
    assert [second for second, _ in _told(Lines(), clock, capsys, slow)] == [30.0, 60.0, 90.0]
    fast = [(float(second), second / 100) for second in range(100)]
    assert [share for _, share in _told(Lines(), clock, capsys, fast)] == pytest.approx([i / 20 for i in range(1, 20)])


def test_a_fast_run_prints_no_more_than_a_line_a_second(clock, capsys):
    moments = [(i / 100, i / 250) for i in range(251)]
    assert len(_told(Lines(), clock, capsys, moments)) == 2


def test_the_seconds_between_two_lines_can_be_chosen(clock, capsys):
    moments = [(float(second), second / 20) for second in range(20)]
    assert [second for second, _ in _told(Lines(7.0), clock, capsys, moments)] == [7.0, 14.0]


def test_a_line_cannot_be_taken_for_an_order_to_the_terminal(clock, capsys):
    lines = Lines(0.1)
    lines.tell("training", 0.0, "")
    clock[0] += 1
    lines.tell("training", None, "a\x1b[31m\nb")
    assert capsys.readouterr().err == "training: a\\x1b[31m b\n"


@pytest.fixture
def in_a_folder(monkeypatch, tmp_path):
    """Commands in this process: `test_commands.py` has a comparison whose lines come from one of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder")
def test_a_training_into_a_file_says_where_it_stands():
    seen = here(*BRIEF, "--out", "run", "--log-every", "0.001")
    assert seen.code == 0
    lines = seen.err.splitlines()
    assert len(lines) > 30
    plain = r"training \d+%: step \d+/60, loss \d+\.\d{3}(, ([\d.]+ (h|min|s) )+left)?(, [\d,]+ tokens/s)?"
    assert all(re.fullmatch(plain, line) for line in lines), lines
    assert any("left" in line and "tokens/s" in line for line in lines)


@pytest.mark.usefixtures("in_a_folder")
def test_a_comparison_into_a_file_says_where_its_runs_stand():
    words = ("compare", "--schemes", "pre-norm", "--layers", "1", "--seeds", "2", "--workers", "1", "--steps", "60")
    seen = here(*words, "--dim", "16", "--out", "out", "--log-every", "0.001")
    assert seen.code == 0
    found = [re.fullmatch(r"comparing \d+%: ([012])/2 runs.*", line) for line in seen.err.splitlines()]
    assert all(found) and {line[1] for line in found if line} >= {"0"}
    assert re.search(r"[\d,]+ tokens/s, pre-norm-L1-lr0.004/seed-\d step \d+/60 loss \d\.\d{3}", seen.err)


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize("word", ["--quiet", "--json"])
def test_nothing_is_shown_on_the_way_where_that_was_asked(word):
    seen = here(*BRIEF, "--out", "run", word, "--log-every", "0.001")
    assert seen.code == 0 and seen.err == ""
    assert "validation" in seen.out
