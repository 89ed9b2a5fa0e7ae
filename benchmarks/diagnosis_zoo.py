"""Seeded faults and sound models: what `addnorm.diagnose` says, and beside it other diagnostics of training.

    python benchmarks/diagnosis_zoo.py [LAYERS ...]

Needs the tests' folder beside it, and shows torchmortem, traintools and torchdiag where they are installed. A fault is
found if its cause is named at its place; by a peer, more generously, if it says anything that it does not say of the
same net without the fault, and in its place if that names the faulty sublayer.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import addnorm  # noqa: E402
from addnorm.training.environment import describe  # noqa: E402
from diagnosis import zoo  # noqa: E402
from diagnosis.models_of_others import SOUND  # noqa: E402

STEPS = 10
Said = set[str]


def trained(model: nn.Module, each: Callable[[float], None] = lambda loss: None) -> None:
    """A few steps of a language model's training; the last gradients are left where they are."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        ids = zoo.batch(rows=8, seed=step)
        loss = nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        each(float(loss.detach()))


def traintools(model: nn.Module) -> Said:
    from traintools import GradientHealthMonitor

    trained(model)
    return {warning.partition("(")[0] for warning in GradientHealthMonitor().inspect(model, lr=1e-3).warnings}


def torchdiag(model: nn.Module) -> Said:
    import torchdiag as peer

    trained(model)
    with contextlib.redirect_stdout(io.StringIO()):
        found = peer.check_gradients(model)
    return {f"{name}: {one['status']}" for name, one in found.items() if one["status"] != "OK"}


def torchmortem(model: nn.Module) -> Said:
    from torchmortem import Autopsy

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with Autopsy(model, optimizer=optimizer, sampling="thorough") as autopsy:
        for step in range(STEPS):
            optimizer.zero_grad()
            ids = zoo.batch(rows=8, seed=step)
            loss = nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            autopsy.step(loss=float(loss.detach()))
    report = autopsy.get_report()
    found = report.findings if report is not None else []
    return {f"{one.title.split(' (')[0]}: {layer}" for one in found for layer in (one.affected_layers or [""])}


PEERS: dict[str, Callable[[nn.Module], Said]] = {
    "torchmortem": torchmortem,
    "traintools": traintools,
    "torchdiag": torchdiag,
}


def ours(layers: list[int]) -> None:
    """The zoo, the net without its faults, and fresh models of others."""
    print("fault | named at its place | something else named as well")
    total = right = 0
    for name, (cause, _) in zoo.FAULTS.items():
        found = beside = tried = 0
        for num_layers in layers:
            for order in ("pre", "post"):
                for place in zoo.places(num_layers):
                    model = zoo.seeded(name, order, num_layers, place)
                    said = [
                        (one.cause, one.place) for one in addnorm.diagnose(model, zoo.batch(), measures=()).findings
                    ]
                    tried, found = tried + 1, found + ((cause, place.name) in said)
                    beside += any(one != (cause, place.name) for one in said)
        total, right = total + tried, right + found
        print(f"{name} ({cause}) | {found} of {tried} | {beside}", flush=True)
    print(f"all | {right} of {total} |")
    alarms = {}
    for name, make in SOUND.items():
        model, batch = make()
        alarms[name] = len(addnorm.diagnose(model, batch, measures=()).findings)
    for order in ("pre", "post"):
        for num_layers in layers:
            alarms[f"net, {order}, {num_layers}"] = len(
                addnorm.diagnose(zoo.Net(order, num_layers), zoo.batch(), measures=()).findings
            )
    loud = {name: count for name, count in alarms.items() if count}
    print(f"sound models: {len(alarms)}, findings on {len(loud)} of them {loud or ''}")


def peers(num_layers: int) -> None:
    """Each peer on one place of each fault, and on the net without it."""
    for peer, look in PEERS.items():
        try:
            sound = {order: look(zoo.Net(order, num_layers)) for order in ("pre", "post")}
        except ImportError:
            print(f"{peer}: not installed")
            continue
        told = placed = tried = failed = 0
        for name in zoo.FAULTS:
            for order in ("pre", "post"):
                place, tried = zoo.places(num_layers)[1], tried + 1
                try:
                    more = look(zoo.seeded(name, order, num_layers, place)) - sound[order]
                except Exception:  # a peer may not survive what it looks at
                    failed += 1
                    continue
                told += bool(more)
                placed += any(place.name in one for one in more) and all(f"layers.{place.layer}" in one for one in more)
        alarms = ", ".join(f"{len(said)} findings on the sound {order} net" for order, said in sound.items())
        faulty = f"says more of {told} of {tried} faulty nets, and only of the faulty layer of {placed}"
        print(f"{peer}: {faulty}; raises at {failed}; {alarms}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = [int(word) for word in sys.argv[1:]] or [6, 24]
    start = time.process_time()
    about = describe()
    print(f"processor: {about['processor']}, {about['instructions']}; torch {torch.__version__}")
    ours(chosen)
    print(f"{time.process_time() - start:.0f} s of processor")
    peers(6)
