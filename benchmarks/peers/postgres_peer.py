"""What the peers on PostgreSQL share: the server, and what it says of its durability."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from callboard.benchmarks.peers.peer import Peer, Settings
from callboard.benchmarks.peers.servers import missing_programs, postgres

POLL_ONE, POLL_MANY = 0.0005, 0.01
"""Seconds between two looks whether jobs have ended: for one job, and for many."""


def server_settings(show: Callable[[str], object]) -> Settings:
    """`show` answers what the server says to SHOW of a name, on a connection of the client."""
    fsync, commit = show("fsync"), show("synchronous_commit")
    return Settings(f"fsync={fsync}, synchronous_commit={commit}", fsync == "on" and commit != "off")


class PostgresPeer(Peer):
    """A peer whose jobs are in PostgreSQL."""

    claim = "fsync of the server's WAL at each commit"

    def missing(self) -> str | None:
        return super().missing() or missing_programs("postgresql", "initdb", "postgres", "pg_isready")

    def served(self, place: Path) -> AbstractContextManager[str]:
        return postgres(place)
