"""Which class a stored name stands for. Names resolve only through here, never by import path: a stored row decides data, not code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from callboard.jobs.errors import BadJobType, NewerVersion, NotDecodable, UnknownJobType, error_text

if TYPE_CHECKING:
    from callboard.jobs.job import Job

Fields = dict[str, object]
Upgrade = Callable[[Fields], Fields]
"""Takes the stored fields of one version, returns those of the next."""


class Registry:
    """Name → Job class. Classes enter by being defined (`Job.__init_subclass__`)."""

    def __init__(self) -> None:
        self._types: dict[str, type[Job]] = {}
        self._listeners: dict[object, Callable[[], None]] = {}
        self.generation = 0
        """Rises with every change, so that others may keep what they derived from it."""

    def add(self, job_type: type[Job]) -> None:
        """Raises `BadJobType` if another class has the name. The same class defined anew (a module reloaded) takes its own place."""
        standing = self._types.get(job_type.job_name)
        if standing is not None and (standing.__module__, standing.__qualname__) != (job_type.__module__, job_type.__qualname__):
            raise BadJobType(
                f"job name {job_type.job_name!r} is taken by {standing.__module__}.{standing.__qualname__}; "
                f"give {job_type.__module__}.{job_type.__qualname__} another name={_loaded_twice(standing, job_type)}"
            )
        self._put(job_type)

    def replace(self, job_type: type[Job]) -> None:
        """Let `job_type` stand for its name, which an earlier build of the same class has."""
        if job_type.job_name in self._types:
            self._put(job_type)

    def _put(self, job_type: type[Job]) -> None:
        self._types[job_type.job_name] = job_type
        self.generation += 1
        for listener in tuple(self._listeners.values()):
            listener()

    def remove(self, name: str) -> None:
        """Forget a class; its stored jobs are passed over from now on. For tests and for extensions that unload."""
        if self._types.pop(name, None) is not None:
            self.generation += 1

    def listen(self, owner: object, call: Callable[[], None]) -> None:
        """Call `call` after each class that is added, until `unlisten(owner)`. It must only send a message."""
        self._listeners[owner] = call

    def unlisten(self, owner: object) -> None:
        self._listeners.pop(owner, None)

    def get(self, name: str) -> type[Job]:
        """Raises `UnknownJobType` with the nearest name."""
        try:
            return self._types[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._types, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownJobType(f"no job type {name!r:.200} is registered here: import the module that defines it{hint}") from None

    def knows(self, name: str, version: int) -> bool:
        """True if this process can run a job stored as `version` of `name`."""
        job_type = self._types.get(name)
        return job_type is not None and version <= job_type.job_version

    def why_not(self, name: str, version: int) -> str | None:
        """Why a queued job of this kind is passed over by this process; None if it is not."""
        job_type = self._types.get(name)
        if job_type is None:
            return f"job type {name!r:.200} is not registered in this process; import the module that defines it"
        if version > job_type.job_version:
            return f"stored as version {version} of {name!r:.200}, this process has version {job_type.job_version}; upgrade the code"
        return None

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._types))


def _loaded_twice(one: type, other: type) -> str:
    """The script that is run and is imported by its name as well is two modules, with two classes."""
    modules = {one.__module__, other.__module__}
    if "__main__" not in modules or one.__qualname__ != other.__qualname__:
        return ""
    return f"; or, if {' and '.join(sorted(modules))} are one file, import the class from another module than the script"


def upgrade(job_type: type[Job], version: int, fields: Mapping[str, object]) -> Fields:
    """Fields stored by `version`, taken step by step to the class's own version.

    Raises `NewerVersion`, or `NotDecodable` if a step is missing, raises, or returns no dict.
    """
    if version > job_type.job_version:
        raise NewerVersion(f"{job_type.job_name!r}: stored as version {version}, this code has version {job_type.job_version}")
    result: Fields = dict(fields)
    for step in range(version, job_type.job_version):
        function = job_type.job_upgrades.get(step)
        if function is None:
            raise NotDecodable(f"{job_type.job_name!r} has no upgrade from version {step}; add upgrades={{{step}: function}} to the class")
        try:
            result = function(result)
        except Exception as error:
            raise NotDecodable(f"{job_type.job_name!r}: the upgrade from version {step} raised {error_text(error)}") from error
        if not isinstance(result, dict):
            raise NotDecodable(f"{job_type.job_name!r}: the upgrade from version {step} returned {type(result).__name__}, not a dict")
    return result


REGISTRY = Registry()
"""The process's own: what `Job` subclasses enter."""
