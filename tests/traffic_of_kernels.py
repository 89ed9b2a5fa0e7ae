"""Kernels compiled for sm_90 without a GPU, and the bytes that their code moves to and from global memory."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_ACCESS = re.compile(r"\b(ld|st)\.global(?:\.[a-zA-Z_0-9:]+)*?(?:\.v(\d))?\.[bufs](\d+)\b")
_LABEL = re.compile(r"^(\$L__BB\w+):")
_JUMP = re.compile(r"\bbra(?:\.uni)?\s+(\$L__BB\w+);")
_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\.global .*, 0x(\w+)(?:, %\w+)?;")
_UNKNOWN = re.compile(r"\b(cp\.async\.bulk|ld\.param\.global|red\.|atom\.)")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes of one program: of whole vectors, which are states, updates, weights; and of single numbers.

    Every thread counts. A vector is fetched once; of single numbers, such as a token's mean, several threads fetch the
    same one, and a mask leaves threads out that are counted: theirs is an upper bound.

    Args:
        once: outside of loops, vectors read and written.
        turn: in one turn of the loops that touch memory, vectors read and written.
        singles_once, singles_turn: read or written one number a thread.
    """

    once: tuple[int, int]
    turn: tuple[int, int]
    singles_once: int
    singles_turn: int

    def vectors(self, turns: int = 0) -> int:
        """Bytes in whole vectors."""
        return sum(self.once) + turns * sum(self.turn)

    def singles(self, turns: int = 0) -> int:
        """At most so many bytes in single numbers."""
        return self.singles_once + turns * self.singles_turn


def compiled(kernel: Any, scalars: dict[str, str], constants: dict[str, Any], warps: int, narrow: set[str]) -> Any:
    """The kernel for sm_90, pointers and the number of tokens divisible by 16, as torch allocates them.

    Args:
        kernel: a `triton.jit` function.
        scalars: the types of the arguments that are not pointers.
        constants: the values of its constants.
        warps: of a program.
        narrow: the pointers to bfloat16; the others are to float32.
    """
    names = list(kernel.arg_names)
    signature = {name: scalars.get(name, "*bf16" if name in narrow else "*fp32") for name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = [i for i, name in enumerate(names) if signature[name][0] == "*" or name == "tokens"]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


def traffic(ptx: str, warps: int) -> Traffic:
    """What the code of a program moves; a loop is what lies between a label and a jump back to it.

    A loop that copies ahead has its first copies before it and none in its last turns: as many as if it did not.
    """
    lines = ptx.splitlines()
    assert not any(_UNKNOWN.search(line) for line in lines), "moves memory in a way that is not counted here"
    labels = {found[1]: at for at, line in enumerate(lines) if (found := _LABEL.match(line))}
    jumps = [(at, labels[found[1]]) for at, line in enumerate(lines) if (found := _JUMP.search(line))]
    loops = [(to, at) for at, to in jumps if to < at]
    moved: Counter[tuple[str, bool]] = Counter()
    for at, line in enumerate(lines):
        inside = sum(first < at < last for first, last in loops)
        for way, size in _accesses(line):
            assert inside <= 1, "a loop in a loop"
            if way != "copy" or inside:
                moved[{"copy": "ld"}.get(way, way), bool(inside)] += 32 * warps * size
    once, turn = (tuple(moved[way, inside] for way in ("ld", "st")) for inside in (False, True))
    return Traffic(once=once, turn=turn, singles_once=moved["single", False], singles_turn=moved["single", True])


def _accesses(line: str) -> list[tuple[str, int]]:
    """The way and the bytes of each access of a thread: "ld", "st", "copy" ahead, or "single" for up to four bytes."""
    found = [(way, int(count or 1) * int(bits) // 8) for way, count, bits in _ACCESS.findall(line)]
    found += [("copy", int(size, 16)) for size in _COPY.findall(line)]
    return [(way if size > 4 else "single", size) for way, size in found]
