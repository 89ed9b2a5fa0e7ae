"""Norms that read what another norm has just made: the second changes little or nothing, and is seldom meant."""

from __future__ import annotations

from addnorm.diagnosis.skeleton import Skeleton


def norms_in_series(skeleton: Skeleton, states: set[int]) -> list[tuple[str, str]]:
    """Pairs of names, the second norm and the first, where nothing lies between them.

    A norm of a state that comes from a norm itself (Pre-LN behind a norm of the embedding) is not meant.

    Args:
        skeleton: of a forward.
        states: the values of the trunk, without views.
    """
    made = {skeleton.root(value): name for value, (_, name) in skeleton.norms.items()}
    given = [(value, source, name) for value, (source, name) in skeleton.norms.items()]
    for call in _innermost(skeleton):
        made.setdefault(skeleton.root(call.outputs[0]), call.name)
        given.append((call.outputs[0], call.inputs[0], call.name))
    found = {}
    for _, source, name in given:
        root = skeleton.root(source)
        if root in made and root not in states and made[root] != name:
            found[name] = made[root]
    return [(second, first) for second, first in found.items() if second]


def _innermost(skeleton: Skeleton) -> list:
    """Calls of norms that hold no call of a norm."""
    calls = [call for call in skeleton.tape.calls if skeleton.is_norm(call)]
    parents = {call.parent for call in calls}
    return [call for call in calls if call.index not in parents]
