"""File names as bytes: how one is shown, what a temporary one is called, which one is next when one is taken."""

from __future__ import annotations

import hashlib
import os

NAME_BYTES_MAX = 255
"""Longest name of one file on Linux file systems, in bytes."""

TEMP_PREFIX = b".cb-"


def temp_name(job_id: bytes, position: int) -> bytes:
    """The name under which item `position` of a job is written until it is whole: 18 bytes, the same at every repeat."""
    digest = hashlib.blake2b(job_id + position.to_bytes(8, "big"), digest_size=7)
    return TEMP_PREFIX + digest.hexdigest().encode()


def shown(path: bytes) -> str:
    """`path` as text for people: bytes that are no UTF-8 and characters that do not print (newline, ESC, bidi marks) as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def numbered(name: bytes, number: int) -> bytes:
    """`name (number).ext`, the stem shortened where it would pass 255 bytes."""
    stem, extension = os.path.splitext(name)
    suffix = b" (%d)" % number + extension
    room = NAME_BYTES_MAX - len(suffix)
    if room < 1:  # the "extension" fills the name: it is no extension
        stem, suffix = name, b" (%d)" % number
        room = NAME_BYTES_MAX - len(suffix)
    return _cut(stem, room) + suffix


def _cut(stem: bytes, room: int) -> bytes:
    """At most `room` bytes of `stem`, without the half of a UTF-8 character at the end."""
    if len(stem) <= room:
        return stem
    end = room
    while end > 1 and stem[end] & 0xC0 == 0x80 and room - end < 3:
        end -= 1
    return stem[:end]


def checked(name: bytes) -> bytes:
    """`name`, if it is one component of a path. Raises ValueError for an empty one, `.`, `..`, one with a slash or a NUL.

    Paths come out of stored jobs, and a library is untrusted input.
    """
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"{shown(name)!r} is no name of a file in a folder")
    return name
