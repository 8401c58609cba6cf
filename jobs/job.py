"""What an author writes: a dataclass with `run(ctx)`. Its fields are its checkpoint."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from callboard.jobs.errors import BadJobType, shown
from callboard.jobs.registry import REGISTRY, Upgrade
from callboard.jobs.retry import NO_RETRY, RetryPolicy

if TYPE_CHECKING:
    from callboard.jobs.context import JobContext

NAME_CHARACTERS_MAX = 200
VERSION_MAX = 2**31 - 1

CLASS_ARGUMENTS = ("name", "version", "resumable", "retry", "upgrades", "abstract")


class Job:
    """A durable, resumable unit of work. Subclass as a dataclass and write `run`; subclassing registers the class.

        @dataclass
        class Resize(Job, name="resize", version=1):
            photos: tuple[Path, ...]
            done: int = 0
            def run(self, ctx): ...

    Class arguments: `name` (the stored name; default the class's name), `version` (1, 2, …; raise it when the fields change),
    `resumable` (False: no pause while it runs, and a crash fails it), `retry` (a RetryPolicy), `upgrades` ({1: function, …}: each takes
    the stored fields of that version as a dict and returns those of the next), `abstract=True` (a base for others: not registered, cannot
    be submitted). `resumable` and `retry` are inherited where they are not given, the others belong to one class.

    A field declared with `field(repr=False)`, such as a password, is shown in no error text, repr or log that callboard makes; it is stored as
    the others are.

    Raises `BadJobType` at the class statement for a name that another class has, and for what could never run.

    `run` may be entered again at any time from the fields as last saved: after a pause, a crash, a retry. It must start from them.
    """

    __slots__ = ()  # so that dataclass(slots=True) below it does what it says

    job_name: ClassVar[str] = ""
    job_version: ClassVar[int] = 1
    job_resumable: ClassVar[bool] = True
    job_retry: ClassVar[RetryPolicy] = NO_RETRY
    job_upgrades: ClassVar[Mapping[int, Upgrade]] = MappingProxyType({})
    job_abstract: ClassVar[bool] = True

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        resumable: bool | None = None,
        retry: RetryPolicy | None = None,
        upgrades: Mapping[int, Upgrade] | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        where = f"{cls.__module__}.{cls.__qualname__}"
        pass_on(super().__init_subclass__, kwargs, where, CLASS_ARGUMENTS)
        if "__dataclass_fields__" in cls.__dict__:
            # dataclass(slots=True) builds the class a second time, from a dict that has our settings already
            if not cls.job_abstract:
                REGISTRY.replace(cls)
            return
        refuse_own_names(cls, where, "job_", CLASS_ARGUMENTS)
        if upgrades is not None and not isinstance(upgrades, Mapping):
            raise BadJobType(f"{where}: upgrades={shown(upgrades)} is not a dict {{version: function}}")
        cls.job_name = name if name is not None else cls.__name__
        cls.job_version = version
        if resumable is not None:
            cls.job_resumable = resumable
        if retry is not None:
            cls.job_retry = retry
        cls.job_upgrades = MappingProxyType(dict(upgrades or {}))
        cls.job_abstract = abstract
        _check_settings(cls, where)
        if not abstract:
            _check_concrete(cls, where)
            REGISTRY.add(cls)

    def run(self, ctx: JobContext) -> object:
        """Do the work and return the result, any value that the codec can store. Called on the job's own actor."""
        raise BadJobType(f"{type(self).__qualname__} has no run(self, ctx)")


def check_job_type(job_type: type[Job]) -> None:
    """Raises `BadJobType` for an abstract class: no process would know its jobs by name. Whether fields can be stored, the codec says."""
    if job_type.job_abstract:
        raise BadJobType(f"{job_type.__module__}.{job_type.__qualname__} is abstract; submit a job of a subclass without abstract=True")


def _check_settings(cls: type[Job], where: str) -> None:
    if not isinstance(cls.job_resumable, bool):
        raise BadJobType(f"{where}: resumable={shown(cls.job_resumable)} is not True or False")
    if not isinstance(cls.job_retry, RetryPolicy):
        raise BadJobType(f"{where}: retry={shown(cls.job_retry)} is not a RetryPolicy")
    if not isinstance(cls.job_abstract, bool):
        raise BadJobType(f"{where}: abstract={shown(cls.job_abstract)} is not True or False")


def _check_concrete(cls: type[Job], where: str) -> None:
    if not isinstance(cls.job_name, str) or not 1 <= len(cls.job_name) <= NAME_CHARACTERS_MAX or not cls.job_name.isprintable():
        raise BadJobType(f"{where}: name={shown(cls.job_name)} is not printable text of 1 to {NAME_CHARACTERS_MAX} characters")
    version = cls.job_version
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION_MAX:
        raise BadJobType(f"{where}: version={shown(version)} is not an integer from 1 to {VERSION_MAX}")
    for step, function in cls.job_upgrades.items():
        if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step < version:
            raise BadJobType(f"{where}: upgrades has {shown(step)}, which is no version before {version}")
        if not callable(function):
            raise BadJobType(f"{where}: upgrades[{step}]={shown(function)} is not a function dict -> dict")
    if cls.run is Job.run:
        raise BadJobType(f"{where} has no run(self, ctx); write it, or pass abstract=True for a base class")
    check_run(cls.run, where)


# --- shared with Task ---------------------------------------------------------------------------------------------------


def check_run(run: object, where: str) -> None:
    """Raises `BadJobType` for what is no plain function: its call would do nothing but return a coroutine or a generator."""
    kind = ""
    if not callable(run):
        kind = f"{shown(run)}, which cannot be called"
    elif inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
        kind = "async"
    elif inspect.isgeneratorfunction(run):
        kind = "a generator"
    if kind:
        raise BadJobType(f"{where}: run is {kind}; it must be a plain function run(self, ctx)")


def refuse_own_names(cls: type, where: str, prefix: str, arguments: tuple[str, ...]) -> None:
    """Raises `BadJobType` if the class body has a name that its class arguments set."""
    body = cls.__dict__
    for argument in arguments:
        name = prefix + argument
        if name in body or name in body.get("__annotations__", ()):
            raise BadJobType(f"{where}: {name} is set by the class argument {argument}=…; give it there, or name the field otherwise")


def pass_on(init_subclass: Any, kwargs: dict[str, Any], where: str, arguments: tuple[str, ...]) -> None:
    """Hand class arguments that are not ours to the next base; `BadJobType` if none takes them."""
    try:
        init_subclass(**kwargs)
    except TypeError as error:
        if not kwargs:
            raise
        raise BadJobType(f"{where}: no base takes the class argument {', '.join(kwargs)}; there are {', '.join(arguments)}") from error


def defined_in_module(cls: type) -> bool:
    """True if the class can be found again by its module and name, as another process would have to."""
    found: object = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls
