"""Records that cannot be read: an error that names file and line, or, if the user wants, counted and left out."""

from __future__ import annotations

from addnorm.errors import UserError

LISTED = 100
"""Bad records that are kept in words; those behind them are counted."""


class Faults:
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
