"""Records that cannot be read: an error that names file and line, or, if the user wants, counted and left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from addnorm.errors import UserError

Made = TypeVar("Made")
NAMED = 3
"""Bad records that a warning names."""
MOST = 0.1
"""Share of a source's records that may be left out; where more are bad, the source is not what it was taken for."""
LISTED = 100
"""Bad records that are kept in words; those behind them are counted."""


class BadRecord(UserError):
    """One record of a source cannot be read; the others may be."""


class RecordWarning(UserWarning):
    """Some records of a source were left out or mended."""


class BadRecords:
    """What was wrong with a source's records.

    Args:
        skip: leave bad records out instead of stopping at the first.
        count: found before, by a build that is resumed.
        first: the words of the first of them.
    """

    def __init__(self, *, skip: bool, count: int = 0, first: list[str] | None = None) -> None:
        self.skip, self.count, self.first = skip, count, first or []

    def found(self, where: str, what: str) -> None:
        """Take in a bad record.

        Args:
            where: file and line.
            what: is wrong with it.

        Raises:
            UserError: bad records are not left out.
        """
        if not self.skip:
            raise UserError(f"{where}: {what}; mend it, or leave such records out with --skip-bad.")
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(f"{where}: {what}")

    def take(self, make: Callable[..., Made], *values: object) -> Made | None:
        """A record as `make` makes it, or None where it cannot be read and bad records are left out.

        Raises:
            UserError: it cannot be read, and bad records are not left out.
        """
        try:
            return make(*values)
        except BadRecord as error:
            if not self.skip:
                raise BadRecord(f"{str(error).rstrip('.')}; or leave such records out with --skip-bad.") from None
            self.count += 1
            if len(self.first) < LISTED:
                self.first.append(str(error).partition("; ")[0])
            return None

    def report(self, source: str, read: int) -> tuple[str, ...]:
        """What was left out, as notes of the data; also a warning.

        Args:
            source: as the user named it.
            read: records that could be read.

        Raises:
            UserError: it is more than `MOST` of the records.
        """
        if not self.count:
            return ()
        named = "; ".join(self.first[:NAMED]) + ("; ..." if self.count > NAMED else "")
        if self.count > MOST * (self.count + read):
            raise UserError(
                f"{self.count} of the {self.count + read} records of {source} cannot be read ({named}), more than the "
                f"{MOST:.0%} that --skip-bad leaves out; mend the source."
            )
        note = f"left out {self.count} of the {self.count + read} records of {source}: {named}"
        warnings.warn(f"{note}.", RecordWarning, stacklevel=4)
        return (note,)
