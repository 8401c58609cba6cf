"""What a case's ledger must say, held against what was found afterwards: the promises, story by story. Pure functions; one line a breach."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from faulty_disk import KILLED, Fault, Line, Told

ENDED = ("completed", "completed_with_errors", "failed", "cancelled")

EXPECTED: dict[str, dict[str, tuple[str, object]]] = {
    "checkpoint": {"n0": ("completed", 0), "n1": ("completed", 10)},
    "claim": {f"n{number}": ("completed", number * 10) for number in range(4)},
    "end": {
        "n0": ("completed", 0),
        "n1": ("failed", None),
        "n2": ("completed_with_errors", "done"),
        "n3": ("completed", 30),
        "n4": ("completed", 30),
    },
}
"""How the jobs of a story end where nothing else ends them."""


def breaches(story: str, folder: Path, fault: Fault | None, live: Told, after: Told, seen: list[str]) -> list[str]:
    """What went wrong in a case; empty: nothing. `fault`: None for an image of a power cut. `seen`: of a copy, what `wrong_files` found before
    `afterwards`.
    """
    found = [*_processes(fault, live, after)]
    if not after.all("defect") and not after.exit:
        found += _submissions(live, after)
        found += _jobs(story, live, after, failing=fault is not None and not fault.dies)
        found += [breach for rule in _OF_STORY.get(story.split()[0], ()) for breach in rule(live, after)]
        if story.startswith("copy"):
            found += seen
            found += _copied(folder, fault, live, after)
    return found


def _processes(fault: Fault | None, live: Told, after: Told) -> Iterator[str]:
    if live.exit and not (live.exit == KILLED and (fault is None or fault.dies)):
        yield f"its process ended with {live.exit}"
    if after.exit:
        yield f"the process that looked afterwards ended with {after.exit}"
    for told, when in ((live, "in it"), (after, "afterwards")):
        for line in told.all("defect"):
            yield f"{when}: {line['defect']}"
    for line in live.all("retried"):
        if line["retried"]:
            yield f"{line['retried']} syncs were tried again on the same handle"
    if (fault is None or fault.dies) and live.all("not_opened"):
        yield f"not opened: {live.all('not_opened')}"
    for line in after.all("integrity"):
        if line["integrity"] != "ok":
            yield f"integrity: {line}"


def _submissions(live: Told, after: Told) -> Iterator[str]:
    """G1, G2: acknowledged is stored, refused is not, unknown can be resolved, nothing is there twice."""
    rows = {line["found"]: line for line in after.all("found")}
    ids = {line["id"] for line in after.all("found")}
    for name, count in Counter(line["found"] for line in after.all("found")).items():
        if count > 1 and name is not None:
            yield f"{name} is stored {count} times"
    for line in live.all("acked"):
        if line["acked"] == "submit" and rows.get(f"n{line['number']}", {}).get("id") != line["id"]:
            yield f"acknowledged, and not stored: {line}"
    for line in live.all("refused"):
        if line["refused"] == "submit" and f"n{line['number']}" in rows:
            yield f"refused, and stored: {line}"
    for line in live.all("unknown"):
        if line["unknown"] == "submit" and line["token"] and (line["token"] in ids) != (f"n{line['number']}" in rows):
            yield f"its token does not tell whether it is stored: {line}"
    yield from _steered(live, rows)


def _steered(live: Told, rows: dict[str, Line]) -> Iterator[str]:
    """G9: the last intent that was answered stands, unless one that was not answered came later."""
    for name, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        for line in live.all("acked"):
            row = rows.get(f"n{line['number']}")
            later = name == "pause" and line["number"] == 2 and not any(line["refused"] == "resume" for line in live.all("refused"))
            if line["acked"] == name and not later and (row is None or row["status"] != status):
                yield f"{name} was acknowledged, and it is {row}"
        for line in live.all("refused"):
            row = rows.get(f"n{line['number']}")
            if line["refused"] == name and row is not None and row["status"] == status and name != "resume":
                yield f"{name} was refused, and it is {row}"


def _jobs(story: str, live: Told, after: Told, *, failing: bool) -> Iterator[str]:
    """G4, G6: no checkpoint older than acknowledged, no mix of two, no end that changes, nothing stuck."""
    rows = {line["found"]: line for line in after.all("found")}
    saved = {line["saved"]: line["at"] for line in live.all("saved")}
    for line in (*live.all("runs"), *after.all("runs")):
        if line["twin"] != 7 * line["at"]:
            yield f"fields of two checkpoints: {line}"
    for line in rows.values():
        least = saved.get(int((line["found"] or "n0")[1:]), 0)
        if line.get("sequence", least) < least and line["status"] not in ENDED:
            yield f"its checkpoint is older than acknowledged, {least}: {line}"
    for line in after.all("runs"):
        if line["at"] < saved.get(line["runs"], 0):
            yield f"it went on from an older checkpoint: {line}, saved was {saved[line['runs']]}"
    for line in live.all("runs"):
        row = rows.get(f"n{line['runs']}")
        if row is None or not row["claim"]:
            yield f"it ran, and its claim is not stored: {line}, {row}"
    for line in live.all("ended"):
        row = rows.get(line["ended"])
        if row is None or row["status"] != line["end"] or row.get("result", line["result"]) != line["result"]:
            yield f"it had ended, and is now another: {line}, {row}"
    for line in after.all("no_end"):
        yield f"it is stuck: {line}"
    expected = EXPECTED.get(story, {})
    ended = {line["found"]: line for line in after.all("found") if line["status"] in ENDED}
    ended |= {line["ended"]: {**line, "status": line["end"]} for line in after.all("ended")}
    for name, row in rows.items():
        if name in expected and name not in ended:
            yield f"it has not ended: {row}"
    for name, line in ended.items():
        if name in expected and (line["status"], line["result"]) != expected[name] and not (failing and line["status"] == "failed"):
            yield f"it ended otherwise than it should: {line}"


def _making(live: Told, after: Told) -> Iterator[str]:
    if after.all("nothing") and (live.all("opened") or live.all("acked")):
        yield "the library was opened, and is gone"


def _batch(live: Told, after: Told) -> Iterator[str]:
    """G3: parts are whole, the acknowledged ones are there, and sending the batch again completes it."""
    there = sorted(int(line["found"][1:]) for line in after.all("found") if line["found"] not in (None, "n100", "n99"))
    acked = max([0, *(line["number"] for line in live.all("acked") if line["acked"] == "part"), *(line["batch"] for line in live.all("batch"))])
    if there != list(range(len(there))) or len(there) % 3:
        yield f"a part is not whole: {there}"
    if len(there) < acked:
        yield f"{acked} items were acknowledged, and {len(there)} are stored"
    for line in after.all("again"):
        if not (line["again"] and line["same"] and line["count"] == 9):
            yield f"sent again it is not complete: {line}"


def _migration(live: Told, after: Told) -> Iterator[str]:
    there = {line["found"] for line in after.all("found")}
    if not {f"n{number}" for number in range(5)} <= there:
        yield f"rows of the old library are gone: {sorted(there)}"
    for line in after.all("kept"):
        if (line["kept"], line["kept_integrity"]) != (5, "ok"):
            yield f"what was kept of the old library: {line}"


def _backup(live: Told, after: Told) -> Iterator[str]:
    """A backup is absent or whole; one that is replaced is the old or the new one."""
    backups = {line["backup"]: line for line in after.all("backup")}
    acked = {line["acked"] for line in live.all("acked")}
    for line in (*backups.values(), *after.all("made_again")):
        if line["integrity"] != "ok":
            yield f"a backup is damaged: {line}"
    new, old, replaced = (backups.get(name, {}).get("jobs") for name in ("new.backup", "old.backup", ".old.backup.replaced"))
    if new != 2 and (new is not None or "backup" in acked):
        yield f"the new backup has {new} jobs, acknowledged were {acked}"
    if old is None and replaced != 1:
        yield f"the old backup is gone: {backups}"
    if old == 1 and "replace" in acked or old not in (None, 1, 2, 3):
        yield f"the replaced backup has {old} jobs, acknowledged were {acked}"


# --- a copied tree ------------------------------------------------------------------------------------------------------------

BEFORE = {"old": b"what it was before" * 10, "d/young": b"old"}


def wrong_files(folder: Path) -> list[str]:
    """G16: what has its final name in the target is whole: the old file or the new one; the source is as it was."""
    found = []
    source, target = content_of(folder / "source"), content_of(folder / "copy" / "source")
    for name, content in target.items():
        if os.path.basename(name).startswith(".cb-"):
            continue
        if content not in (source.get(name, "nothing"), BEFORE.get(name, "nothing")):
            found.append(f"{name} at the target is neither the old file nor the new one: {content!r:.200}")
    for name in BEFORE:
        if name not in target:
            found.append(f"{name} at the target is gone")
    if len(source) != 11:
        found.append(f"the source has {len(source)} entries")
    return found


def content_of(tree: Path) -> dict[str, bytes | str]:
    """Relative path → the bytes of a file, `→ text` of a link, `/` of a folder."""
    found: dict[str, bytes | str] = {}
    for folder, folders, names in os.walk(tree):
        for name in [*folders, *names]:
            path = Path(folder) / name
            if path.is_symlink():
                content: bytes | str = f"→ {os.readlink(path)}"
            else:
                content = "/" if path.is_dir() else path.read_bytes()
            found[str(path.relative_to(tree))] = content
    return found


def unequal(folder: Path) -> list[str]:
    """Where the target is not exactly the source: content, kind, mode and time of each entry, and nothing besides."""
    trees = [folder / "source", folder / "copy" / "source"]
    contents = [content_of(tree) for tree in trees]
    found = [f"{name} is in one tree only, or differs" for name in contents[0].keys() ^ contents[1].keys()]
    for name in contents[0].keys() & contents[1].keys():
        one, other = ((tree / name).lstat() for tree in trees)
        if contents[0][name] != contents[1][name]:
            found.append(f"{name} has another content")
        elif (one.st_mode, one.st_mtime_ns) != (other.st_mode, other.st_mtime_ns):
            found.append(f"{name}: mode {stat.filemode(one.st_mode)}, {stat.filemode(other.st_mode)}; mtime {one.st_mtime_ns}, {other.st_mtime_ns}")
    return found


def _copied(folder: Path, fault: Fault | None, live: Told, after: Told) -> Iterator[str]:
    """After running on to its end a copy is equal, with nothing left over; one that met errors says so."""
    ends = [line["end"] for line in (*live.all("ended"), *after.all("ended"))]
    ends += [line["status"] for line in after.all("found") if line["found"] == "n0" and line["status"] in ENDED]
    if ends and ends[-1] == "completed":
        yield from (f"the copy has completed: {line}" for line in unequal(folder))
    elif (fault is None or fault.dies) and live.all("acked"):
        yield f"the copy has not completed: {ends}"


_OF_STORY = {"making": (_making,), "batch": (_batch,), "migration": (_migration,), "backup": (_backup,)}
