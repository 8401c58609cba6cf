"""The log of a job is written beside its library and nowhere else, and what is said in it forges no line, here or in the host's own logs."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from callboard import Job, JobContext, JobFailed, RetryPolicy, Runtime
from callboard.actors.joblog import JobLog

SECONDS = 100.0
JOB = bytes(range(16))
NAME = "00010203-0405-0607-0809-0a0b0c0d0e0f.log"
FORGED = "no such file: 'a\n2026-01-01 CRITICAL all is lost\r\x1b[2J\x1b]0;title\x07\u202e\u2028\x85\x9b31m'"


def write_into(logs: Path) -> None:
    JobLog(logs, JOB, "some.job", 1, lambda: 1.0).info("a line")


def lay_link_to_folder(logs: Path, elsewhere: Path) -> None:
    logs.symlink_to(elsewhere)


def lay_link_to_file(logs: Path, elsewhere: Path) -> None:
    logs.mkdir()
    (logs / NAME).symlink_to(elsewhere / "mine")


def lay_second_name(logs: Path, elsewhere: Path) -> None:
    logs.mkdir()
    (logs / NAME).hardlink_to(elsewhere / "mine")


def lay_pipe(logs: Path, elsewhere: Path) -> None:
    logs.mkdir()
    os.mkfifo(logs / NAME)


def lay_file_for_folder(logs: Path, elsewhere: Path) -> None:
    logs.write_bytes(b"")


Lay = Callable[[Path, Path], None]


@pytest.mark.parametrize("lay", [lay_link_to_folder, lay_link_to_file, lay_second_name, lay_pipe, lay_file_for_folder])
def test_what_came_with_the_library_leads_its_log_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture, lay: Lay) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_bytes(b"mine")
    lay(tmp_path / "logs", elsewhere)
    write_into(tmp_path / "logs")
    assert os.listdir(elsewhere) == ["mine"] and (elsewhere / "mine").read_bytes() == b"mine"
    assert "the log of a job could not be written" in caplog.text


def test_a_log_is_its_users_alone_and_goes_on(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_into(tmp_path / "logs")
        write_into(tmp_path / "logs")
    finally:
        os.umask(old)
    assert (tmp_path / "logs" / NAME).read_text() == "1.000 INFO attempt=1 a line\n" * 2
    assert [stat.S_IMODE(os.lstat(path).st_mode) for path in (tmp_path / "logs", tmp_path / "logs" / NAME)] == [0o700, 0o600]


@dataclass
class LogForger(Job, name="test_log_attacks.forger", retry=RetryPolicy(max_attempts=2, first=0.0)):
    """Says what it found, in every way there is."""

    text: str

    def run(self, ctx: JobContext) -> None:
        ctx.log.warning("found %s", self.text)
        ctx.warn(self.text, self.text)
        ctx.report_phase("scan", at=self.text)
        raise OSError(self.text)


def test_no_text_forges_a_line_in_the_hosts_logs_or_in_the_jobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "library")
        handle = library.submit(LogForger(FORGED))
        with pytest.raises(JobFailed):
            handle.wait(SECONDS)
        [log] = (library.path / "logs").iterdir()
        own = log.read_text()
    assert own.count("\n") == 4  # two attempts, what each says and what ends it
    assert all(each.isprintable() for each in own.splitlines()) and "\\x1b[2J" in own
    of_authors = [record for record in caplog.records if record.message.startswith("found ")]  # what he formats for his own handlers is his
    lines = "\n".join(record.getMessage() for record in caplog.records if record not in of_authors).splitlines()
    assert any("\\x1b[2J" in each for each in lines) and all(each.isprintable() for each in lines)
    assert not any(each.startswith("2026-01-01") for each in lines)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb", "\x9b31m", "x" * 201, ""])
def test_no_job_type_has_a_name_that_forges_a_line(name: str) -> None:
    from callboard.jobs.errors import BadJobType

    with pytest.raises(BadJobType, match="is not printable text of 1 to 200 characters"):

        class Forged(Job, name=name):
            def run(self, ctx: JobContext) -> None: ...
