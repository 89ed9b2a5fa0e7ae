"""The page about diagnoses names what there is to be named; tests/test_code_blocks.py runs its code."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from addnorm.diagnosis.finding import Cause

PAGE = (Path(__file__).parent.parent / "docs" / "how-to-diagnose-a-model.md").read_text(encoding="utf-8")


def test_every_cause_is_explained() -> None:
    table = PAGE.partition("## What is named")[2].partition("\n\n## ")[0]
    assert all(cause.partition(" ")[0] in table for cause in get_args(Cause))
