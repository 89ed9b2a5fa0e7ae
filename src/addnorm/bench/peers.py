"""Other libraries: which are here, and how to get those that are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library that is measured beside this one; it need not be installed.

    Args:
        package: as pip knows it.
        pinned: the version that the published figures are against.
    """

    package: str
    pinned: str

    @property
    def version(self) -> str | None:
        """The installed one."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    def how(self) -> str:
        """What to do where it is missing."""
        return f"{self.package} is not installed, so its column is empty; pip install {self.package}=={self.pinned}"


X_TRANSFORMERS = Peer(package="x-transformers", pinned="2.31.10")
TRANSFORMERS = Peer(package="transformers", pinned="5.23.0")
HYPER_CONNECTIONS = Peer(package="hyper-connections", pinned="0.4.11")
PEERS = (X_TRANSFORMERS, TRANSFORMERS, HYPER_CONNECTIONS)


def installed(peer: Peer) -> bool:
    """Whether it can be measured here."""
    return peer.version is not None


def missing(peers: Iterable[Peer]) -> tuple[str, ...]:
    """What to do about those that are not here."""
    return tuple(peer.how() for peer in peers if not installed(peer))
