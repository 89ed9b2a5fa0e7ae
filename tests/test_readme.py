"""The README's code runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import addnorm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def ran() -> dict:
    """The names that the README's Python blocks define, run one after the other as a reader would."""
    names: dict = {"__name__": "readme"}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    return names


def test_the_code_in_the_readme_runs(ran: dict) -> None:
    assert ran["logits"].shape == (2, 32, 256)
    assert ran["text"].shape == (1, 24)
    assert ran["z"].shape == (2, 32, 64)
    assert ran["hidden"].shape == (2, 32, 64)


def test_the_loop_in_the_readme_is_what_the_stack_does(ran: dict) -> None:
    embedding = torch.randn(2, 5, 64)
    # A kernel that takes several sites at once rounds otherwise than the equations: torch's tolerance for float32.
    torch.testing.assert_close(ran["body"](ran["stack"], embedding), ran["stack"](embedding))


def test_the_readmes_own_scheme_learns(ran: dict) -> None:
    model = ran["mine"]
    model(torch.randint(256, (1, 9))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_in_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_public_names_are_loaded_on_first_use() -> None:
    assert all(getattr(addnorm, name) is not None for name in addnorm.__all__)
    with pytest.raises(AttributeError, match="it has"):
        addnorm.no_such_name  # noqa: B018
