"""The process that writes a run to trackio: `python -m addnorm.tracking.trackio_process RUN METRICS PROJECT NAME`.

It reads the rows from the run's file, each once, until its standard input ends: with the training, however that ends.
`trackio.json` in the run's folder says which run of trackio's database is this one's; a training that goes on takes
that out and writes it anew, so that its curves have no step twice and none too few.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.tracking.curves import Curves
from addnorm.tracking.rows import Rows
from addnorm.tracking.sinks import points_to
from addnorm.tracking.trackio import forget

POLL_S = 0.5
FILE = "trackio.json"
LOCK = ".trackio.lock"


def main(folder: Path, metrics: Path, project: str, name: str) -> None:
    """Write the rows that are there and those that come, until standard input ends."""
    ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    warnings.showwarning = _give_up
    with alone(folder / LOCK):
        run = _begin(folder, project, name)
        write, curves, rows, over = points_to(run), Curves(), Rows(metrics), False
        assert write is not None
        while not over:
            over = ended.wait(POLL_S)  # before the rows are read: then they are the last
            for row in rows.new():
                if points := curves.of(row):
                    write(int(row["step"]), points)
        run.finish()


def _begin(folder: Path, project: str, name: str) -> Any:
    """A run of trackio's database; the one that an earlier process wrote for this folder is taken out."""
    import trackio

    note = folder / FILE
    if note.is_file():
        before = read_object(note)
        forget(str(before["project"]), str(before["id"]))
    about = {**read_object(folder / "config.json"), "folder": str(folder)}
    run = trackio.init(project, name, config=about, embed=False, auto_log_gpu=False, auto_log_cpu=False)
    write_json(note, {"project": project, "name": name, "id": run.id})
    return run


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until a process that an earlier training left has written its last rows."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wait_for_the_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()


def _give_up(message: Warning | str, category: type[Warning], file: str, *place: Any, **more: Any) -> None:
    """trackio warns where it loses rows, and goes on; the training is to know."""
    if issubclass(category, UserWarning) and "trackio" in Path(file).parts:
        print(message, file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
