"""Tasks by name, from a file of the user's, and from an installed package."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from addnorm import tasks
from addnorm.errors import UserError

MINE = """
from dataclasses import dataclass
from addnorm.tasks import Task

@dataclass(frozen=True, kw_only=True)
class Mine(Task):
    '''Mine: nothing yet.'''
    size: int = 3
    defaults = {"context": 4, "steps": 7}
    def prepare(self, config, reader=None): ...
    def reader(self, folder): ...
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch):
    """Pretends that a package with entry points is installed."""

    def install(**values: str) -> None:
        names = {name.replace("_", "-"): value for name, value in values.items()}
        points = {name: EntryPoint(name=name, value=value, group="addnorm.tasks") for name, value in names.items()}
        monkeypatch.setattr(tasks.REGISTRY, "installed", points, raising=False)

    return install


def test_a_python_file_is_a_task(file):
    task = tasks.parse(f"{file}(size=5)")
    assert task.size == 5
    assert tasks.config(str(file)).steps == 7 and tasks.config(str(file)).context == 4
    assert tasks.config(str(file), tokens=100).steps is None


def test_a_file_that_changed_is_another_task(file):
    before = tasks.get(str(file))
    file.write_text(MINE.replace("size: int = 3", "size: int = 4"))
    assert before().size == 3 and tasks.get(str(file))().size == 4


def test_an_installed_package_brings_tasks(package):
    package(their_task="addnorm.tasks.language_modeling:LanguageModeling", a_number="math:pi", gone="no_such_module:X")
    assert "their-task" in tasks.names()
    assert tasks.get("their-task") is tasks.get("language-modeling")
    with pytest.raises(UserError, match=r"math:pi is no addnorm.tasks.Task"):
        tasks.get("a-number")
    with pytest.raises(UserError, match="cannot be imported"):
        tasks.get("gone")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1", "defines no task"),
        ("import nothing_there", "cannot be imported"),
        (MINE + MINE.replace("Mine", "Other"), "2 tasks"),
    ],
)
def test_a_file_that_is_no_task_says_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "wrong.py"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        tasks.get(str(path))


def test_mistakes_name_what_is_allowed(file, tmp_path):
    with pytest.raises(UserError, match="did you mean 'language-modeling'"):
        tasks.get("language-modelling")
    with pytest.raises(UserError, match="cannot be read"):
        tasks.get(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match="field"):
        tasks.parse(f"{file}(colour=red)")
