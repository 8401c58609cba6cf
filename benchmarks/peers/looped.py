"""A system with an asynchronous interface, on an event loop that runs while it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from callboard.benchmarks.peers.peer import Store, Work


class Looped(Store):
    """Its loop stands still between calls."""

    runner: asyncio.Runner

    async def submit(self, job: Work) -> object:
        """Hand in one job."""
        raise NotImplementedError

    def put(self, job: Work) -> object:
        return self.runner.run(self.submit(job))

    def put_singly(self, jobs: Iterable[Work]) -> list[object]:
        async def all_of_them() -> list[object]:
            return [await self.submit(job) for job in jobs]

        return self.runner.run(all_of_them())
