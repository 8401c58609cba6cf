"""The task that copies one entry alone: what it tells as copied is on disk, its name too."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callboard.jobs.files import copy
from callboard.jobs.files.copy import CopyFile
from callboard.jobs.files.walk import walk


@pytest.mark.parametrize("kind", ["file", "link"])
def test_G16_the_name_of_a_copy_is_synced_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a").write_bytes(b"content") if kind == "file" else (source / "a").symlink_to("elsewhere")
    order: list[str] = []
    real_rename, real_sync = os.rename, copy.sync_folder
    monkeypatch.setattr(os, "rename", lambda *a, **k: (order.append("named"), real_rename(*a, **k))[1])
    monkeypatch.setattr(copy, "sync_folder", lambda folder: (order.append("synced"), real_sync(folder))[1])
    ctx: Any = SimpleNamespace(recorded=None, token="token", cancelled=False, check_interrupt=lambda: None, record=lambda *a, **k: None)
    [entry] = [entry for entry in walk([os.fsencode(source)]) if entry.kind == kind]
    pair = os.fsencode(source), os.fsencode(target)
    end = CopyFile(copy._item(entry), pair, "replace", False, False, session=-1, again=False).run(ctx)
    assert (end.status, order) == ("copied", ["named", "synced"])
