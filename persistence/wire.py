"""Msgpack bytes to builtins and back within stated limits: damaged or hostile bytes end in one `Fault`, never in a half-read value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from msgpack.exceptions import ExtraData, FormatError, StackError

from callboard.jobs.errors import ConfigError

ExtType = msgpack.ExtType
_packb: Any = msgpack.packb
_unpackb: Any = msgpack.unpackb
VALUE_TEXT = 100
"""Longest piece of a value, in characters, that an error text shows."""
PATH_TEXT = 200
"""Longest path, in characters, that an error text shows."""
SHORT = 64
"""Strings up to this length, in characters, are not counted while a value is encoded; only the finished bytes are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a stored value may be. Checked in both directions, so that what was written can be read."""

    bytes: int = 1_048_576
    """Length of the msgpack blob, in bytes."""
    depth: int = 64
    """How many lists and maps may lie inside each other, the outermost one counted. At most 128."""
    items: int = 100_000
    """How many lists and maps there may be, plus what they hold: each element and each entry counts one."""

    def __post_init__(self) -> None:
        if self.bytes < 1 or self.items < 1 or not 1 <= self.depth <= 128:
            raise ConfigError(f"{self}: bytes and items must be at least 1, depth 1 to 128")


PAYLOAD = Limits()
"""For a job as it was submitted, results and progress details."""
CHECKPOINT = Limits(bytes=16 * 2**20, items=2_000_000)
"""For a checkpoint, and for each of its fields alone."""


class Fault(Exception):
    """Why a value does not fit, and where. Inside the codec only; its path grows as it leaves the containers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    def within(self, step: str) -> Fault:
        """This fault, one container further out: `.field`, `[3]` or `['key']`."""
        self._steps.append(step)
        return self

    @property
    def steps(self) -> list[str]:
        """From the outermost container on."""
        return self._steps[::-1]

    def hide(self, steps: int, allowed: str) -> None:
        """Say where, by the outermost `steps`, and what is allowed there; neither the value nor anything in it."""
        self.reason = f"its value cannot be kept as {allowed}; it is not shown, since the field is declared with repr=False"
        self.args = (self.reason,)
        self._steps = self._steps[-steps:]
        self.__cause__ = None

    @property
    def path(self) -> str:
        """Such as `$.files[3].size`; the middle of a long one is left out."""
        path = "$" + "".join(reversed(self._steps))
        half = PATH_TEXT // 2
        return path if len(path) <= PATH_TEXT else f"{path[:half]}…{path[-half:]}"

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Room:
    """What is left of the limits while one value is encoded, so that an oversized one stops before it is packed.

    Bytes are a lower bound here: nothing that would fit is refused.
    """

    __slots__ = ("bytes", "items", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes = limits.bytes
        self.items = limits.items

    def take(self, items: int) -> None:
        """Count a container that holds `items` items."""
        self.items -= items + 1
        self.bytes -= items  # a byte at least for each; the container itself is an item of the one around it
        if self.items < 0 or self.bytes < 0:
            raise too_many(self.limits) if self.items < 0 else too_large(self.limits)

    def take_long(self, length: int) -> None:
        """Count a string of `length` characters or bytes."""
        self.bytes -= length
        if self.bytes < 0:
            raise too_large(self.limits)


def too_large(limits: Limits) -> Fault:
    """The value is over its size in bytes."""
    return Fault(f"larger than {limits.bytes:,} bytes; keep big data in a file and store its Path")


def too_many(limits: Limits) -> Fault:
    """The value holds more than its number of items."""
    return Fault(f"holds more than {limits.items:,} items; keep big data in a file and store its Path")


def too_deep() -> Fault:
    """The value is nested too deep. Raised inside: every level adds a step to the path."""
    return Fault("nested too deep, or it holds itself")


def type_name(value: object) -> str:
    """The type's name without the help of the type, whose own metaclass may do anything."""
    name = type.__repr__(type(value))[8:-2]
    return name.removeprefix("builtins.")[:VALUE_TEXT]


def show(value: Any) -> str:
    """The value for an error text, shortened; no code of the value's own type runs."""
    cls = type(value)
    if value is None or cls is bool or cls is float:
        return repr(value)
    if cls is int:
        bits = value.bit_length()
        return f"int {value}" if bits <= 128 else f"an int of {bits} bits"
    if cls is str or cls is bytes:
        text = repr(value[:VALUE_TEXT])
        cut = len(value) > VALUE_TEXT or len(text) > VALUE_TEXT + 3
        return f"{cls.__name__} {text[:VALUE_TEXT]}…" if cut else f"{cls.__name__} {text}"
    return type_name(value)


def key_step(key: Any) -> str:
    """The path step into a dict: `['name']`, `[7]`."""
    if type(key) is str or type(key) is bytes:
        return f"[{key[:VALUE_TEXT]!r}]"
    return f"[{show(key).removeprefix('int ')}]"


def pack(tree: object, limits: Limits) -> bytes:
    """Msgpack of a tree of exact builtins and ExtType. Raises Fault with the path of what does not fit.

    A new packer each time: a shared one mixes up the output of threads as soon as anything it calls lets another thread run.
    """
    try:
        blob: bytes = _packb(tree)
    except (ValueError, OverflowError) as error:  # UnicodeEncodeError is a ValueError
        _blame(tree)
        raise Fault(f"msgpack cannot hold it ({str(error)[:VALUE_TEXT]})") from error
    if len(blob) > limits.bytes:
        raise too_large(limits)
    return blob


def order(tree: object) -> bytes:
    """A sort key that is the same in every process, for what has no order of its own."""
    try:
        ranked: bytes = _packb(tree)
        return ranked
    except (UnicodeEncodeError, OverflowError):
        return b""  # pack() will name it


def _blame(tree: object) -> None:
    """Raise the Fault for the first value in `tree` that msgpack cannot hold; its path is known here only."""
    if type(tree) is str:
        try:
            tree.encode()
        except UnicodeEncodeError:
            raise Fault(f"{show(tree)} has a lone surrogate, which is no text; use Path or bytes for file names") from None
    elif type(tree) is int and not -(2**63) <= tree < 2**64:
        raise Fault(f"{show(tree)} does not fit in 64 bits; store it as str")
    elif type(tree) is list or type(tree) is tuple:
        skip = 1 if tree and type(tree[0]) is ExtType else 0  # a self-described tuple or set starts with a mark
        for index, item in enumerate(tree[skip:]):
            _blame_at(item, f"[{index}]")
    elif type(tree) is dict:
        for key, item in tree.items():
            _blame_at(key, " key")
            _blame_at(item, f".{key}" if type(key) is str and key.isidentifier() else key_step(key))


def _blame_at(item: object, step: str) -> None:
    try:
        _blame(item)
    except Fault as fault:
        raise fault.within(step) from None


def unpack(blob: bytes, limits: Limits) -> Any:
    """The tree of builtins and ExtType in `blob`. Raises Fault if it is over the limits, damaged, or has a map key twice.

    Depth is left to who walks the tree: msgpack's own parser does not recurse and stops at 1,024.
    """
    if len(blob) > limits.bytes:
        raise Fault(f"{len(blob):,} bytes are stored, the limit is {limits.bytes:,}")
    try:
        if 2 * len(blob) <= limits.items:  # an item is at least one byte, so there is nothing to count
            return _unpackb(blob, object_pairs_hook=_map, strict_map_key=False)
        list_hook, pairs_hook = _counters(limits)
        most = limits.items
        return _unpackb(blob, list_hook=list_hook, object_pairs_hook=pairs_hook, strict_map_key=False, max_array_len=most, max_map_len=most)
    except (Fault, MemoryError):
        raise
    except Exception as error:
        raise _damaged(blob, error, limits) from None


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # msgpack alone lets the last one win
        keys = iter(key for key, _ in pairs)
        expected = iter(found)
        twice = next(key for key in keys if key is not next(expected, None))
        raise Fault(f"damaged: the map key {show(twice)} occurs twice")
    return found


def _counters(limits: Limits) -> tuple[Callable[[list[Any]], list[Any]], Callable[[list[tuple[Any, Any]]], dict[Any, Any]]]:
    """Hooks that count while msgpack unpacks: a small blob can stand for a hundred times its size in empty maps."""
    left = limits.items

    def count(items: int) -> None:
        nonlocal left
        left -= items + 1
        if left < 0:
            raise too_many(limits)

    def on_list(items: list[Any]) -> list[Any]:
        count(len(items))
        return items

    def on_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        count(len(pairs))
        return _map(pairs)

    return on_list, on_map


def _damaged(blob: bytes, error: Exception, limits: Limits) -> Fault:
    if isinstance(error, (StackError, RecursionError)):
        return too_deep()
    if isinstance(error, ExtraData):
        return Fault(f"damaged: {len(error.extra):,} bytes follow the value")
    if isinstance(error, FormatError):
        return Fault("damaged: a byte that starts no value (0xc1)")
    if len(blob) > limits.items and "exceeds max_" in str(error):
        return too_many(limits)
    return Fault(f"damaged: not one whole msgpack value in {len(blob):,} bytes ({str(error)[:VALUE_TEXT]})")
