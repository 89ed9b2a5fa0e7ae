"""C++ kernels: compiled on first use for this processor, kept on disk, with the torch path always beside them.

A kernel `NAME.py` with a `NAME.cpp` beside it asks `library("NAME")`. It gets None, and takes its torch path, where
the kernels are switched off, no compiler is found, or compiling or loading fails; `status()` says which. Results agree
to rounding, not to the bit: sums are added up in another order.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from addnorm.files import write_atomically
from addnorm.kernels.derivatives import PLAIN, is_traced

SOURCES = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
COMPILE_S = 180
SUM = ".sha256"
_PLAIN = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
# From fast to safe; the first that compiles and loads is taken. GCC uses half of a 512-bit register if not asked.
FLAGS = (
    (*_PLAIN, "-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    (*_PLAIN, "-march=native", "-fopenmp"),
    (*_PLAIN, "-march=native"),
    _PLAIN,
)
_WITH = "// compile with: "
SUFFIXES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16"}


class Notes(Protocol):
    """What notes calls of kernels: `addnorm.kernels.call_tape.Tape`."""

    def kernel(self, run: Callable[..., None]) -> Callable[..., None]:
        """The kernel, which is noted when it is called."""
        ...

    def hold(self, *held: object) -> None:
        """Keep what a kernel has the address of."""
        ...


@dataclass
class _State:
    """What this process knows of its kernels."""

    enabled: bool = True
    folder: Path | None = None
    found: dict[str, ctypes.CDLL | None] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    notes: threading.local = field(default_factory=threading.local)
    lock: threading.Lock = field(default_factory=threading.Lock)


_STATE = _State()


def use(enabled: bool, folder: Path | None = None) -> None:
    """Switch the C++ kernels of this process on or off.

    Args:
        enabled: off means torch's operations alone.
        folder: where compiled kernels are kept; by default `$XDG_CACHE_HOME/addnorm` or `~/.cache/addnorm`.
    """
    _STATE.enabled = enabled
    if folder is not None:
        _STATE.folder = folder
        _STATE.found.clear()


@contextmanager
def switched(enabled: bool) -> Iterator[None]:
    """Within it, the C++ kernels are on or off."""
    before, _STATE.enabled = _STATE.enabled, enabled
    try:
        yield
    finally:
        _STATE.enabled = before


@contextmanager
def noted_by(tape: Notes) -> Iterator[None]:
    """Within it, this thread's calls of kernels are noted by a tape, which keeps what they have the addresses of."""
    _STATE.notes.tape = tape
    try:
        yield
    finally:
        _STATE.notes.tape = None


def hold(*objects: object) -> None:
    """Say that a kernel is told the address of these, besides those that `addresses` gives."""
    tape = getattr(_STATE.notes, "tape", None)
    if tape is not None:
        tape.hold(*objects)


def enabled() -> bool:
    """Whether this process may use more than torch's operations."""
    return _STATE.enabled


def takes(*tensors: Tensor) -> bool:
    """Whether a C++ kernel can read these: plain tensors of one precision in the memory of the CPU."""
    dtype = tensors[0].dtype
    for one in tensors:
        if one.dtype != dtype:
            return False
    return dtype in SUFFIXES and _STATE.enabled and not is_traced() and has_address(*tensors)


def has_address(*tensors: Tensor | None) -> bool:
    """Whether the numbers of all that came lie in the CPU's memory as their strides say.

    A tensor's subclass may keep them elsewhere (DTensor, AsyncCollectiveTensor, FakeTensor), and so may a view that is
    negated or zero only when it is read.
    """
    for one in tensors:  # written out: asked before every operation
        if one is None:
            continue
        if type(one) not in PLAIN or not one.is_cpu or one.layout is not torch.strided:
            return False
        if one.is_neg() or one._is_zerotensor():
            return False
    return True


def addresses(*tensors: Tensor | None, strided: bool = False, fresh: Sequence[Tensor | None] = ()) -> list[int]:
    """Of their first numbers, null for None: the one place at which a tensor becomes an address.

    Args:
        tensors: who calls holds them until the kernel returns.
        strided: whether the kernel is told the strides; else the numbers must lie one after the other.
        fresh: more of them, after `tensors`: room that who calls has just made, which nobody can have put elsewhere.

    Raises:
        AssertionError: one has none (`has_address`); who calls takes torch's path then.
    """
    assert has_address(*tensors), f"of {', '.join(type(one).__name__ for one in tensors)} one has no address"
    found = []
    for one in tensors:
        assert one is None or strided or one.is_contiguous(), "its numbers do not lie one after the other"
        found.append(0 if one is None else one.data_ptr())
    for one in fresh:
        found.append(0 if one is None else one.data_ptr())
    if getattr(_STATE.notes, "tape", None) is not None:
        hold(*tensors, *fresh)
    return found


def library(name: str) -> ctypes.CDLL | None:
    """The compiled `NAME.cpp`, or None; compiled at most once a process and once a machine."""
    if not _STATE.enabled:
        return None
    if name not in _STATE.found:
        with _STATE.lock:
            if name not in _STATE.found:
                _STATE.found[name] = _load(name)
    return _STATE.found[name]


def structure(*fields: tuple[str, type]) -> type[ctypes.Structure]:
    """A C structure: names in the order of the source, each group with its C type."""
    own = [(name, kind) for names, kind in fields for name in names.split()]
    return type("Call", (ctypes.Structure,), {"_fields_": own})


def function(name: str, symbol: str, dtype: torch.dtype, arguments: tuple[type, ...]) -> Callable[..., None]:
    """`SYMBOL_float`, `SYMBOL_double` or `SYMBOL_bfloat16` of the compiled `NAME.cpp`, which takes these C types.

    Raises:
        AssertionError: there is no such library; who calls has asked `library` before.
    """
    found = _STATE.found.get(name) if _STATE.enabled else library(name)
    assert found is not None, f"there is no compiled {name}"
    run = getattr(found, f"{symbol}_{SUFFIXES[dtype]}")
    if run.argtypes is None:
        run.argtypes = arguments
    tape = getattr(_STATE.notes, "tape", None)
    return run if tape is None else tape.kernel(run)


def folder() -> Path:
    """Where what was compiled and measured on this machine is kept.

    Raises:
        OSError: there is no home folder.
    """
    if _STATE.folder is not None:
        return _STATE.folder
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the specification: a relative one is to be ignored
        return Path(named) / "addnorm"
    try:
        return Path.home() / ".cache" / "addnorm"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def processor_fingerprint() -> str:
    """The kind of processor: its name and its instructions, hashed."""
    return hashlib.sha256(f"{platform.machine()}{_processor()}".encode()).hexdigest()[:12]


def status() -> dict[str, str]:
    """For each kernel with a C++ form: what runs in this process, and why; compiles those not used yet."""
    names = sorted(path.stem for path in SOURCES.glob("*.cpp"))
    if not _STATE.enabled:
        return dict.fromkeys(names, "torch: C++ kernels are switched off")
    return {name: "C++" if library(name) is not None else f"torch: {_STATE.told[name]}" for name in names}


def _load(name: str) -> ctypes.CDLL | None:
    """A kept library that is whole, whoever compiled it; else one from the first compiler that works."""
    own, compilers = _own_flags(name), list(_compilers())
    if not compilers:
        _STATE.told[name] = f"no C++ compiler found; install one of {', '.join(COMPILERS)}, or name one in CXX"
    for choice in FLAGS:
        flags = (*choice, *own)
        if (kept := _kept(name, flags)) is not None:
            return kept
        for compiler in compilers:
            try:
                return ctypes.CDLL(str(_compiled(name, compiler, flags)))
            except subprocess.CalledProcessError as error:
                _STATE.told[name] = f"{compiler[0]} failed: {error.stderr.decode(errors='replace').strip()[:500]}"
            except (OSError, subprocess.TimeoutExpired) as error:
                _STATE.told[name] = str(error)
    return None


def _compilers() -> Iterator[list[str]]:
    """The user's own (`CXX`, with its flags), then the usual ones; each once, by the file that runs."""
    seen = set()
    for words in (shlex.split(os.environ.get("CXX", "")), *([name] for name in COMPILERS)):
        path = shutil.which(words[0]) if words else None
        if path is not None and (os.path.realpath(path), *words[1:]) not in seen:
            seen.add((os.path.realpath(path), *words[1:]))
            yield [path, *words[1:]]


def _kept(name: str, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    """From an earlier process, if nothing that made it has changed and its bytes are those that were written."""
    try:
        target = _target(name, flags)
        digest = target.with_suffix(SUM).read_text(encoding="ascii")
        if digest != hashlib.sha256(target.read_bytes()).hexdigest():
            return None
        return ctypes.CDLL(str(target))
    except (OSError, ValueError):
        return None


def _own_flags(name: str) -> list[str]:
    """What a source asks for in a line `// compile with: FLAGS`."""
    lines = (SOURCES / f"{name}.cpp").read_text(encoding="utf-8").splitlines()
    return [flag for line in lines if line.startswith(_WITH) for flag in line.removeprefix(_WITH).split()]


def _compiled(name: str, compiler: list[str], flags: tuple[str, ...]) -> Path:
    """Compiled, and kept with the checksum of its bytes."""
    target = _target(name, flags)
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder(), prefix=f"{name}-") as scratch:
        half, whole = Path(scratch) / "half.o", Path(scratch) / "whole.so"
        _run([*compiler, *flags, "-c", str(SOURCES / f"{name}.cpp"), "-o", str(half)])
        # Linked without OpenMP's runtime: torch has loaded one, and two would fight for the cores.
        _run([*compiler, "-shared", str(half), "-o", str(whole)])
        content = whole.read_bytes()
    # The sum first: a library without it is compiled again, one with another's is too.
    write_atomically(target.with_suffix(SUM), hashlib.sha256(content).hexdigest().encode())
    write_atomically(target, content)
    return target


def _target(name: str, flags: tuple[str, ...]) -> Path:
    return folder() / f"{name}-{_fingerprint(name, flags)}.so"


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=COMPILE_S)


def _fingerprint(name: str, flags: tuple[str, ...]) -> str:
    """Of all that decides what the library computes; any compiler's will do."""
    parts = [*flags, platform.machine(), _processor()]
    texts = [path.read_bytes() for path in (SOURCES / f"{name}.cpp", *sorted(SOURCES.glob("*.h")))]
    return hashlib.sha256("\0".join(parts).encode() + b"\0".join(texts)).hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` depends on; a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "".join(sorted({line for line in lines if line.startswith(wanted)})) or platform.processor()
