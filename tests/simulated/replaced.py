"""Other values for names of modules and classes, for a while. A history has thirty of them: `mock.patch` takes as long for one as this for ten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(*what: tuple[Any, str, Any]) -> Iterator[None]:
    """`what`: (module or class, name in it, value). In the end each name has again what it had."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in what]
    try:
        for owner, name, value in what:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
