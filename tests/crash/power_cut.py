"""What a power cut may leave on a disk: a model of files and folders that is told every change and every sync, and makes images of it.

What was synced is there. Of what was not, each write of a file is kept, lost, or torn at a sector's border, each name made, changed or taken
away is kept or lost, in any combination: more than any one file system does. A sync of a file says nothing of its name, one of a folder
nothing of what is in its files; but a link, which nothing can sync by itself, comes whole with its name. What a failed sync was asked for
stays in doubt, whatever later syncs say.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import NamedTuple

from faulty_disk import Line

SECTOR = 512
HEAD = struct.Struct("<ccHIQQQ")


class Change(NamedTuple):
    """A line of the log that io_faults.c writes; the kinds are explained there."""

    kind: str
    failed: bool
    number: int
    inode: int
    offset: int
    path: bytes
    more: bytes


def read_log(path: Path) -> Iterator[Change]:
    """All changes; a last one that is not whole is left out."""
    data, at = path.read_bytes(), 0
    while at + HEAD.size <= len(data):
        kind, failed, length, more, number, inode, offset = HEAD.unpack_from(data, at)
        middle = at + HEAD.size + length
        at = middle + more
        if at <= len(data):
            yield Change(kind.decode(), failed != b"\0", number, inode, offset, data[middle - length : middle], data[middle:at])


@dataclass(slots=True, eq=False)
class Write:
    """A change of a file or of a folder's own mode and time."""

    kind: str
    offset: int
    data: bytes
    state: str = "pending"
    """`pending`, `synced`, or `doubtful`: a sync of it failed."""


@dataclass(slots=True, eq=False)
class Node:
    """A file, a link or a folder."""

    kind: str
    """`f`, `l` or `d`."""
    data: bytes = b""
    mode: int = 0o600
    mtime: int = 0
    writes: list[Write] = field(default_factory=list)
    """What came on top of `data`, in order."""
    now: dict[bytes, Node] = field(default_factory=dict)
    """Of a folder: what it holds for those who look."""
    synced: dict[bytes, Node] = field(default_factory=dict)
    """… and what it holds after a power cut at least."""

    def settle(self, state: str) -> None:
        """Its pending writes have been synced, or not."""
        for write in self.writes:
            if write.state == "pending":
                write.state = state
        done = 0
        while done < len(self.writes) and self.writes[done].state == "synced":
            done += 1
        if done:
            self.data, self.mode, self.mtime = _replay(self, self.writes[:done])
            del self.writes[:done]

    def after_cut(self, chance: Random, way: str) -> tuple[bytes, int, int]:
        """(content, mode, mtime) as a power cut may leave them."""
        kept: list[Write] = []
        for write in self.writes:
            if write.state == "synced" or way == "all":
                kept.append(write)
            elif way == "any":
                luck = chance.random()
                if luck < 0.45:
                    kept.append(write)
                elif luck < 0.6 and write.kind == "w" and len(write.data) > SECTOR:
                    first = chance.randrange(0, len(write.data), SECTOR)
                    last = chance.randrange(first, len(write.data), SECTOR) + SECTOR
                    kept.append(Write("w", write.offset + first, write.data[first:last]))
        return _replay(self, kept)


def _replay(node: Node, writes: list[Write]) -> tuple[bytes, int, int]:
    mode, mtime = node.mode, node.mtime
    if not writes:
        return node.data, mode, mtime
    data = bytearray(node.data)
    for write in writes:
        if write.kind == "x":
            mode, mtime = struct.unpack("<qq", write.data)
            continue
        if len(data) < write.offset:
            data.extend(bytes(write.offset - len(data)))
        if write.kind == "t":
            del data[write.offset :]
        else:
            data[write.offset : write.offset + len(write.data)] = write.data
    return bytes(data), mode, mtime


@dataclass(slots=True, eq=False)
class Naming:
    """A change of names: `new` has the node (None: it is taken away), `old`, if any, has it no longer."""

    node: Node | None
    new: tuple[Node, bytes]
    old: tuple[Node, bytes] | None = None

    def concerns(self, folder: Node) -> bool:
        return folder is self.new[0] or (self.old is not None and folder is self.old[0])


Entries = dict[int, dict[bytes, Node]]


class Disk:
    """The folder `root` as it was when the log began, and all that the log told since."""

    def __init__(self, root: Path) -> None:
        self._root_path = os.fsencode(root)
        self._inodes: dict[int, Node] = {}
        self._names: list[Naming] = []
        self.root = self._scan(self._root_path)
        self.ledger: list[Line] = []
        """What the program noted up to here."""

    def _scan(self, path: bytes) -> Node:
        found = os.lstat(path)
        node = Node("f", mode=stat.S_IMODE(found.st_mode), mtime=found.st_mtime_ns)
        if stat.S_ISLNK(found.st_mode):
            node.kind, node.data = "l", os.readlink(path)
        elif stat.S_ISDIR(found.st_mode):
            node.kind = "d"
            for name in os.listdir(path):
                node.now[name] = node.synced[name] = self._scan(path + b"/" + name)
        else:
            with open(path, "rb") as file:
                node.data = file.read()
        self._inodes[found.st_ino] = node
        return node

    def _place(self, path: bytes) -> tuple[Node, bytes]:
        folder = self.root
        *above, name = path[len(self._root_path) :].strip(b"/").split(b"/")
        for each in above:
            folder = folder.now[each]
        return folder, name

    def change(self, change: Change) -> None:
        """One more line of the log."""
        match change.kind:
            case "n":
                self.ledger.append(json.loads(change.more))
            case "w" | "x":
                self._inodes[change.inode].writes.append(Write(change.kind, change.offset, change.more))
            case "t":
                self._inodes[change.inode].writes.append(Write("t", change.offset, b""))
            case "s":
                self._sync(self._inodes[change.inode], change.failed)
            case "S":
                for node in list(self._inodes.values()):
                    self._sync(node, change.failed)
            case _:
                self._name(change)

    def _sync(self, node: Node, failed: bool) -> None:
        node.settle("doubtful" if failed else "synced")
        if node.kind != "d" or failed:
            return
        for naming in [naming for naming in self._names if naming.concerns(node)]:
            self._names.remove(naming)
            _apply(naming, lambda folder: folder.synced)
            if naming.node is not None and naming.node.kind == "l":
                naming.node.settle("synced")

    def _name(self, change: Change) -> None:
        place = self._place(change.path)
        naming = Naming(None, place)
        if change.kind in "cmy":
            kind = {"c": "f", "m": "d", "y": "l"}[change.kind]
            naming.node = self._inodes[change.inode] = Node(kind, change.more, 0o700 if kind == "d" else 0o600)
        elif change.kind == "l":
            naming.node = self._inodes[change.inode]
        elif change.kind == "r":
            naming.old = self._place(change.more)
            naming.node = naming.old[0].now[naming.old[1]]
        _apply(naming, lambda folder: folder.now)
        self._names.append(naming)

    # --- images -----------------------------------------------------------------------------------------------------

    def in_doubt(self) -> bool:
        """Whether there is more than one image."""
        return bool(self._names) or any(node.writes for node in self._inodes.values())

    def image(self, chance: Random, way: str) -> Image:
        """What a power cut leaves now: of what is in doubt `none` is there, `all`, or `any` of it; `order`: names in their order, up to one."""
        entries: Entries = {}

        def of(folder: Node) -> dict[bytes, Node]:
            return entries.setdefault(id(folder), dict(folder.synced))

        most = chance.randint(0, len(self._names))
        for number, naming in enumerate(self._names):
            if way == "all" or (way == "order" and number < most) or (way == "any" and chance.random() < 0.5):
                _apply(naming, of)
        found: dict[bytes, tuple[str, bytes, int, int]] = {}

        def walk(folder: Node, path: bytes) -> None:
            for name, node in of(folder).items():
                data, mode, mtime = node.after_cut(chance, "any" if way == "order" else way)
                found[path + name] = (node.kind, data, mode, mtime)
                if node.kind == "d":
                    walk(node, path + name + b"/")

        walk(self.root, b"")
        return Image(found, len(self.ledger))


def _apply(naming: Naming, holds: Callable[[Node], dict[bytes, Node]]) -> None:
    if naming.old is not None and naming.node is not None:
        folder, name = naming.old
        if holds(folder).get(name) is naming.node:
            del holds(folder)[name]
    folder, name = naming.new
    if naming.node is None:
        holds(folder).pop(name, None)
    else:
        holds(folder)[name] = naming.node


class Image(NamedTuple):
    """Relative path → (kind, content, mode, mtime in ns); and how many lines of the ledger had been told."""

    entries: dict[bytes, tuple[str, bytes, int, int]]
    told: int

    def digest(self) -> bytes:
        """The same for the same image."""
        hashed = blake2b(digest_size=16)
        for path in sorted(self.entries):
            kind, data, mode, _ = self.entries[path]
            hashed.update(b"%d %s %s %d %d " % (len(path), path, kind.encode(), mode, len(data)))
            hashed.update(data)
        return hashed.digest()

    def write(self, folder: Path, only: bytes = b"") -> None:
        """Make it real, below an empty folder; `only`: what begins so."""
        top = os.fsencode(folder)
        for path in sorted(self.entries):
            kind, data, mode, mtime = self.entries[path]
            if not path.startswith(only):
                continue
            place = top + b"/" + path
            if kind == "l":
                os.symlink(data, place)
            elif kind == "d":
                os.mkdir(place, 0o700)
            else:
                with open(place, "wb") as file:
                    file.write(data)
                os.chmod(place, mode)
            os.utime(place, ns=(mtime, mtime), follow_symlinks=False)
        for path in sorted(self.entries, reverse=True):
            kind, _, mode, mtime = self.entries[path]
            if kind == "d" and path.startswith(only):
                os.utime(top + b"/" + path, ns=(mtime, mtime))
                os.chmod(top + b"/" + path, mode)
