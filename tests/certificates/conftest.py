"""Certificates for tests: what they measure is not judged here, so it is measured briefly."""

import pytest

from addnorm.certificates import costs


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "REPEATS", 2)
