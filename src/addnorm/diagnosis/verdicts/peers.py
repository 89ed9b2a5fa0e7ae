"""A sublayer beside those that do the same at other depths."""

from __future__ import annotations

from collections.abc import Sequence

from addnorm.diagnosis.evidence import Line, SiteFacts, block_of

NEAREST = 4


def peers(line: Line, site: SiteFacts) -> list[SiteFacts]:
    """All others of its role and kind: a name may be that of attention and feed-forward in turn."""
    role = (site.role, site.sublayer.kind)
    return [other for other in line.sites if other is not site and (other.role, other.sublayer.kind) == role]


def nearest(line: Line, site: SiteFacts) -> list[SiteFacts]:
    """The nearest of its peers."""
    at = line.sites.index(site)
    return sorted(peers(line, site), key=lambda other: abs(line.sites.index(other) - at))[:NEAREST]


def number(line: Line, name: str) -> int | None:
    """The site of a sublayer, or where it would be among the others, by depth and by its place within a block."""
    for i, site in enumerate(line.sites):
        if site.name == name:
            return i
    roles = list(dict.fromkeys(site.role for site in line.sites))
    role = name[len(block_of(name)) + 1 :]
    place = (depth(name), roles.index(role) if role in roles else 0)
    return sum((depth(site.name), roles.index(site.role)) < place for site in line.sites)


def depth(name: str) -> tuple[int, ...]:
    """The number of the block in a dotted name.

    >>> depth("layers.3.mlp")
    (3,)
    """
    return tuple(int(part) for part in block_of(name).split(".") if part.isdecimal())


def some(names: Sequence[str]) -> str:
    """A few of them.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
