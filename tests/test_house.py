"""The rules of the house, held by reading the source: each finds what breaks it, and each is shown a line that does.

A rule is a function from one source file to findings. `RULES` pairs it with the files it is for, with snippets that it must catch and
snippets that it must let pass; a rule that has gone blind fails its own snippets.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("jobs", "persistence", "actors")
LINES_A_FILE = 400
"""Longest file of the package. Most should stay under 300."""

MAY_IMPORT = {
    "jobs": {"callboard.jobs"},
    "persistence": {"callboard.persistence", "callboard.jobs", "apsw", "msgpack"},
    "actors": {"callboard.actors", "callboard.persistence", "callboard.jobs", "pykka"},
    "actors/testing": {"callboard.actors", "callboard.persistence", "callboard.jobs", "pykka", "greenlet", "pytest"},
    "actors/frontends": {"callboard.actors", "callboard.benchmarks", "callboard.persistence", "callboard.jobs", "pykka", "click", "rich"},
    "benchmarks": {"callboard", "pykka", "apsw", "msgpack"},
}
"""What a room may import besides the standard library; the longest matching folder counts."""

EDGES = ("callboard.actors.frontends", "callboard.actors.testing", "callboard.benchmarks")
"""Nothing in the rooms imports these, save themselves: an application must not pay for them."""

EDGES_ALLOWED = {
    "actors/frontends/torture_run.py": ("callboard.actors.testing", "the command that shows a tool which users test with"),
    "actors/frontends/commands.py": ("callboard.benchmarks", "the command that runs them"),
}
"""File: the edge it may import, and why."""

PORTED = {
    "_queue",
    "_random",
    "_thread",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "queue",
    "random",
    "sched",
    "secrets",
    "threading",
    "time",
    "uuid",
    "os.getrandom",
    "os.urandom",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
}
"""Threads, clocks, ids and chance: a simulated run must have them from its ports, or it cannot be repeated from its seed."""

PORTED_ALLOWED = {
    "actors/ports.py": (PORTED, "the real twin of the ports"),
    "actors/testing/": (PORTED, "the simulated twin, and the tools that start real processes"),
    "actors/handle.py": ({"asyncio"}, "the door for asyncio hosts; it runs on their loop, not on an actor"),
    "jobs/identity.py": ({"uuid.UUID"}, "reads and writes an id as text, makes none"),
    "persistence/": ({"uuid.UUID"}, "the type of a field, not the making of an id"),
    "benchmarks/": (
        {"threading", "time", "concurrent.futures", "os.urandom", "datetime.datetime.now"},
        "measures the time of the wall, beside real threads; never run by a simulation",
    ),
    "benchmarks/peers/": (PORTED, "other systems, used in their own way"),
}
"""File, or folder ending in "/": the names it may use, and why. Nothing is added here without a reason that a stranger accepts."""

MAY_ASK = ("actors/door.py",)
"""Who may wait for another actor's answer: the doors for the application's threads. An actor that asks an actor can deadlock with it."""

MAY_GET = ("actors/mailbox.py", "actors/ports.py", "actors/testing/")
"""Who may wait without a limit: an actor for its next message."""


@dataclass(frozen=True)
class Source:
    """One file: its path relative to the checkout, with "/", and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def origins(self) -> dict[str, str]:
        """Names bound by imports that run, and the dotted name each stands for."""
        bound = {}
        for node in self.nodes:
            if node in self.typing_only:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return bound

    @cached_property
    def typing_only(self) -> set[ast.AST]:
        """Everything under `if TYPE_CHECKING:`: it never runs."""
        conditions = (node for node in self.nodes if isinstance(node, ast.If))
        blocks = (node for node in conditions if ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING")
        return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}

    @cached_property
    def in_functions(self) -> set[ast.AST]:
        functions = (node for node in self.nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
        return {inner for function in functions for statement in function.body for inner in ast.walk(statement)}

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        """(statement, dotted name) of every import, one for each imported name."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.name
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    yield node, f"{node.module}.{alias.name}"

    def dotted(self, node: ast.expr) -> str:
        """The dotted name an expression stands for, imports resolved ("datetime.datetime.now"); "" if it is none."""
        if isinstance(node, ast.Name):
            return self.origins.get(node.id, "")
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def inside(self, *places: str) -> bool:
        return any(self.path == place or (place.endswith("/") and self.path.startswith(place)) for place in places)


def within(name: str, prefixes: set[str]) -> bool:
    """Whether the dotted `name` is one of `prefixes` or below it."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in prefixes for end in range(1, len(parts) + 1))


def at(node: ast.AST, text: str) -> str:
    return f"line {getattr(node, 'lineno', 1)}: {text}"


# --- the rules --------------------------------------------------------------------------------------------------------


def imports_point_one_way(source: Source) -> Iterator[str]:
    room = max((folder for folder in MAY_IMPORT if source.inside(folder + "/")), key=len)
    for node, name in source.imports():
        if name.split(".")[0] not in sys.stdlib_module_names and not within(name, MAY_IMPORT[room]):
            yield at(node, f"{name}: {room}/ may import only the standard library and {', '.join(sorted(MAY_IMPORT[room]))}")


def edges_are_imported_by_nobody(source: Source) -> Iterator[str]:
    allowed, _ = EDGES_ALLOWED.get(source.path, ("", ""))
    for node, name in source.imports():
        for edge in EDGES:
            if within(name, {edge}) and edge != allowed and not source.inside(edge.removeprefix("callboard.").replace(".", "/") + "/"):
                yield at(node, f"{name}: nothing inside imports {edge}")


def what_few_commands_use_is_imported_late(source: Source) -> Iterator[str]:
    """click and rich are an extra: the entry point must be able to say so, and a plain command must not pay for rich, nor for the benchmarks."""
    for node, name in source.imports():
        entry = source.inside("actors/frontends/cli.py", "actors/frontends/__init__.py")
        late = {"click", "rich", "callboard.benchmarks"} if entry else {"rich", "callboard.benchmarks"}
        if within(name, late) and node not in source.in_functions and node not in source.typing_only:
            yield at(node, f"{name}: import it inside the function that uses it")


def ports_hold_threads_clocks_and_chance(source: Source) -> Iterator[str]:
    allowed: set[str] = set().union(*(names for place, (names, _) in PORTED_ALLOWED.items() if source.inside(place)))
    used: list[tuple[ast.AST, str]] = list(source.imports())
    used += [(node, source.dotted(node)) for node in source.nodes if isinstance(node, (ast.Attribute, ast.Name))]
    for node, name in used:
        only_on_the_way = any(exact.startswith(name + ".") for exact in allowed)  # `import uuid`, to use uuid.UUID
        if within(name, PORTED) and not within(name, allowed) and not only_on_the_way and node not in source.typing_only:
            yield at(node, f"{name}: only behind the ports (actors/ports.py)")


def imports_are_absolute(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield at(node, "a relative import; write callboard.…")


def every_module_says_its_promise(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield "no docstring"


def names_say_what_they_hold(source: Source) -> Iterator[str]:
    stem = Path(source.path).stem.lower()
    if stem in ("base", "common", "misc") or re.search("util|helper|manager", stem):
        yield f"a file named {stem} is where lines go that have no room; name it after its noun"
    for node in source.nodes:
        if isinstance(node, ast.ClassDef):
            bad = {"Manager", "Helper", "Helpers", "Util", "Utils", "Base", "Common"} & set(re.findall("[A-Z][a-z0-9]*", node.name))
            if bad:
                yield at(node, f"class {node.name}: {', '.join(sorted(bad))} says nothing")


def files_are_short(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LINES_A_FILE:
        yield f"{lines} lines, the limit is {LINES_A_FILE}: find the second noun in it"


def asks_an_actor(node: ast.AST) -> bool:
    """`….ask(…)` on what is called a ref: other things are asked too, such as a pool for slots."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "ask"):
        return False
    asked = node.func.value
    name = asked.attr if isinstance(asked, ast.Attribute) else asked.id if isinstance(asked, ast.Name) else ""
    return name.endswith("ref")


def asking_is_for_the_doors(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if asks_an_actor(node):
            if not source.inside(*MAY_ASK):
                yield at(node, f".ask() only in {', '.join(MAY_ASK)}; an actor tells, and is told")


def asking_has_a_limit(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.Call) and asks_an_actor(node):
            if not any(keyword.arg == "timeout" for keyword in node.keywords):
                yield at(node, ".ask() without timeout=")


def waiting_has_a_limit(source: Source) -> Iterator[str]:
    """A `.get()` without any argument is that of a future or a queue; of a mapping it has a key."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            if not node.args and not node.keywords and not source.inside(*MAY_GET):
                yield at(node, f"{ast.unparse(node)} waits for ever; give it a timeout=")


def no_test_sleeps(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, (ast.Attribute, ast.Name)) and source.dotted(node) == "time.sleep":
            yield at(node, "time.sleep: wait for what you mean, with a limit")
        if isinstance(node, ast.Constant) and re.search(r"\btime\.sleep\(|\bfrom time import .*\bsleep\b", str(node.value)):
            yield at(node, "time.sleep in a child's code: let it wait on its standard input")


def messages_are_frozen_and_told(source: Source) -> Iterator[str]:
    """Each class a frozen, slotted dataclass (or an Enum, or a Protocol), each field with a sentence under it. What only our own actors send
    each other, all that stands behind `Answered`, may be a NamedTuple: that is made in a quarter of the time when callboard is imported."""
    before: set[str] = set()
    for node in source.nodes:
        if not isinstance(node, ast.ClassDef) or any(re.search("Enum|Protocol", ast.unparse(base)) for base in node.bases):
            continue
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        made = next((text for text in decorators if re.match(r"(dataclasses\.)?dataclass\b", text)), "")
        own = "Answered" in before and [ast.unparse(base) for base in node.bases] == ["NamedTuple"]
        if not own and ("frozen=True" not in made or "slots=True" not in made):
            yield at(node, f"{node.name}: a message is a @dataclass(frozen=True, slots=True)")
        before.add(node.name)
        if not ast.get_docstring(node):
            yield at(node, f"{node.name}: no docstring")
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or re.match(r"([a-z]+\.)?(ClassVar|KW_ONLY)\b", ast.unparse(field.annotation)):
                continue
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if not isinstance(told, str) or not told.strip().endswith("."):
                yield at(field, f"{node.name}.{ast.unparse(field.target)}: no sentence under it")


def nothing_is_left_over(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("breakpoint", "pdb.set_trace"):
            yield at(node, f"{ast.unparse(node)} was left behind")
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#.*\b(TODO|FIXME|HACK)\b", line):
            yield f"line {number}: {line.strip()}: do it, or say in the docs that it is not done"


@dataclass(frozen=True)
class Rule:
    """One rule: the files it is for (a path, or a folder ending in "/"), snippets it catches, snippets it lets pass: (path, text)."""

    find: Callable[[Source], Iterator[str]]
    places: tuple[str, ...]
    caught: tuple[tuple[str, str], ...]
    passed: tuple[tuple[str, str], ...] = ()
    exempt: tuple[str, ...] = ()


IN_ROOMS = tuple(f"{room}/" for room in ROOMS)
IN_PACKAGE = (*IN_ROOMS, "benchmarks/")
"""What is installed: the rooms, and the instrument above them."""
EVERYWHERE = ("__init__.py", *IN_ROOMS, "benchmarks/", "examples/", "tests/")
MESSAGE = "@dataclass(frozen=True, slots=True)\nclass Submit:\n    'Asks for a job.'\n    job: bytes\n    'The job, encoded.'\n"
RULES = (
    Rule(
        imports_point_one_way,
        IN_PACKAGE,
        caught=(
            ("jobs/job.py", "import apsw"),
            ("jobs/job.py", "import msgpack as m"),
            ("jobs/job.py", "def f():\n    from callboard.persistence import codec"),
            ("jobs/job.py", "import jobs.errors"),
            ("jobs/job.py", "from callboard import Runtime"),
            ("persistence/store.py", "from callboard.actors.ports import Ports"),
            ("persistence/store.py", "import pykka"),
            ("actors/store.py", "import apsw"),
            ("actors/store.py", "from msgpack import packb"),
            ("actors/store.py", "import greenlet"),
            ("actors/runtime.py", "def f():\n    import click"),
            ("actors/frontends/cli.py", "import apsw.shell"),
            ("actors/testing/simulator.py", "import rich"),
            ("jobs/job.py", "import callboard.benchmarks"),
            ("actors/runtime.py", "def f():\n    from callboard.benchmarks import work"),
            ("benchmarks/harness.py", "import huey"),
        ),
        passed=(
            ("jobs/job.py", "import os.path\nfrom callboard.jobs.errors import Busy"),
            ("persistence/store.py", "import apsw\nfrom msgpack import packb\nimport callboard.jobs.errors"),
            ("actors/store.py", "import pykka\nfrom callboard.persistence import store"),
            ("actors/testing/simulator.py", "import greenlet"),
            ("benchmarks/raw.py", "import apsw\nimport callboard\nfrom callboard.actors.messages import Submit"),
        ),
    ),
    Rule(
        edges_are_imported_by_nobody,
        IN_PACKAGE,
        caught=(
            ("actors/runtime.py", "def f():\n    from callboard.actors.frontends import cli"),
            ("actors/ports.py", "import callboard.actors.testing.simulator"),
            ("actors/frontends/cli.py", "from callboard.actors import testing"),
            ("actors/frontends/cli.py", "def f():\n    from callboard.benchmarks import command"),
            ("actors/frontends/commands.py", "from callboard.actors import testing"),
            ("benchmarks/tables.py", "from callboard.actors.frontends import wording"),
        ),
        passed=(
            ("actors/frontends/cli.py", "from callboard.actors.frontends import table"),
            ("actors/frontends/commands.py", "def f():\n    from callboard.benchmarks import command"),
        ),
    ),
    Rule(
        what_few_commands_use_is_imported_late,
        ("actors/frontends/",),
        caught=(
            ("actors/frontends/cli.py", "import click"),
            ("actors/frontends/table.py", "from rich.table import Table"),
            ("actors/frontends/commands.py", "from callboard.benchmarks import command"),
        ),
        passed=(
            ("actors/frontends/cli.py", "def main():\n    import click"),
            ("actors/frontends/commands.py", "import click\nif TYPE_CHECKING:\n    import rich"),
        ),
    ),
    Rule(
        ports_hold_threads_clocks_and_chance,
        IN_PACKAGE,
        caught=(
            ("jobs/job.py", "import threading"),
            ("jobs/job.py", "from time import monotonic"),
            ("jobs/job.py", "def f():\n    import random"),
            ("persistence/store.py", "from concurrent.futures import Future"),
            ("actors/library.py", "import asyncio"),
            ("actors/library.py", "import os\nx = os.urandom(8)"),
            ("actors/library.py", "from os import urandom as u"),
            ("actors/library.py", "from datetime import datetime\ndatetime.now()"),
            ("actors/library.py", "import datetime as d\nd.datetime.utcnow()"),
            ("actors/library.py", "from datetime import date\nwhen = date.today"),
            ("actors/mailbox.py", "from queue import SimpleQueue"),
            ("actors/handle.py", "import threading"),
            ("persistence/scalar.py", "from uuid import uuid4"),
            ("persistence/scalar.py", "import uuid\nuuid.uuid4()"),
            ("actors/testing.py", "import time"),
            ("benchmarks/harness.py", "import random"),
        ),
        passed=(
            ("actors/ports.py", "import threading, time, random\nfrom concurrent.futures import Future"),
            ("actors/testing/simulator.py", "import random"),
            ("benchmarks/harness.py", "import threading, time"),
            ("jobs/identity.py", "import uuid\nuuid.UUID(bytes=x)"),
            ("actors/handle.py", "import asyncio\nasyncio.get_running_loop()"),
            ("persistence/scalar.py", "from uuid import UUID"),
            ("jobs/job.py", "if TYPE_CHECKING:\n    from concurrent.futures import Future\ndef f(x: Future): pass"),
            ("jobs/job.py", "from datetime import datetime\ndatetime.fromtimestamp(0)\nports.clock.now()"),
        ),
    ),
    Rule(imports_are_absolute, EVERYWHERE, caught=(("jobs/job.py", "from . import errors"), ("jobs/job.py", "from .errors import Busy"))),
    Rule(every_module_says_its_promise, EVERYWHERE, caught=(("jobs/job.py", "x = 1"),), passed=(("jobs/job.py", "'A job.'"),)),
    Rule(
        names_say_what_they_hold,
        IN_PACKAGE,
        caught=(
            ("jobs/file_utils.py", ""),
            ("actors/Helpers.py", ""),
            ("actors/job_manager.py", ""),
            ("jobs/base.py", ""),
            ("jobs/common.py", ""),
            ("jobs/job.py", "class JobManager: pass"),
            ("jobs/job.py", "class BaseJob: pass"),
        ),
        passed=(("persistence/database.py", "class Database: pass"), ("jobs/job.py", "class Managed(BaseException): pass")),
    ),
    Rule(
        files_are_short,
        IN_PACKAGE,
        caught=(("jobs/job.py", "\n" * (LINES_A_FILE + 1)),),
        passed=(("jobs/job.py", "\n" * LINES_A_FILE),),
        exempt=("actors/messages.py",),  # the whole protocol is one file by design, a sentence under each field
    ),
    Rule(
        asking_is_for_the_doors,
        IN_PACKAGE,
        caught=(("actors/library.py", "ref.ask(m, timeout=1)"),),
        passed=(("actors/door.py", "self.ref.ask(m, timeout=self.patience)"), ("actors/dispatcher.py", "self.pool.ask(who, 3)")),
    ),
    Rule(
        asking_has_a_limit,
        (*IN_PACKAGE, "examples/"),
        caught=(("actors/handle.py", "ref.ask(m)"), ("examples/host.py", "ref.ask(m, block=False)")),
        passed=(("actors/door.py", "self.ref.ask(m, timeout=self.patience)"), ("actors/dispatcher.py", "self.pool.ask(who, 3)")),
    ),
    Rule(
        waiting_has_a_limit,
        ("actors/",),
        caught=(("actors/handle.py", "future.get()"),),
        passed=(("actors/handle.py", "future.get(timeout=1)\nnames.get('x')"), ("actors/mailbox.py", "self.queue.get()")),
    ),
    Rule(
        no_test_sleeps,
        ("tests/",),
        caught=(
            ("tests/test_x.py", "import time\ntime.sleep(1)"),
            ("tests/test_x.py", "import time as t\nt.sleep(1)"),
            ("tests/test_x.py", "from time import sleep as nap\nnap(1)"),
            ("tests/test_x.py", "child = 'import time; time.sleep(9)'"),
        ),
        passed=(("tests/test_x.py", "import time\ntime.monotonic()\nctx.sleep(1)"),),
        exempt=("tests/test_house.py",),  # these snippets are strings in it
    ),
    Rule(
        messages_are_frozen_and_told,
        ("actors/messages.py",),
        caught=(
            ("actors/messages.py", MESSAGE.replace("slots=True", "slots=False")),
            ("actors/messages.py", MESSAGE.replace("frozen=True, ", "")),
            ("actors/messages.py", "class Submit:\n    'Asks for a job.'"),
            ("actors/messages.py", MESSAGE.replace("    'The job, encoded.'\n", "")),
            ("actors/messages.py", MESSAGE.replace("encoded.", "encoded")),
            ("actors/messages.py", MESSAGE.replace("    'Asks for a job.'\n", "")),
        ),
        passed=(("actors/messages.py", MESSAGE), ("actors/messages.py", "class Lane(Enum):\n    IO = 1")),
    ),
    Rule(
        nothing_is_left_over,
        IN_PACKAGE,
        caught=(("jobs/job.py", "breakpoint()"), ("jobs/job.py", "x = 1  # TODO: two")),
        passed=(("jobs/job.py", "todo = 'TODO'"),),
    ),
)


def sources(places: tuple[str, ...]) -> Iterator[Source]:
    for place in places:
        for path in sorted((ROOT / place).rglob("*.py") if place.endswith("/") else [ROOT / place]):
            if path.is_file() and "typing_root" not in path.parts:
                yield read(path)


@cache
def read(path: Path) -> Source:
    """Parsed once for all rules."""
    return Source(path.relative_to(ROOT).as_posix(), path.read_text())


def name_of(value: Rule | tuple[str, str]) -> str:
    """How a parameter is shown: a rule by its name, a snippet by its file and its first characters."""
    return value.find.__name__ if isinstance(value, Rule) else f"{value[0]}: {value[1].strip()[:60]!r}"


@pytest.mark.xdist_group("house")
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    files = [source for source in sources(rule.places) if not source.inside(*rule.exempt)]
    findings = [f"{source.path}: {finding}" for source in files for finding in rule.find(source)]
    assert not findings, "\n" + "\n".join(findings)
    if not files:
        pytest.skip(f"none of {', '.join(rule.places)} is here yet")


@pytest.mark.parametrize(("rule", "snippet"), [(rule, snippet) for rule in RULES for snippet in rule.caught], ids=name_of)
def test_the_rule_catches_what_breaks_it(rule: Rule, snippet: tuple[str, str]) -> None:
    assert list(rule.find(Source(*snippet)))


@pytest.mark.parametrize(("rule", "snippet"), [(rule, snippet) for rule in RULES for snippet in rule.passed], ids=name_of)
def test_the_rule_lets_the_rest_pass(rule: Rule, snippet: tuple[str, str]) -> None:
    assert not list(rule.find(Source(*snippet)))


@pytest.mark.parametrize("path", [place for place in PORTED_ALLOWED if place.endswith(".py")])
def test_an_exception_to_the_ports_is_used(path: str) -> None:
    if not (ROOT / path).is_file():
        pytest.skip(f"{path} is not here yet")
    assert any(within(name, PORTED) for source in sources((path,)) for _, name in source.imports()), f"strike {path} off PORTED_ALLOWED"
