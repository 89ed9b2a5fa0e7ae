"""One name for one thing: no two files, and no two public classes, are called alike without a reason."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "addnorm"
ROW = "a row of the benchmark is named as what it measures"
FILES = {
    "choice": "which kernels, and whether those for GPUs",
    "linear": "a layer and its kernel",
    "peers": "whom speed and whom findings are held against",
    "streams": "what is found of streams, and their kernels",
    "subject": "what is certified and what is diagnosed",
}
"""File names that stand for several things, each with the reason."""
NAMED_BY_USERS = ("cli", "rows")
"""Folders whose files are named as the words that a user types."""
CLASSES = {
    "AttentionResiduals": ROW,
    "Composed": "sublayers under one connection, and schemes made of schemes",
    "Derf": "a scheme and the norm that it puts everywhere",
    "Translation": "a task and a record of its data",
}
"""The same of classes of one catalogue and another's."""
KINDS = ("Kind", "Form", "History", "Row", "Part", "Recipe")
"""Words that mean anything, of each of which there is one."""


def files() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.stem not in ("__init__", "__main__")]


def test_a_file_name_stands_for_one_thing():
    places = defaultdict(list)
    for path in files():
        if path.parent.name not in NAMED_BY_USERS:
            places[path.stem].append(str(path.relative_to(SOURCE)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice.keys() == FILES.keys(), {name: twice.get(name) for name in twice.keys() ^ FILES.keys()}


def test_a_class_of_a_catalogue_is_called_as_another_only_with_a_reason():
    places = defaultdict(set)
    for path in files():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.relative_to(SOURCE).parts[0])
    named = {name for folder in ("schemes", "tasks") for name, where in places.items() if folder in where}
    twice = {name for name in named if len(places[name]) > 1}
    assert twice == CLASSES.keys()


def test_a_word_that_could_mean_anything_means_one_thing():
    found = defaultdict(list)
    for path in files():
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = (
                [node.name] if isinstance(node, ast.ClassDef) else [t.id for t in targets if isinstance(t, ast.Name)]
            )
            for name in set(names) & set(KINDS):
                found[name].append(str(path.relative_to(SOURCE)))
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
