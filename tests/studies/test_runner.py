from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from addnorm.cli.progress import Live
from addnorm.studies.crew import Job
from addnorm.studies.eta import RemainingTime, Work
from addnorm.studies.runner import Signalled, StudyProgress, train_all
from addnorm.studies.spec import CompareConfig, runs

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
SPEC = CompareConfig(schemes=("pre-norm", "post-norm", "plain"), layers=(1,), learning_rates=(2e-3,), seeds=2)


def _jobs(folder: Path) -> list[Job]:
    return [
        Job(name=r.name, config=r.config, folder=folder / "runs" / r.name, work=Work(kind=r.arm.id, size=1.0))
        for r in runs(SPEC)
    ]


def test_every_job_is_trained_once_on_few_processes(tmp_path: Path) -> None:
    seen: list[StudyProgress] = []
    assert train_all(_jobs(tmp_path), 2, seen.append, FAKE) == {}
    lines = (tmp_path / "runs" / "order.txt").read_text().split("\n")[:-1]
    assert sorted(line.split()[0] for line in lines) == sorted(job.name for job in _jobs(tmp_path))
    assert len({line.split()[1] for line in lines}) <= 2
    assert seen[-1].done == seen[-1].total == 6 and seen[-1].failed == 0 and seen[-1].running == ()


@pytest.mark.parametrize(
    ("mode", "words"),
    [("dies at plain", "killed by signal 9: a last word"), ("fails at plain", "the disk is full")],
)
def test_a_run_that_fails_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: str
) -> None:
    monkeypatch.setenv("FAKE_WORKER", mode)
    failures = train_all(_jobs(tmp_path), 2, None, FAKE)
    assert sorted(failures) == ["plain-L1-lr0.002/seed-0", "plain-L1-lr0.002/seed-1"]
    assert all(words in error for error in failures.values())
    assert len((tmp_path / "runs" / "order.txt").read_text().splitlines()) == 4


def test_what_is_lost_on_the_way_is_told_at_once_and_other_warnings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_WORKER", "warns at plain")
    seen: list[StudyProgress] = []
    with Live() as live:
        train_all(_jobs(tmp_path), 1, lambda now: (seen.append(now), live.of_comparison(now)), FAKE)
    assert [now.message for now in seen if now.message and "is damaged" in now.message] != []
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("addnorm: run ")]
    assert told == [f"addnorm: run plain-L1-lr0.002/seed-{k}: trackio is lost" for k in (0, 1)]


def test_a_worker_that_cannot_start_is_said_for_every_run(tmp_path: Path) -> None:
    failures = train_all(_jobs(tmp_path), 2, None, (str(tmp_path / "no-such-python"),))
    assert len(failures) == 6 and all("could be started" in error for error in failures.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setenv("FAKE_WORKER", "hangs at plain")
    before = signal.getsignal(number)
    threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
    began = time.monotonic()
    with pytest.raises(Signalled) as stop:
        train_all(_jobs(tmp_path), 2, None, FAKE)
    # The workers would sleep for 600 s.
    assert stop.value.signal_number == number and time.monotonic() - began < 20
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_a_worker_that_will_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_WORKER", "will not stop at plain")

    def twice() -> None:
        while len(list(tmp_path.glob("worker-*"))) < 2:
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    (tmp_path / "runs").mkdir()
    threading.Thread(target=twice).start()
    with pytest.raises(Signalled):
        train_all(_jobs(tmp_path), 2, None, FAKE)
    pids = [int(path.name.removeprefix("worker-")) for path in tmp_path.glob("worker-*")]
    time.sleep(0.5)
    assert len(pids) == 2 and not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_remaining_time_follows_the_measured_rates() -> None:
    work = {
        name: Work(kind=name[0], size=size) for name, size in (("a1", 1.0), ("a2", 1.0), ("b1", 10.0), ("b2", 10.0))
    }
    remaining = RemainingTime(work=work, workers=2)
    assert remaining.estimate() is None
    remaining.observe("a2", 0.01, 3.0)  # its start, not its pace
    assert remaining.estimate() is None
    remaining.observe("a2", 0.0, 0.0)
    remaining.observe("a1", 0.5, 2.0)  # a whole a takes 4 s, and so b 40 s by its size
    assert remaining.estimate() == pytest.approx((2 + 4 + 40 + 40) / 2)
    remaining.observe("a1", 1.0, 4.0)
    remaining.observe("b1", 0.1, 1.0)  # b takes 10 s, whatever its size
    assert remaining.estimate() == pytest.approx((0 + 4 + 9 + 10) / 2)
    for name in work:
        remaining.observe(name, 1.0, 3.0)
    assert remaining.estimate() == 0.0
