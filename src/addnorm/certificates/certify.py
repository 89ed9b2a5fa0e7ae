"""Everything that a certificate looks at, in order."""

from __future__ import annotations

from typing import Any

from addnorm import schemes
from addnorm.certificates.certificate import Certificate, Finding, not_applicable
from addnorm.certificates.costs import costs
from addnorm.certificates.equivalence import starts_as
from addnorm.certificates.faults import NAMES, faults
from addnorm.certificates.learning import parameters_learn
from addnorm.certificates.locality import batch_independent, cached, causal
from addnorm.certificates.sides import compare
from addnorm.certificates.stream_mixing import composite_gain, sinkhorn_error, stream_similarity
from addnorm.certificates.subject import Subject, catalogue_scheme_of, subject_of
from addnorm.errors import UserError
from addnorm.residual import Connection, Scheme

LOOKED_AT = (
    causal,
    batch_independent,
    cached,
    starts_as,
    parameters_learn,
    stream_similarity,
    composite_gain,
    sinkhorn_error,
)


def certify(
    target: Any,
    *,
    against: str | Scheme | None = None,
    d_model: int | None = None,
    example: Any = None,
    causal: bool = True,
) -> Certificate:
    """What a scheme, a connection or a module computes, by its behaviour alone.

    A scheme or a connection is also set beside the catalogue's: both get the same random asymmetric parameters, the
    mixing matrix and the gate of each write are recovered by least squares, and what differs is named.

    Args:
        target: a scheme's text ("mhc(streams=3)"), a `Scheme`, a `Connection`, or any module that maps vectors
            `(batch, tokens, d_model)` to the same shape.
        against: the scheme that it should be. By default the catalogue's that its class derives from or whose name it
            has; what is in the catalogue itself is compared with nothing else.
        d_model: the width of a connection or a module; by default the one that its parameters' shapes show.
        example: for a module, what it is called with: a tensor of ids (batch, tokens), a tuple of arguments, or
            keywords by name, masks among them. Its tensors are repeated to other numbers of rows and tokens.
        causal: False for an encoder, whose tokens may see later ones.

    Raises:
        UserError: the target is nothing of this, or `against` is unknown.

    Examples:
        >>> import addnorm
        >>> certificate = addnorm.certify("post-norm", against="pre-norm")
        >>> certificate.finding("norm placement").sentence
        'computes post-norm, not pre-norm...'
    """
    wanted = schemes.parse(against) if isinstance(against, str) else against
    if not isinstance(wanted, Scheme | None):
        raise UserError(f"against={wanted!r} is not a scheme; give its text, such as 'mhc', or a Scheme.")
    subject = subject_of(target, wanted, d_model, example, causal)
    if wanted is None and not subject.in_catalogue:
        wanted = catalogue_scheme_of(target if isinstance(target, Connection) else subject.scheme)
    found = [look(subject) for look in LOOKED_AT]
    found += [*costs(subject), *_against(subject, wanted)]
    return Certificate(
        subject=subject.text, against=None if wanted is None else schemes.format(wanted), findings=tuple(found)
    )


def _against(subject: Subject, wanted: Scheme | None) -> list[Finding]:
    if subject.scheme is None:
        return [not_applicable(name, "a module's read and write are not to be seen.") for name in NAMES]
    if wanted is None:
        why = "it is the catalogue's own" if subject.in_catalogue else "the catalogue has no scheme of its name"
        return [not_applicable(name, f"{why}; give `against` to compare it with a scheme.") for name in NAMES]
    reference = Subject(text=schemes.format(wanted), scheme=wanted, d_model=subject.d_model)
    return faults(compare(subject, reference), subject, reference)
