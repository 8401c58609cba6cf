"""Where each source of a copy goes, and what is wrong with the whole of it, before anything is written."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard.jobs.files.file_system import kind_of_device
from callboard.jobs.files.names import shown

_FOLDING = frozenset(("vfat", "msdos", "exfat", "ntfs", "ntfs3", "ntfs-3g", "cifs", "smb3", "hfs", "hfsplus", "apfs"))
"""File systems on which `a` and `A` are one name. Folders of ext4 or f2fs made so by hand are not recognised."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and the path it gets; what is below the source gets the same path below the target."""

    source: bytes
    """Absolute; links in the folders above it resolved, a link itself not."""
    target: bytes
    """Absolute, as `source`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a copy cannot begin."""

    path: bytes
    text: str
    """What, which, and what to do."""


def target_for(sources: Sequence[bytes], target: bytes) -> tuple[Pair, ...]:
    """Each source with its path at the target, as `cp -r` has it: into `target` if that is a folder, else under that very name.

    A source ending in `/.` or `/..` is merged into the folder. A link with a `/` behind it stands for its folder. Relative paths count
    from the working directory, so resolve once and keep the pairs. Raises OSError for a path through a loop of links.
    """
    into = os.path.isdir(target)
    place = os.path.realpath(target) if into else _resolved(target)
    return tuple(Pair(_source(source), _join(place, source) if into else place) for source in sources)


def check_plan(sources: Sequence[bytes], target: bytes) -> list[Problem]:
    """Everything that must be settled before the first byte; empty if the copy may begin. Reads only."""
    if not sources:
        return [Problem(b"", "no source is given")]
    bad = [path for path in (*sources, target) if not path or b"\0" in path]
    if bad:
        return [Problem(path, f"{shown(path)!r} is no path") for path in bad]
    problems = _target_problems(sources, target)
    pairs = target_for(sources, target)
    for raw, pair in zip(sources, pairs, strict=True):
        problem = _source_problem(raw, pair)
        if problem:
            problems.append(Problem(raw, problem))
    return problems + (_collisions(sources, pairs) if os.path.isdir(target) else [])


def _join(folder: bytes, source: bytes) -> bytes:
    name = source.rstrip(b"/").rpartition(b"/")[2]
    return folder if name in (b"", b".", b"..") else os.path.join(folder, name)


def _source(path: bytes) -> bytes:
    if path.rstrip(b"/").rpartition(b"/")[2] in (b"", b".", b"..") or path.endswith(b"/"):
        return os.path.realpath(path)
    return _resolved(path)


def _resolved(path: bytes) -> bytes:
    """`path` with the links above its last name resolved."""
    above, _, name = path.rstrip(b"/").rpartition(b"/")
    if path.startswith(b"/") and not above:
        above = b"/"
    return os.path.join(os.path.realpath(above or b"."), name)


def _target_problems(sources: Sequence[bytes], target: bytes) -> list[Problem]:
    name = shown(target)
    if os.path.isdir(target):
        folder = target
    else:
        folder = os.path.dirname(_resolved(target))
        if len(sources) > 1:
            return [Problem(target, f"{name} is no folder, and {len(sources)} sources can only go into one; make it first")]
        if not os.path.isdir(folder):
            return [Problem(target, f"{shown(folder)}, where {name} is to be, is no folder; make it first")]
        if target.endswith(b"/") and not os.path.isdir(sources[0]):
            return [Problem(target, f"{name} ends in a slash and is no folder; make it first, or leave the slash away")]
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return [Problem(target, f"{shown(folder)} is on a read-only file system; mount it for writing, or copy elsewhere")]
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return [Problem(target, f"{shown(folder)} may not be written to; give the user who copies the right to it")]
    return []


def _source_problem(raw: bytes, pair: Pair) -> str:
    name, target = shown(raw), shown(pair.target)
    try:
        source = os.lstat(pair.source)
    except OSError as error:
        return f"{name}: {error.strerror}"
    here = source.st_dev, source.st_ino
    there = _identity(pair.target, follow=False)
    if there is not None and (there in (here, _identity(pair.source)) or _identity(pair.target) == here):
        return f"{name} and its target {target} are the same file; copy it elsewhere or under another name"
    if stat.S_ISDIR(source.st_mode) and here in _identities(pair.target):
        return f"{name} would be copied into itself, to {target}; copy it elsewhere"
    if there is not None and there in _identities(os.path.dirname(pair.source)):
        return f"{name} is inside of {target}, which it would replace or be merged with; copy it elsewhere first"
    if stat.S_ISDIR(source.st_mode) and os.path.lexists(pair.target) and not _is_folder(pair.target):
        return f"{name} is a folder, and {target} is none; move it away"
    return ""


def _is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _identity(path: bytes, *, follow: bool = True) -> tuple[int, int] | None:
    """(device, inode) of what `path` leads to, or without `follow` of a link itself; None if that is nothing."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: bytes) -> set[tuple[int, int] | None]:
    """Of `path` and of every folder above it, by inode, so that a bind mount or a link on the way cannot hide one."""
    found = {_identity(path)}
    path = os.path.realpath(path)
    while path != b"/":
        path = os.path.dirname(path)
        found.add(_identity(path))
    return found - {None}


def _collisions(sources: Sequence[bytes], pairs: Sequence[Pair]) -> list[Problem]:
    fold = _fold_of(os.path.dirname(pairs[0].target))
    taken: dict[bytes | str, int] = {}
    problems = []
    for index, pair in enumerate(pairs):
        first = taken.setdefault(fold(pair.target), index)
        if first != index:
            both = f"{shown(sources[first])} and {shown(sources[index])}"
            problems.append(Problem(sources[index], f"{both} would both become {shown(pair.target)}; copy them one after the other"))
    return problems


def _fold_of(folder: bytes) -> Callable[[bytes], bytes | str]:
    """How the file system of `folder` compares names."""
    return _folded if _file_system(folder) in _FOLDING else bytes


def _folded(path: bytes) -> str:
    return unicodedata.normalize("NFC", os.fsdecode(path)).casefold()


def _file_system(folder: bytes) -> str:
    """The type that the mount table has for the device of `folder`; empty if it has none."""
    try:
        return kind_of_device(os.stat(folder).st_dev)
    except OSError:
        return ""
