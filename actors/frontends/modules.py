"""Job types of the host's, for `callboard resume --import MODULE`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable

from callboard.actors.named_items import BUILT_IN
from callboard.jobs.errors import ConfigError, error_text


def import_job_types(modules: Iterable[str]) -> None:
    """Import callboard's own job types and these modules, which may lie in the working directory. Raises `ConfigError`."""
    for module in BUILT_IN.values():
        importlib.import_module(module)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind all else: a file that lies there by chance must not stand for an installed module
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ConfigError(f"--import {module}: {error_text(error)}") from error
