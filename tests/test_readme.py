"""The README's code runs, and what it names exists; both languages say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import addnorm

ROOT = Path(__file__).parent.parent
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def run(page: str, first: int | None = None) -> dict:
    """The names that a page's Python blocks define, run one after the other as a reader would."""
    names: dict = {"__name__": "page"}
    text = (ROOT / page).read_text(encoding="utf-8")
    for code in [code for language, code in BLOCK.findall(text) if language == "python"][:first]:
        exec(compile(code, page, "exec", dont_inherit=True), names)
    return names


@pytest.fixture(scope="module")
def ran() -> dict:
    return run("README.md")


def test_the_code_in_the_readme_runs(ran: dict) -> None:
    assert ran["logits"].shape == (2, 32, 256)
    assert ran["text"].shape == (1, 24)
    assert ran["hidden"].shape == (2, 32, 64)


def test_the_loop_in_the_readme_is_what_the_stack_does(ran: dict) -> None:
    embedding = torch.randn(2, 5, 64)
    # A kernel that takes several sites at once rounds otherwise than the equations: torch's tolerance for float32.
    torch.testing.assert_close(ran["body"](ran["stack"], embedding), ran["stack"](embedding))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 80
    ((_, code),) = [(language, code) for language, code in BLOCK.findall(README) if "import addnorm" in code]
    assert len([line for line in code.splitlines() if line.strip()]) < 10


def test_both_readmes_have_the_same_parts_code_links_and_numbers() -> None:
    def parts(text: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]

    def code(text: str) -> list[str]:
        """Without comments, which are translated."""
        return [re.sub(r" *#.*", "", block).rstrip() for _, block in BLOCK.findall(text)]

    def prose(text: str) -> str:
        return BLOCK.sub("", text)

    def links(text: str) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", text)

    def numbers(text: str) -> list[str]:
        return sorted(re.findall(r"\d+(?:\.\d+)?", re.sub(r"\]\([^)]+\)", "", prose(text))))

    assert parts(README) == parts(CHINESE)
    assert code(README) == code(CHINESE)
    assert links(README)[1:] == links(CHINESE)[1:]  # the first is to the other language
    assert (links(README)[0], links(CHINESE)[0]) == ("README.zh-CN.md", "README.md")
    assert numbers(README) == numbers(CHINESE)
    assert prose(README).count("\n|") == prose(CHINESE).count("\n|")


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_in_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("page", ["commands.md", "tasks.md", "watch-a-run.md", "write-your-own-scheme.md"])
def test_links_of_pages_that_the_readme_leads_to(page: str) -> None:
    for link in re.findall(r"\]\(((?!http)[^)#]+)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / link).exists(), link


def test_the_catalogue_has_as_many_schemes_as_the_readme_says() -> None:
    assert f"of {len(addnorm.schemes.names())} schemes" in README


def test_the_scheme_of_twenty_lines_learns() -> None:
    model = run("docs/write-your-own-scheme.md", first=1)["mine"]
    model(torch.randint(256, (1, 9))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_page_of_commands_names_every_command_and_its_code_runs() -> None:
    from addnorm.cli import COMMANDS

    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`addnorm {name}" not in page] == []
    assert run("docs/commands.md")["z"].shape == (2, 32, 64)


def test_public_names_are_loaded_on_first_use() -> None:
    assert all(getattr(addnorm, name) is not None for name in addnorm.__all__)
    with pytest.raises(AttributeError, match="it has"):
        addnorm.no_such_name  # noqa: B018
