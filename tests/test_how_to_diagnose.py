"""The page about diagnoses: its code runs, and says what the page says it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "how-to-diagnose-a-model.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "how-to-diagnose-a-model.md", "exec", dont_inherit=True), names)
    return names


def test_the_fault_is_found_and_printed_as_shown(ran: dict[str, Any]) -> None:
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert str(ran["found"]).startswith(shown.partition("...")[0])
    assert [finding.place for finding in ran["found"].findings] == ["3.mlp"]


def test_the_encoder_holds_and_the_recorder_recorded(ran: dict[str, Any]) -> None:
    assert ran["certificate"].holds
    assert [row["step"] for row in ran["recorder"].rows] == [0, 2]


def test_every_cause_is_explained() -> None:
    from typing import get_args

    from addnorm.diagnosis.finding import Cause

    table = PAGE.partition("## What is named")[2].partition("\n\n## ")[0]
    assert all(cause.partition(" ")[0] in table for cause in get_args(Cause))
