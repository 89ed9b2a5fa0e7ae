"""A run's event files for TensorBoard, in the folder `tensorboard` of the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm.tracking.curves import Curves
from addnorm.tracking.rows import Rows
from addnorm.tracking.sinks import points_to

FOLDER = "tensorboard"
PATTERN = "events.out.tfevents.*"


class TensorBoard:
    """Event files that hold what metrics.jsonl holds, at every time.

    A run that goes on gets a new file with all rows that are there: one curve, without the steps that it takes a second
    time, and without a gap where a killed process had not written yet. The file says that it begins again, which a
    TensorBoard that is open obeys; the one before is taken away at the end. The time of a point is that of training.

    Args:
        run: the run's folder.
        metrics: its rows.
        about: what the run is, shown as text.

    Raises:
        OSError: the folder cannot be written.
        ImportError: tensorboard is not installed, or not as torch needs it.
    """

    def __init__(self, run: Path, metrics: Path, about: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder, rows = run / FOLDER, Rows(metrics).new()
        self.old = sorted(folder.glob(PATTERN))
        if self.old:
            _wait_for_a_later_name(self.old[-1])
        # Every file says that it begins at step 0: TensorBoard takes the first that does for no new beginning.
        self.writer = SummaryWriter(str(folder), purge_step=0)
        write = points_to(self.writer)
        assert write is not None
        self.curves, self.write = Curves(), write
        self.began = time.time() - max((float(row.get("wall_s", 0)) for row in rows), default=0.0)
        self.writer.add_text("config", f"```\n{json.dumps(dict(about), indent=2)}\n```", 0, self.began)
        for row in rows:
            self._add(row)
        self.writer.flush()

    def take(self, row: Mapping[str, Any]) -> None:
        """Add the points of one row."""
        self._add(row)
        self.writer.flush()

    def close(self) -> None:
        """Write what is left, and leave one file."""
        self.writer.close()
        for path in self.old:
            path.unlink(missing_ok=True)

    def _add(self, row: Mapping[str, Any]) -> None:
        points = self.curves.of(row)
        if points:
            self.write(int(row["step"]), points, self.began + float(row["wall_s"]))


def _wait_for_a_later_name(last: Path) -> None:
    """TensorBoard reads files in the order of their names, which tell the second in which each was begun."""
    begun = last.name.removeprefix(PATTERN.rstrip("*")).partition(".")[0]
    while begun.isdigit() and 0 <= int(begun) - int(time.time()) < 2:
        time.sleep(0.05)
