"""The commands and their options. Each imports what it needs when it is called, so that asking for help costs nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from callboard.actors.frontends.reach import default_library

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = "Exit codes: 0 done; 1 something failed or was refused; 2 not started; 130, 143, 129 interrupted by Ctrl-C, SIGTERM, SIGHUP."


def with_library(command: F) -> F:
    """--library and --json."""
    command = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")(command)
    return click.option(
        "--library", type=click.Path(path_type=Path), default=default_library, metavar="DIR",
        help="The library's folder. Default: callboard in $XDG_STATE_HOME, or in ~/.local/state.",
    )(command)  # fmt: skip


def _ports() -> Any:
    from callboard.actors.ports import ThreadPorts

    return ThreadPorts()


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="callboard")
def callboard() -> None:
    """Durable, resumable jobs: copy files, and look after the jobs of a library."""


@callboard.command(epilog=EPILOG)
@click.argument("sources", nargs=-1, required=True, metavar="SRC...", type=click.Path(path_type=str))
@click.argument("target", metavar="DST", type=click.Path(path_type=str))
@with_library
@click.option(
    "--on-conflict", type=click.Choice(["replace", "skip", "rename", "error"]), default="replace", show_default=True,
    help="What to do with a file that exists at the target.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Read each copy back and compare it.")
@click.option("--preserve-setid", is_flag=True, help="Keep setuid and setgid bits.")
@click.option("--workers", type=click.IntRange(1, 1000), default=16, show_default=True, help="Files to copy at a time.")
@click.pass_context
def copy(
    context: click.Context, sources: tuple[str, ...], target: str, library: Path, as_json: bool, on_conflict: Any, verify: bool,
    preserve_setid: bool, workers: int,
) -> None:  # fmt: skip
    """Copy files and folders in parallel, to DST or, if that is a folder, into it.

    Whatever interrupts it, the same command goes on where it stopped: Ctrl-C, a kill, a power cut. If another process has the library open,
    the copy runs there, and is only watched here (--workers is then of no effect). Ctrl-C pauses the copy.
    """
    from callboard.actors.frontends.copy_run import CopyRun
    from callboard.actors.frontends.screen import screen_for
    from callboard.jobs.files.copy import CopyFiles

    here = Path(os.getcwd())
    job = CopyFiles(tuple(here / source for source in sources), here / target, on_conflict, verify, preserve_setid)
    if library == default_library():
        library.parent.mkdir(0o700, parents=True, exist_ok=True)
    ports = _ports()
    run = CopyRun(job, library, workers=workers, as_json=as_json, screen=screen_for(ports, as_json=as_json), ports=ports)
    context.exit(run.run())


@callboard.command(epilog=EPILOG)
@with_library
@click.option("--import", "modules", multiple=True, metavar="MODULE", help="Import this module, which defines job types. May be repeated.")
@click.option("--workers", type=click.IntRange(1, 1000), default=8, show_default=True, help="Tasks to run at a time.")
@click.pass_context
def resume(context: click.Context, library: Path, as_json: bool, modules: tuple[str, ...], workers: int) -> None:
    """Open a library and run its jobs to their end, save those that a user paused.

    What is passed over (types that are not known here, paused and quarantined jobs) is listed at the end.
    """
    from callboard.actors.frontends.modules import import_job_types
    from callboard.actors.frontends.resume_run import ResumeRun
    from callboard.actors.frontends.screen import screen_for

    import_job_types(modules)
    ports = _ports()
    screen = screen_for(ports, as_json=as_json, many=True)
    context.exit(ResumeRun(library, workers=workers, as_json=as_json, screen=screen, ports=ports).run())


@callboard.command(epilog=EPILOG)
@click.argument("name")
@click.option(
    "--from", "source", required=True, metavar="FILE",
    help="A file of JSON lines, or - for standard input. A line is an object of the job's fields; its submission's options are an object"
    ' under "@": {"path": "a", "@": {"key": "a"}}.',
)  # fmt: skip
@with_library
@click.option("--plan", is_flag=True, help="Only say what would become of each item.")
@click.option("--batch-id", metavar="ID", help="A UUID. The same lines again under the same id go on where it stopped, and nothing is queued twice.")
@click.option("--group", help="Group of items without one.")
@click.option("--priority", type=click.IntRange(0, 255), help="Priority of items without one: 0 first, 255 last.")
@click.option("--tag", "tags", multiple=True, help="Tag of items without any. May be repeated.")
@click.option("--on-duplicate", type=click.Choice(["skip", "supersede", "requeue", "reject"]), help="What to do when a key is taken.")
@click.option("--requested-by", help="Who asks, for the records.")
@click.option("--import", "modules", multiple=True, metavar="MODULE", help="Import this module, which defines job types. May be repeated.")
@click.pass_context
def submit(
    context: click.Context, name: str, source: str, library: Path, as_json: bool, plan: bool, batch_id: str | None, group: str | None,
    priority: int | None, tags: tuple[str, ...], on_duplicate: str | None, requested_by: str | None, modules: tuple[str, ...],
) -> None:  # fmt: skip
    """Queue many jobs of the type NAME as one batch. An item that is bad fails alone.

    If another process has the library open, it takes them, and must know the type; else they wait for `callboard resume`.
    """
    from callboard.actors.frontends.modules import import_job_types
    from callboard.actors.frontends.submit_run import read_options, submit_lines
    from callboard.jobs.errors import NoSuchJob
    from callboard.jobs.identity import id_from_text

    import_job_types(modules)
    try:
        raw = None if batch_id is None else id_from_text(batch_id)
    except NoSuchJob:
        raise click.BadParameter(f"{batch_id!r} is no UUID", param_hint="--batch-id") from None
    options = read_options(group, priority, tags, on_duplicate, requested_by)
    context.exit(submit_lines(library, _ports(), name, source, options, plan=plan, batch_id=raw, as_json=as_json))


@callboard.command(epilog=EPILOG)
@with_library
@click.pass_context
def doctor(context: click.Context, library: Path, as_json: bool) -> None:
    """Say what is wrong with a library, without changing a byte of it. Exit codes: 0 whole, 1 damaged, 2 could not look.

    It works beside a process that has the library open, unless that one writes without a pause. It needs room for a copy in $TMPDIR.
    """
    from callboard.actors.frontends.repair import look_for_damage

    context.exit(look_for_damage(library, as_json=as_json))


@callboard.command(epilog=EPILOG)
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_context
def salvage(context: click.Context, source: Path, target: Path, as_json: bool) -> None:
    """Save all that is whole of the library SRC into a new library DST, and say what was left out. SRC is not changed."""
    from callboard.actors.frontends.repair import save_what_is_whole

    context.exit(save_what_is_whole(source, target, _ports(), as_json=as_json))


@callboard.command(epilog=EPILOG)
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=40.0, show_default=True, help="How long, about.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="The same choices again, as far as real processes allow. Default: drawn, and told.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True), default=".", metavar="DIR",
    help="Where to try: a folder on the disk that is to be trusted. Default: here.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_context
def torture(context: click.Context, seconds: float, seed: int | None, directory: Path, as_json: bool) -> None:
    """Try to break what callboard promises, on this machine and this disk. Exit codes: 0 all held, 1 something broke.

    Processes are killed at any moment, also by their own jobs, race for a library, run into a full disk, lose their database, are given damaged
    files; a line for each guarantee says what was tried. It makes a folder of its own in DIR and removes it, unless something broke.
    """
    from callboard.actors.frontends.torture_run import torture

    context.exit(torture(directory, seconds, seed, _ports(), as_json=as_json))


@callboard.command(epilog=EPILOG)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="Small sizes, no peers unless they are named, a minute in all.")
@click.option("--peers", metavar="NAME,...", help="Only these; an empty text: none. Default: all that are installed.")
@click.option("--repeats", type=click.IntRange(1, 1000), metavar="N", help="Measured rounds. Default: 5, in a quick run 3.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True), default=".", metavar="DIR",
    help="Where to work: a folder on the disk that is to be measured. Default: here.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write results.json and report.html there.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, as in results.json.")
@click.option("--list", "only_list", is_flag=True, help="List the scenarios and what is in them.")
@click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="OLD NEW", help="What changed between two results.json, beyond noise.")
@click.pass_context
def bench(
    context: click.Context, scenarios: tuple[str, ...], quick: bool, peers: str | None, repeats: int | None, directory: Path, out: Path | None,
    as_json: bool, only_list: bool, compare: tuple[Path, Path] | None,
) -> None:  # fmt: skip
    """Measure callboard beside the raw limit and beside other systems, on this machine. Exit codes: 0 no goal missed, 1 one is beyond doubt.

    It makes a folder of its own in DIR and removes it. Without a SCENARIO: all of them, which takes half an hour with all peers, and 10 GB of room.
    """
    from callboard.benchmarks import command

    if only_list:
        command.show_list()
    elif compare is not None:
        command.compare(*compare)
    else:
        named = None if peers is None else [name for name in peers.split(",") if name]
        context.exit(command.bench(scenarios, directory, out, quick=quick, repeats=repeats, peers=named, as_json=as_json))


# --- batches ------------------------------------------------------------------------------------------------------------


@callboard.group(epilog=EPILOG)
def batches() -> None:
    """Look at batches, also while another process runs their jobs."""


@batches.command("list")
@with_library
@click.option("--limit", type=click.IntRange(0), default=1000, show_default=True, help="How many at most; 0: all.")
def list_batches_command(library: Path, as_json: bool, limit: int) -> None:
    """List batches, the newest first."""
    from callboard.actors.frontends.batches_list import list_batches

    list_batches(library, _ports(), limit=limit, as_json=as_json)


@batches.command("show")
@click.argument("batch_id", metavar="ID")
@with_library
def show_batch_command(batch_id: str, library: Path, as_json: bool) -> None:
    """Show how far a batch is."""
    from callboard.actors.frontends.batches_list import show_batch

    show_batch(library, _ports(), batch_id, as_json=as_json)


# --- jobs ---------------------------------------------------------------------------------------------------------------


@callboard.group(epilog=EPILOG)
def jobs() -> None:
    """Look at jobs and steer them, also while another process runs them.

    A job is named by its id, or by so much of its beginning that it means one job.
    """


@jobs.command("list")
@with_library
@click.option("--status", "statuses", multiple=True, metavar="STATUS", help="Only jobs in this status. May be repeated.")
@click.option("--name", help="Only jobs of this type.")
@click.option("--group", help="Only jobs of this group.")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--live", "which", flag_value="live", help="Only jobs that have not ended.")
@click.option("--ended", "which", flag_value="ended", help="Only jobs that have ended.")
@click.option("--tree", is_flag=True, help="Jobs that are nobody's children, each with its own below it: ten of each, with --limit 0 all.")
@click.option("--limit", type=click.IntRange(0), default=1000, show_default=True, help="How many at most; 0: all.")
def list_command(
    library: Path, as_json: bool, statuses: tuple[str, ...], name: str | None, group: str | None, tag: str | None, which: str | None, tree: bool,
    limit: int,
) -> None:  # fmt: skip
    """List jobs: the live ones in order of arrival, then the ended ones, the latest first."""
    from callboard.actors.frontends.jobs_list import list_jobs
    from callboard.jobs.lifecycle import Status
    from callboard.jobs.record import JobFilter

    bad = [status for status in statuses if status not in tuple(Status)]
    if bad:
        raise click.BadParameter(f"{bad[0]!r} is not one of {', '.join(Status)}", param_hint="--status")
    wanted = JobFilter(status=tuple(map(Status, statuses)) or None, name=name, group=group, tag=tag)
    list_jobs(library, _ports(), wanted, which=which or "all", limit=limit, as_json=as_json, tree=tree)


@jobs.command()
@click.argument("job_id", metavar="ID")
@with_library
@click.option("--warnings", "all_warnings", is_flag=True, help="All that failed in it, not only the first.")
def show(job_id: str, library: Path, as_json: bool, all_warnings: bool) -> None:
    """Show all that is known of a job."""
    from callboard.actors.frontends.jobs_show import show_job

    show_job(library, _ports(), job_id, all_warnings=all_warnings, as_json=as_json)


@jobs.command()
@click.argument("job_id", metavar="ID")
@with_library
@click.pass_context
def watch(context: click.Context, job_id: str, library: Path, as_json: bool) -> None:
    """Show a job's progress until it ends. Ctrl-C ends the watching, not the job."""
    from callboard.actors.frontends.jobs_watch import watch_job
    from callboard.actors.frontends.screen import screen_for

    ports = _ports()
    context.exit(watch_job(library, ports, job_id, screen_for(ports, as_json=as_json), as_json=as_json))


@jobs.command()
@click.argument("job_id", metavar="ID")
@with_library
def log(job_id: str, library: Path, as_json: bool) -> None:
    """Print what a job has logged."""
    from callboard.actors.frontends.jobs_show import print_log

    print_log(library, _ports(), job_id, as_json=as_json)


def _steering(verb: Any, text: str) -> None:
    @jobs.command(verb, help=text)
    @click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
    @with_library
    @click.pass_context
    def command(context: click.Context, job_ids: tuple[str, ...], library: Path, as_json: bool) -> None:
        from callboard.actors.frontends.jobs_steer import steer

        context.exit(steer(library, _ports(), verb, job_ids, as_json=as_json))


_steering("pause", "Pause jobs. It is on disk when this returns; a running job stops at its next look.")
_steering("resume", "Lift a user's pause, or the quarantine. If nobody has the library open, `callboard resume` then runs them.")
_steering("cancel", "Cancel jobs, whatever they do.")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@with_library
@click.option("--failed-only", "ledger", flag_value="failed", help="Only the items that failed.")
@click.option("--keep-done", "ledger", flag_value="rest", help="Not the items that are done.")
@click.pass_context
def retry(context: click.Context, job_ids: tuple[str, ...], library: Path, as_json: bool, ledger: str | None) -> None:
    """Make a new job from each of these, which have ended."""
    from callboard.actors.frontends.jobs_steer import steer

    context.exit(steer(library, _ports(), "retry", job_ids, ledger=ledger or "none", as_json=as_json))
