#!/usr/bin/env bash
# torch 2.13.0: on a machine without an accelerator torch.manual_seed costs more the deeper it is called.
#
# Expected: with no GPU, `torch.manual_seed(n)` sets the state of one CPU generator, which takes about a microsecond
# wherever the call stands.
# Observed: it also asks every kind of accelerator to seed itself once it is initialised, and puts the text of the
# whole Python stack beside each request, for an error message that never comes: `traceback.format_stack` runs three
# times a call. 0.1 ms from a script's top level, 0.3 ms under 30 frames, 0.8 ms under 100, against 0.001 ms of
# `torch.default_generator.manual_seed(n)`, which leaves the same state (AMD EPYC, Zen 4, busy). Code that seeds
# before each module it initialises, under a test runner's 50 frames, spends most of its time so.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import time
import traceback

import torch

if torch.cuda.is_available():
    raise SystemExit("this machine has an accelerator")


def under(frames, compute):
    return compute() if frames == 0 else under(frames - 1, compute)


def microseconds(seed):
    def many():
        began = time.process_time()
        for _ in range(500):
            seed(1)
        return (time.process_time() - began) / 500 * 1e6

    return many


for frames in (1, 30, 100):
    whole, alone = (under(frames, microseconds(s)) for s in (torch.manual_seed, torch.default_generator.manual_seed))
    print(f"under {frames:3} frames: torch.manual_seed {whole:6.1f} us, the CPU's generator alone {alone:5.2f} us")

torch.manual_seed(7)
whole = torch.get_rng_state()
torch.default_generator.manual_seed(7)
assert torch.equal(whole, torch.get_rng_state())

called, original = [], traceback.format_stack
traceback.format_stack = lambda *given, **named: called.append(1) or original(*given, **named)
torch.manual_seed(1)
print("times that one call formats the stack:", len(called))
assert called
PYTHON
