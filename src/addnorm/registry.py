"""Kinds of thing that go by a text: from a folder, an installed package, or a file of the user's.

    registry = Registry("scheme", package="addnorm.schemes", base="addnorm:Scheme", catalogue="addnorm schemes")
    registry.parse("keel(alpha=2.0)")               # the class of schemes/keel.py
    registry.parse("theirs")                        # an entry point of the group addnorm.schemes
    registry.parse("./mine.py:Mine(alpha=0.3)")     # a class of a file; without `:Mine` the only one in it

`parse` and `format` are inverses. What no text can name (a class that was typed into a session, or is local to a
function; a value that is no Python literal) `format` writes in angle brackets, which `parse` refuses.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, get_args

from addnorm.errors import UserError, unknown
from addnorm.specification import FILE, literal, named, parts, same, written

T = TypeVar("T")
RESERVED = re.compile(r"[()\[\]{},='\"<>]")
"""What no path in a text may hold."""


class Registry(Generic[T]):
    """All that there is of one kind; each is a frozen dataclass, a subclass of one base.

    Args:
        kind: what errors call it: scheme, task.
        package: the folder; each public module in it defines one, and is named as it.
        base: the class that all derive from, under its public name `MODULE:CLASS`; imported when it is needed.
        catalogue: the command that lists all.
        group: of the entry points by which packages bring more; by default the package's name.
    """

    def __init__(self, kind: str, *, package: str, base: str, catalogue: str, group: str = "") -> None:
        self.kind, self.package, self.catalogue = kind, package, catalogue
        self.group, self._base = group or package, base

    @cached_property
    def base(self) -> type:
        """The class that all derive from."""
        module, _, name = self._base.partition(":")
        return getattr(importlib.import_module(module), name)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The names of the folder, in alphabetical order; none of them is imported."""
        (folder,) = importlib.import_module(self.package).__path__
        return tuple(sorted(file.stem.replace("_", "-") for file in Path(folder).glob("[!_]*.py")))

    @cached_property
    def installed(self) -> dict[str, EntryPoint]:
        """What packages bring, by name; where the folder has the name too, it is not among them."""
        return {point.name: point for point in entry_points(group=self.group) if point.name not in self.own}

    def names(self) -> tuple[str, ...]:
        """All names: the folder's in alphabetical order, then those of installed packages."""
        return (*self.own, *sorted(self.installed))

    def check(self, specification: str) -> None:
        """Refuse a text whose name is none; nothing is imported, so fields are not looked at.

        Raises:
            UserError: no item has the name, or the parentheses do not match.
        """
        name, _ = parts(self.kind, specification)
        if name not in self.own and FILE.fullmatch(name) is None and name not in self.installed:
            raise self._unknown(name)

    def get(self, name: str) -> type[T]:
        """The class of a name, `FILE.py` or `FILE.py:CLASS`.

        Args:
            name: of the folder's, as in `names`; of an installed package; or a Python file, which is then run.

        Raises:
            UserError: there is none; the file or the package is not as it must be.
        """
        file = FILE.fullmatch(name)
        if file is not None:
            return self._of_file(Path(file["path"]).expanduser(), file["name"])
        if name in self.own:
            return self._only(importlib.import_module(f"{self.package}.{name.replace('-', '_')}"), name)
        if name in self.installed:
            return self._of_point(self.installed[name])
        raise self._unknown(name)

    def _unknown(self, name: str) -> UserError:
        return unknown(self.kind, name, self.names(), f"; `{self.catalogue}` lists all, FILE.py:CLASS is your own")

    def name_of(self, item: T | type[T]) -> str:
        """What `get` finds the class of an item by.

        Args:
            item: an object or its class; one that `get` cannot find has its name in angle brackets.
        """
        kind = item if isinstance(item, type) else type(item)
        stem = kind.__module__.removeprefix(f"{self.package}.").replace("_", "-")
        if stem in self.own and self.get(stem) is kind:
            return stem
        for name, point in self.installed.items():
            if point.module.partition(".")[0] == kind.__module__.partition(".")[0] and self._of_point(point) is kind:
                return name
        return self._place_of(kind) or f"<{kind.__name__}>"

    def parse(self, specification: str) -> T:
        """An item from its text: a name, with fields in parentheses if need be.

        Args:
            specification: such as "mhc" or "layer-scale(init=0.1)"; without quotes around words, as in a shell.

        Raises:
            UserError: the name, a field or a value is not allowed.
        """
        text = specification.strip()
        if text.startswith("<"):
            raise UserError(f"{self.kind} {text} goes by no text; put its class into a file, and name FILE.py:CLASS.")
        name, given = parts(self.kind, text)
        kind = self.get(name)
        taken = {field.name: field for field in fields(kind) if field.init}  # pyrefly: ignore
        texts = named(self.kind, text, given, taken)
        values = {key: self._value(taken[key], value) for key, value in texts.items()}
        try:
            made = kind(**values)
        except UserError:  # what a class says of its own fields comes first
            raise
        except Exception as error:  # whatever a user's class raises
            _check_types(taken, texts, values)
            raise UserError(f"{self.kind} '{text}': {_in_a_line(error)}.") from error
        _check_types(taken, texts, values)
        return made

    def format(self, item: T) -> str:
        """The text that `parse` reads back: the name and the fields that differ from the defaults.

        Args:
            item: of a class of the registry, of a package or of a file.
        """
        name, texts = self.name_of(item), {}
        for field in fields(item):  # pyrefly: ignore
            value = getattr(item, field.name)
            if field.init and not same(value, _default(field)):
                texts[field.name] = self.format(value) if isinstance(value, self.base) else written(value)
        given = ", ".join(f"{key}={text}" for key, text in texts.items())
        whole = f"{name.strip('<>')}({given})" if given else name.strip("<>")
        return f"<{whole}>" if any(text.startswith("<") for text in (name, *texts.values())) else whole

    def _value(self, field: Field[Any], text: str) -> Any:
        """A value of a field; a field whose type is the kind itself takes a further item."""
        if text == "None" or self.base.__name__ not in re.findall(r"\w+", _hint(field)):
            return literal(text)
        try:
            return self.parse(text)
        except UserError as error:
            raise UserError(f"{field.name}={text}: {error}") from error

    def _of_point(self, point: EntryPoint) -> type[T]:
        try:
            found = point.load()
        except Exception as error:  # whatever another package's import raises
            said = f"{self.kind} '{point.name}' of {point.value} cannot be imported ({_in_a_line(error)})"
            raise UserError(f"{said}; mend the package.") from error
        return self._checked(found, point.value)

    def _of_file(self, path: Path, name: str | None) -> type[T]:
        module = module_of(path, f"a Python file that defines a subclass of {self._said_base}")
        if name is None:
            return self._only(module, str(path))
        if name not in vars(module):
            raise unknown(f"class of {path}", name, [kind.__name__ for kind in self._defined(module)])
        return self._checked(vars(module)[name], f"{path}:{name}")

    def _only(self, module: ModuleType, name: str) -> type[T]:
        found = self._defined(module)
        if len(found) == 1:
            return self._checked(found[0], name)
        if found:
            raise UserError(f"{name} defines {len(found)} {self.kind}s; name one: {name}:{found[0].__name__}.")
        raise UserError(f"{name} defines no {self.kind}; define a subclass of {self._said_base} in it.")

    def _defined(self, module: ModuleType) -> list[type[T]]:
        """The classes of the kind that a module itself defines, but for abstract ones."""
        return [
            item
            for item in vars(module).values()
            if isinstance(item, type)
            and issubclass(item, self.base)
            and item.__module__ == module.__name__
            and not inspect.isabstract(item)
        ]

    def _checked(self, found: Any, name: str) -> type[T]:
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise UserError(f"{name} is no {self._said_base}; name a subclass of it.")
        if inspect.isabstract(found):
            raise UserError(f"{name} has no {', no '.join(sorted(found.__abstractmethods__))}; define what is missing.")
        annotated = [hint for hint in inspect.get_annotations(found).values() if "ClassVar" not in str(hint)]
        if annotated and "__dataclass_fields__" not in vars(found):
            raise UserError(
                f"{name} has fields but is no dataclass; put @dataclass(frozen=True, kw_only=True) above it."
            )
        return found

    def _place_of(self, kind: type) -> str | None:
        """`./mine.py:Mine` of a class that stands in a file under its own name."""
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__file__", None)
        if module is None or file is None or vars(module).get(kind.__name__) is not kind:
            return None
        path = _short(Path(file).resolve())
        if FILE.fullmatch(path) is None or RESERVED.search(path):
            return None
        return path if self._defined(module) == [kind] else f"{path}:{kind.__name__}"

    @property
    def _said_base(self) -> str:
        return self._base.replace(":", ".")


SCHEMES: Registry[Any] = Registry(
    "scheme", package="addnorm.schemes", base="addnorm:Scheme", catalogue="addnorm schemes"
)
"""Of `addnorm.residual.Scheme`. Here and not in its folder: models take a scheme's text too, and know no scheme."""


def module_of(path: Path, wanted: str) -> ModuleType:
    """The module of a user's file: the one that has been imported from it, or a new one for each content.

    Args:
        path: the file.
        wanted: what it should be, for errors.

    Raises:
        UserError: it cannot be read or imported.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name {wanted}.") from None
    place = path.resolve()
    name = f"addnorm_file_{hashlib.sha256(bytes(place) + content).hexdigest()[:16]}"
    return _known(place) or sys.modules.get(name) or _imported(name, path)


def _known(place: Path) -> ModuleType | None:
    """The module that Python itself has imported from a file: the user's classes are that module's."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")  # not getattr: some modules import more when asked
        ours = name.startswith("addnorm_file_")
        if isinstance(file, str) and file.endswith(place.name) and not ours and Path(file).resolve() == place:
            return module
    return None


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a command prints with --json is JSON and nothing else
            # Not by the loader: it takes kept byte code of a file that was changed within a second to the same size.
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        del sys.modules[name]
        raise UserError(f"{path} cannot be imported ({_in_a_line(error)}); mend the file.") from error
    return module


def _hint(field: Field[Any]) -> str:
    """A field's type as text, whether or not its module postpones annotations."""
    hint = field.type
    return hint if isinstance(hint, str) else " ".join(getattr(one, "__name__", "") for one in (hint, *get_args(hint)))


def _check_types(taken: Mapping[str, Field[Any]], texts: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Refuse a text for a number, and anything but a tuple for a tuple: of what a class itself does not look at."""
    for key, value in values.items():
        wanted = ""
        if isinstance(value, str) and re.fullmatch(r"(int|float|None|[ |])+", _hint(taken[key])):
            wanted = "a number"
        elif _hint(taken[key]).startswith("tuple") and not isinstance(value, tuple):
            wanted = "values in parentheses"
        if wanted:
            default = _default(taken[key])
            like = "" if default in (None, MISSING) else f", such as {default}"
            raise UserError(f"{key}={texts[key]} is not allowed; give {wanted}{like}.")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _short(path: Path) -> str:
    """From the working directory where the path is within it: `./mine.py`."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except (ValueError, OSError):  # it is elsewhere; the working directory is gone
        return str(path)


def _in_a_line(error: BaseException) -> str:
    """`ValueError: text`."""
    return " ".join(f"{type(error).__name__}: {error}".split())
