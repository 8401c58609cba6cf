"""Three actors run jobs by message and hear of them in their own mailboxes, also when the runtime is closed and opened again under them."""

import queue
import tempfile
from dataclasses import dataclass

import pykka

from callboard import Job, JobContext, Runtime, Submission
from callboard.actors.messages import Answered, CancelJob, PauseJob, ResumeJob, Submit
from callboard.jobs.events import Fact, JobCancelled, JobCompleted, JobPaused, ProgressMade

news: queue.SimpleQueue[tuple[str, type]] = queue.SimpleQueue()


@dataclass
class Import(Job, name="import"):
    album: str
    done: int = 0

    def run(self, ctx: JobContext) -> None:
        while self.done < 100:
            ctx.sleep(0.005)  # here one photo would be read; a pause, a cancel or a close ends the job in this line
            self.done += 1
            ctx.report_count(self.done, 100)


class Curator(pykka.ThreadingActor):
    def __init__(self, album: str, command: type[PauseJob | CancelJob] | None = None) -> None:
        super().__init__()
        self.album, self.command, self.over = album, command, False

    def on_receive(self, message: object) -> None:
        match message:
            case pykka.ActorRef() if not self.over:  # a library was opened; the key finds the job that stands since last time
                self.library = message
                message.tell(Submit(Submission(Import(self.album), key=self.album), reply_to=self.actor_ref))
            case Answered(request=Submit()):
                self.library.tell(ResumeJob(message.value.job_id))
            case ProgressMade() if self.command and (message.progress.done or 0) >= 10:
                self.library.tell(self.command(message.job_id))
                self.command = None
            case Fact():
                self.over = isinstance(message, (JobCompleted, JobCancelled))
                news.put((self.album, type(message)))
                print(f"  {self.album}: {type(message).__name__}\n", end="")


if __name__ == "__main__":
    for each in (("Rome", None), ("Paris", PauseJob), ("Oslo", CancelJob)):
        Curator.start(*each)
    heard: set[tuple[str, type]] = set()
    with tempfile.TemporaryDirectory(suffix=".library") as folder:
        for wanted in ({("Paris", JobPaused), ("Oslo", JobCancelled)}, {("Paris", JobCompleted), ("Rome", JobCompleted)}):
            with Runtime(workers=1) as runtime:
                print("a runtime opens the library")
                pykka.ActorRegistry.broadcast(runtime.open_library(folder).ref, Curator)
                while not wanted <= heard:
                    heard.add(news.get(timeout=60))
    pykka.ActorRegistry.stop_all()
