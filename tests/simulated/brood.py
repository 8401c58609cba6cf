"""A job of the histories with one set of children, of which only so many run at once, and which may have keys that others want as well."""

from __future__ import annotations

from dataclasses import dataclass

from history_jobs import OFTEN, Steps, Watch
from observed import Bred

from callboard.jobs.context import JobContext
from callboard.jobs.job import Job
from callboard.jobs.submission import OnDuplicate, Submission


@dataclass
class Brood(Job, name="history.brood", retry=OFTEN):
    """Spawns, and waits."""

    size: int = 3
    most: int = 1
    """`max_running`."""
    nap: float = 0.0
    keys: tuple[str, ...] = ()
    """Of each child; "" for none."""
    way: str = "skip"
    how: str = "collect"
    """`on_failure`; or "leave": it returns while they run."""
    trouble: str = ""
    """Of one child: "always"; "pause"; "retried". Of the parent, when its children are there: "once"."""
    done: int = 0
    mirror: int = 0

    def run(self, ctx: JobContext) -> int:
        watch: Watch = ctx.services
        with watch.run(ctx, self):
            watch.step(ctx, self)
            ids = ctx.spawn_children(self._children(), name="brood", max_running=self.most)
            watch.observed.add(Bred(watch.life, ctx.job_id, tuple(ids), self.size, self.most, ctx.attempt))
            if self.trouble == "once" and ctx.attempt == 1:
                raise RuntimeError("the parent fails")
            if self.how != "leave":
                with watch.aside(ctx.job_id):
                    ctx.wait_for_children(ids, on_failure=self.how)  # type: ignore[arg-type]
            self.done, self.mirror = 1, 3
        return self.done

    def _children(self) -> list[Submission]:
        children = []
        for each in range(self.size):
            trouble = {"always": "always", "pause": "pause", "retried": "once"}.get(self.trouble, "") if each == 1 else ""
            job = Steps(2, 1, self.nap, at=1, trouble=trouble, mark=each)
            key = self.keys[each] if self.keys else ""
            children.append(Submission(job, key=key or None, on_duplicate=OnDuplicate(self.way)))
        return children
