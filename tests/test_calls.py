"""How much code a forward runs through, and what a scheme's file may hold."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import addnorm
from addnorm import Transformer, schemes
from addnorm.kernels import linear_routes, native

HOME = str(Path(addnorm.__file__).parent)
needs_compiler = pytest.mark.skipif(native.library("add_norm") is None, reason="there is no C++ compiler")


def calls(scheme: str) -> Counter[str]:
    """Python-level calls of a forward of two layers in training, by file of this library."""
    model = Transformer(schemes.parse(scheme), vocab_size=64, d_model=32, num_heads=4, num_layers=2).train()
    ids, counted = torch.zeros(4, 16, dtype=torch.long), Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            counted[frame.f_code.co_filename.removeprefix(HOME)] += 1

    with linear_routes.using("torch", torch.float32):  # another one, of another machine, asks once more a linear map
        model(ids)  # what is compiled and found once
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            model(ids)
        finally:
            sys.setprofile(before)
    return counted


@needs_compiler
@pytest.mark.parametrize(("scheme", "most"), [("pre-norm", 250), ("mhc", 400), ("attention-residuals", 350)])
def test_a_forward_runs_through_little_code(scheme, most):
    counted = calls(scheme)
    assert counted.total() < most, counted.most_common()


@needs_compiler
@pytest.mark.parametrize(
    ("scheme", "question"),
    [
        ("pre-norm", "layers.add_norm_route.fits"),
        ("mhc", "kernels.mhc_site.fits"),
        ("attention-residuals", "layers.depth_history_route.begin"),
    ],
)
def test_whether_a_kernel_takes_the_state_is_asked_once_a_forward(scheme, question, monkeypatch):
    asked = []
    original = pkgutil.resolve_name(f"addnorm.{question}")
    monkeypatch.setattr(f"addnorm.{question}", lambda *given: (asked.append(given), original(*given))[1])
    for depth in (1, 5):
        model = Transformer(schemes.parse(scheme), vocab_size=64, d_model=32, num_heads=4, num_layers=depth)
        asked.clear()
        model(torch.zeros(4, 16, dtype=torch.long))
        assert len(asked) == 1


@pytest.mark.parametrize("path", sorted(Path(schemes.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_a_scheme_holds_equations_and_leaves_kernels_to_recipes(path):
    text = path.read_text(encoding="utf-8")
    for word in (
        r"kernels(\.| import )(native|choice|gpu|rebuild|mhc_site|depth_history|add_norm)\b",
        r"type\(self\)",
        r"\bHeld\b",
        r"\bstore_every\b",
        r"\b(native|choice)\.",
    ):
        assert not re.search(word, text), word
