"""A process that submits a batch until it is done, or killed: `batch_child.py LIBRARY COUNT BATCH_ID_HEX`. Its jobs run far in the future.

Prints each part that has been acknowledged, so that whoever kills it knows what must be there.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callboard import BatchSubmission, Job, JobContext, Runtime, Submission
from callboard.actors import batching


@dataclass
class Action(Job, name="batch_child.action"):
    n: int
    path: str

    def run(self, ctx: JobContext) -> None: ...


def items(count: int) -> Iterator[Submission]:
    return (Submission(Action(n, f"/some/where/{n}"), key=f"a{n}", group=f"g{n % 16}", delay=1e6) for n in range(count))


def main() -> None:
    path, count, batch_id = Path(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
    add = batching.Account.add

    def tell(self: batching.Account, chunk: object, stored: object) -> None:
        add(self, chunk, stored)  # type: ignore[arg-type]
        print("stored", self.end, flush=True)

    batching.Account.add = tell  # type: ignore[method-assign]
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path)
        print("open", flush=True)
        outcome = library.submit_batch(BatchSubmission(items(count), batch_id=batch_id))
        assert outcome.complete, outcome
        print("done", flush=True)


if __name__ == "__main__":
    main()
