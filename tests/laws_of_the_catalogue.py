"""What a scheme of the catalogue must say of itself; the laws for anybody's scheme are in `addnorm.testing`."""

from __future__ import annotations

import re

from addnorm import schemes
from addnorm.residual import Scheme
from addnorm.schemes._describe import describe

# Words of `Scheme.diagram`; those with a colon carry a label or a number.
WORDS = re.compile(r"fork|sublayer|add|history|streams:\d+|(box|scale|skip|mix):\S+")


def its_docstring_describes_it(scheme: Scheme) -> None:
    """Label, equation, a paper with its year and arXiv id, cost, and a diagram in the words that the reports draw."""
    description = describe(schemes.name_of(scheme))
    assert re.fullmatch(r"\S.*: \S.*\.", description.title), description.title
    assert "<-" in description.equation or "=" in description.equation
    assert re.search(r"(19|20)\d\d, arXiv:\d{4}\.\d{4,5}", description.reference), description.reference
    assert description.cost.endswith("."), description.cost
    words = scheme.diagram.split()
    assert "sublayer" in words
    assert all(WORDS.fullmatch(word) for word in words), scheme.diagram
