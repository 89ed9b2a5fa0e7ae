"""The archives that are part of addnorm, read with their checksums."""

from __future__ import annotations

import hashlib
import importlib.resources

from addnorm.errors import UserError


def read(name: str, sha256: str) -> bytes:
    """The bytes of a file beside this one.

    Raises:
        UserError: the file is missing, or is not the one that was shipped.
    """
    try:
        content = importlib.resources.files("addnorm.data.sets").joinpath(name).read_bytes()
    except OSError as error:
        raise UserError(
            f"{name} cannot be read ({error.strerror}); it is part of addnorm: install addnorm again."
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise UserError(
            f"{name} has SHA-256 {digest[:12]}..., expected {sha256[:12]}...: "
            "the file is damaged; install addnorm again."
        )
    return content
