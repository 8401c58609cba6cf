"""A sync engine: the difference of two listings is queued as one batch of 50,000 actions, by message from an actor; while these run, another
listing arrives, and its batch supersedes what has changed again. `python examples/sync_engine.py [FILES]`."""

import queue
import sys
import tempfile
from dataclasses import dataclass

import pykka

from callboard import BatchOutcome, BatchSubmission, Job, JobContext, OnDuplicate, Runtime, Submission
from callboard.actors.messages import Answered, Ref, SubmitBatch

Listing = dict[str, str]
"""Path → what is in it, as its etag."""


@dataclass
class Upload(Job, name="upload"):
    path: str
    etag: str

    def run(self, ctx: JobContext) -> None:
        ctx.check_interrupt()  # here the file would go to the bucket


def diff(there: Listing, here: Listing) -> list[Submission]:
    """What has to be uploaded. The path is the key: of one file at most one action is wanted, the newest."""
    return [Submission(Upload(path, etag), key=path, group=path.split("/")[0]) for path, etag in here.items() if there.get(path) != etag]


class Engine(pykka.ThreadingActor):
    """Knows what the bucket has; takes listings of the folder."""

    def __init__(self, library: Ref, outcomes: queue.SimpleQueue[BatchOutcome]) -> None:
        super().__init__()
        self.library, self.outcomes, self.bucket = library, outcomes, Listing()

    def on_receive(self, message: object) -> None:
        match message:
            case dict():
                actions = tuple(diff(self.bucket, message))
                self.bucket = message
                batch = BatchSubmission(actions, on_duplicate=OnDuplicate.SUPERSEDE, requested_by="sync engine")
                self.library.tell(SubmitBatch(batch, reply_to=self.actor_ref))
            case Answered(request=SubmitBatch(), error=None):  # it is on disk; its first uploads run already
                self.outcomes.put(message.value)


def print_table(outcome: BatchOutcome) -> None:
    print(f"{'':4}{'outcome':<16}{'actions':>9}")
    for kind, count in outcome.counts.items():
        print(f"{'':4}{kind:<16}{count:>9,}")


def main(files: int) -> None:
    empty: Listing = {}
    first = {f"album-{number % 16}/{number:06d}.jpg": f"v1-{number}" for number in range(files)}
    second = first | {path: f"v2-{path}" for path in list(first)[files // 2 :]}  # the second half has changed again
    assert len(diff(empty, first)) == files
    outcomes: queue.SimpleQueue[BatchOutcome] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(suffix=".library") as folder, Runtime(workers=1) as runtime:
        library = runtime.open_library(folder)
        engine = Engine.start(library.ref, outcomes)
        for listing in (first, second):
            engine.tell(listing)
        for outcome in (outcomes.get(timeout=600), outcomes.get(timeout=600)):
            print_table(outcome)
            print(f"{'':4}ended: {library.batch(outcome.batch_id).wait(timeout=600).states}")
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
