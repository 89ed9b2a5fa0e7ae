#!/usr/bin/env bash
# tensorboard 2.21.0 with torch 2.13.0: `SummaryWriter(purge_step=N)` hides nothing from a TensorBoard without its data
# server, unless the run's first writer was given a purge_step too.
#
# Expected: as torch's documentation says, events of an earlier process with a step of N or more are purged and hidden.
# Observed: the reader that TensorBoard uses with `--load_fast=false` (and wherever its data server has no binary) takes
# the first mark of a start (`SessionLog.START`) for the beginning and purges at the second only; a writer without
# purge_step writes none. A resumed run then shows the steps from N on twice. The reader for scripts (`event_accumulator`) purges.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy tensorboard==2.21.0
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as OfTheServer
from torch.utils.tensorboard import SummaryWriter


def killed_at_step_5_and_resumed_at_3(**first):
    folder = tempfile.mkdtemp()
    with SummaryWriter(folder, **first) as writer:
        for step in range(1, 6):
            writer.add_scalar("loss", 1.0, step)
    time.sleep(1.1)  # files are read in the order of the second in their names
    with SummaryWriter(folder, purge_step=4) as writer:
        for step in range(4, 7):
            writer.add_scalar("loss", 2.0, step)
    shown = [point.step for point in OfTheServer(folder).Reload().Tensors("loss")]
    return shown, [point.step for point in EventAccumulator(folder).Reload().Scalars("loss")]


without, scripts = killed_at_step_5_and_resumed_at_3()
with_start, _ = killed_at_step_5_and_resumed_at_3(purge_step=0)
print(f"first writer without purge_step: the server shows {without}, the reader for scripts {scripts}")
print(f"first writer with purge_step=0:  the server shows {with_start}")
assert without == [1, 2, 3, 4, 5, 4, 5, 6], "the behaviour has changed"
assert with_start == scripts == [1, 2, 3, 4, 5, 6], "the behaviour has changed"
PYTHON
