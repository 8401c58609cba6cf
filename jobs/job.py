"""What an author writes: a dataclass with `run(ctx)`. Its fields are its checkpoint."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from callboard.jobs.errors import BadJobType
from callboard.jobs.registry import REGISTRY, Upgrade
from callboard.jobs.retry import NO_RETRY, RetryPolicy

if TYPE_CHECKING:
    from callboard.jobs.context import JobContext

NAME_CHARACTERS_MAX = 200


@dataclass_transform()
class Job:
    """A durable, resumable unit of work. Subclass as a dataclass and write `run`; subclassing registers the class.

        @dataclass
        class Resize(Job, name="resize", version=1):
            photos: tuple[Path, ...]
            done: int = 0
            def run(self, ctx): ...

    Class arguments: `name` (the stored name; default the class's name), `version` (1, 2, …; raise it when the fields change),
    `resumable` (False: no pause while it runs, and a crash fails it), `retry` (a RetryPolicy), `upgrades` ({1: function, …}: each takes
    the stored fields of that version as a dict and returns those of the next), `abstract=True` (not registered, for bases).

    `run` may be entered again at any time from the fields as last saved: after a pause, a crash, a retry. It must start from them.
    """

    job_name: ClassVar[str] = ""
    job_version: ClassVar[int] = 1
    job_resumable: ClassVar[bool] = True
    job_retry: ClassVar[RetryPolicy] = NO_RETRY
    job_upgrades: ClassVar[Mapping[int, Upgrade]] = MappingProxyType({})

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        resumable: bool = True,
        retry: RetryPolicy = NO_RETRY,
        upgrades: Mapping[int, Upgrade] | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if "__slots__" in cls.__dict__ and "job_name" in cls.__dict__:
            REGISTRY.replace(cls)  # dataclass(slots=True) builds the class a second time, from a dict that has our settings already
            return
        cls.job_name = name if name is not None else cls.__name__
        cls.job_version = version
        cls.job_resumable = resumable
        cls.job_retry = retry
        cls.job_upgrades = MappingProxyType(dict(upgrades or {}))
        if abstract:
            return
        _check(cls)
        REGISTRY.add(cls)

    def run(self, ctx: JobContext) -> object:
        """Do the work and return the result, any value that the codec can store. Called on the job's own actor."""
        raise BadJobType(f"{type(self).__qualname__} has no run(self, ctx)")


def _check(cls: type[Job]) -> None:
    where = f"{cls.__module__}.{cls.__qualname__}"
    if not isinstance(cls.job_name, str) or not 1 <= len(cls.job_name) <= NAME_CHARACTERS_MAX or not cls.job_name.isprintable():
        raise BadJobType(f"{where}: name={cls.job_name!r:.200} is not printable text of 1 to {NAME_CHARACTERS_MAX} characters")
    if isinstance(cls.job_version, bool) or not isinstance(cls.job_version, int) or not 1 <= cls.job_version < 2**31:
        raise BadJobType(f"{where}: version={cls.job_version!r} is not an integer from 1 on")
    if not isinstance(cls.job_retry, RetryPolicy):
        raise BadJobType(f"{where}: retry={cls.job_retry!r:.200} is not a RetryPolicy")
    for step in cls.job_upgrades:
        if not 1 <= step < cls.job_version:
            raise BadJobType(f"{where}: upgrades has {step!r}, which is no version before {cls.job_version}")
    if cls.run is Job.run:
        raise BadJobType(f"{where} has no run(self, ctx); write it, or pass abstract=True for a base class")
    if inspect.iscoroutinefunction(cls.run) or inspect.isgeneratorfunction(cls.run):
        raise BadJobType(f"{where}: run is {'async' if inspect.iscoroutinefunction(cls.run) else 'a generator'}; it must be a plain function")


def defined_in_module(cls: type) -> bool:
    """True if the class can be found again by its module and name, as another process would have to."""
    found: object = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls
