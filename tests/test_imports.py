"""Modules form no circle of imports, wherever an import stands: at the top, in a function, for type checkers only.

A circle that Python never runs into still means that neither file can be understood, or moved, without the other.
Names that are looked up by their text (`importlib.import_module`) are not seen here: the registries find what is above
them in no other way.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
ARGUED: dict[str, str] = {}
"""Imports that close a circle and stay, `importer -> imported`, each with the reason."""


def graph_of(source: Path) -> dict[str, set[str]]:
    """For each module the modules that it imports; of `from package import module`, the module."""
    files = {_name(path.relative_to(source)): path for path in sorted(source.rglob("*.py"))}
    return {name: _imported(path, files.keys()) - {name} for name, path in files.items()}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, known) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide what is imported"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in known else str(node.module) for name in names}
    return found & set(known)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next, the first again at the end; none where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_modules_import_each_other_in_a_circle():
    graph = graph_of(SOURCE)
    for line in ARGUED:
        importer, imported = line.split(" -> ")
        graph[importer].remove(imported)  # a KeyError: it is gone, and so is its argument
    assert not circle(graph), " -> ".join(circle(graph))


@pytest.mark.parametrize(
    "line",
    [
        "from house import b",
        "import house.b",
        "from house.b import thing",
        "def later():\n    from house.b import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.b import thing",
    ],
)
def test_a_circle_is_found_wherever_its_imports_stand(line, tmp_path):
    house = tmp_path / "house"
    house.mkdir()
    (house / "__init__.py").touch()
    (house / "a.py").write_text(line)
    (house / "b.py").write_text("import house.a")
    assert sorted(circle(graph_of(tmp_path))[1:]) == ["house.a", "house.b"]
    (house / "b.py").write_text("import house")
    assert circle(graph_of(tmp_path)) == []
