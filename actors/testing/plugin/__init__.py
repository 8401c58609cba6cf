"""The pytest plugin: `runtime`, `library`, `frozen_clock`, `drain` for tests of applications with jobs. It imports callboard when one is used.

It is installed as `callboard_pytest` as well, which is what pytest loads: to import a module below `callboard` is to import callboard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from callboard.actors.door import Library
    from callboard.actors.runtime import Runtime
    from callboard.actors.testing.frozen_clock import FrozenClock


@pytest.fixture
def frozen_clock() -> FrozenClock:
    """A clock that stands still until the test calls `advance(seconds)`; the fixture `runtime` runs on it."""
    from callboard.actors.testing.frozen_clock import FrozenClock

    return FrozenClock()


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """A `Runtime`, closed after the test. On the `frozen_clock` if the test uses it."""
    from callboard.actors.runtime import Runtime

    ports = request.getfixturevalue("frozen_clock") if "frozen_clock" in request.fixturenames else None
    with Runtime(ports=ports) as made:
        yield made


@pytest.fixture
def library(runtime: Runtime, tmp_path: Path) -> Library:
    """An empty library, open in `runtime`, in a folder of the test's own; closed after the test. `ctx.services` is None in it."""
    return runtime.open_library(tmp_path / "callboard.library", control=False)


@pytest.fixture
def drain() -> Callable[..., None]:
    """`drain(library, timeout=60.0)`: wait until the library has nothing left to run that could run."""
    from callboard.actors.testing.draining import drain

    return drain
