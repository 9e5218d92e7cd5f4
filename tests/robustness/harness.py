"""Run one damaged input and judge the outcome: a right answer, a refusal in one line, or a fault.

A `Case` is one input with what to do with it. `run_case` runs it in a folder of its own, in this process; `batches`
calls it in forked processes, so that a hang, a crash of a library or a memory bomb ends one case only.
"""

import contextlib
import json
import logging
import os
import random
import re
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pose import cli
from pose.errors import PoseError

ROOT = Path(__file__).resolve().parents[2]
MAX_MESSAGE = 300
"""Largest length of an error message in characters."""
MAX_GROWTH_BYTES = 1 << 30
"""Largest growth of the peak memory during one case."""
PIPE_BYTES = 1 << 20
LOGS = ("train.log", "metrics.jsonl")
"""Files of a run that may be empty."""

RIGHT, REFUSED = "right", "refused"
"""The two outcomes that are no faults."""


@dataclass(frozen=True)
class Answer:
    """What a case returned, and what it printed."""

    value: Any
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Case:
    """One input and what to do with it.

    Attributes:
        what: target and change in words, for the report.
        act: runs the product in the folder of the case.
        expected: the only right outcome, if there is only one.
        check: returns what is wrong with the answer, or None.
        errors: exceptions that refuse the input; those of the product carry one line.
        writes: files of the folder that may be replaced, if the case succeeds.
        changes: files that may change in any case, such as the logs of a run.
        files: returns what is wrong with the files that are left, whether it succeeded or not.
    """

    what: str
    act: Callable[[], Any]
    expected: Literal["right", "refused", "either"] = "either"
    check: Callable[[Answer], str | None] = lambda answer: None
    errors: tuple[type[BaseException], ...] = (PoseError,)
    writes: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    files: Callable[[], str | None] = lambda: None


MakeCase = Callable[[random.Random, Path, Path], Case]
"""Writes the files of a case; called with the random numbers, the folder of undamaged files, and the case's folder."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: kind of the input.
        index: number of the case in its kind and seed.
        what: see `Case`.
        result: ``right``, ``refused`` or the name of a fault.
        detail: exception type, message, or what is wrong.
        place: file and function of the product, for a traceback.
        seconds: processor time.
    """

    kind: str
    index: int
    what: str
    result: str
    detail: str = ""
    place: str = ""
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        return self.result not in (RIGHT, REFUSED)

    @property
    def fault_class(self) -> str:
        """Faults of one class have one cause: kind, fault, exception type or message without values, and place."""
        first = re.sub(r"/\S*/", "", self.detail.partition("\n")[0])
        words = re.sub(r"""(['"]).*?\1|[\d.e+-]*\d""", "_", first)[:90].strip()
        detail = words.partition(":")[0] if self.result == "traceback" else words
        return " | ".join(filter(None, (self.kind, self.result, detail, self.place)))

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"what": self.what[:300], "detail": self.detail[:2500]})


def command(name: str, *argv: str) -> Callable[[], None]:
    """Return a function that runs a sub-command in this process as ``dyconv-pose`` does, with its exit statuses."""

    def run_command() -> None:
        stem = name.replace("-", "_")
        package = "pose.tools" if (ROOT / "tools" / f"{stem}.py").is_file() else "pose.data"
        sys.argv[0] = f"dyconv-pose {name}"
        cli.run(import_module(f"{package}.{stem}").main, list(argv))

    return run_command


def run_case(make: MakeCase, kind: str, seed: int, index: int, world: Path, folder: Path) -> Outcome:
    """Make a case in an empty folder, run it, and judge it."""
    start = time.process_time()
    folder.mkdir()
    temporary = folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    os.environ["XDG_CONFIG_HOME"] = str(folder / "settings")
    # Shared by the cases, so that undamaged weights are exported once; a full disk meets an empty one.
    os.environ["XDG_CACHE_HOME"] = str(folder / "settings" if kind == "full_disk" else world / "cache")
    os.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case = make(random.Random(f"{seed}:{kind}:{index}"), world, folder)
    before, outside = snapshot(folder), snapshot(folder.parent, depth=1)
    reset_peak_memory()
    memory = peak_memory()
    result, detail, place, value = RIGHT, "", "", None
    with _captured() as output, _restored_state():
        try:
            value = case.act()
        except SystemExit as error:
            result = {0: RIGHT, None: RIGHT, 2: REFUSED}.get(error.code, "exit status")  # type: ignore[call-overload]
            detail = "" if result in (RIGHT, REFUSED) else repr(error.code)
            from_command = True
        except BaseException as error:
            result, detail, place = _from_exception(error, case.errors)
            from_command = False
        else:
            from_command = False
    answer = Answer(value, *output)
    if result == REFUSED and from_command:
        wrong = message_fault(answer.stderr)
        result = "message" if wrong else REFUSED
        detail = wrong or answer.stderr.strip().split("\n")[-1]
    if result == REFUSED and case.expected == RIGHT:
        result = "valid input refused"
    elif result == RIGHT:
        result, detail, place = _judge(case, answer)
    if result in (RIGHT, REFUSED):
        growth = peak_memory() - memory
        may_change = case.changes if result == REFUSED else case.writes | case.changes
        fault = file_fault(before, folder, outside, temporary, may_change, refused=result == REFUSED)
        if fault is None and (wrong := case.files()):
            fault = "lost file", f"{result}: {wrong}"
        if growth > MAX_GROWTH_BYTES:
            fault = ("memory", f"{result}, but the peak memory grew by {growth >> 20} MB")
        if fault is not None:
            result, detail, place = fault[0], fault[1], ""
    return Outcome(kind, index, case.what, result, detail, place, time.process_time() - start)


def _judge(case: Case, answer: Answer) -> tuple[str, str, str]:
    if case.expected == REFUSED:
        return "wrong answer", f"accepted: {case.what.partition(' is ')[0]}", ""
    try:
        wrong = case.check(answer)
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}\n{traceback.format_exc()}", f"check, {place_of(error)}"
    return ("wrong answer", wrong, "") if wrong else (RIGHT, "", "")


def _from_exception(error: BaseException, allowed: tuple[type[BaseException], ...]) -> tuple[str, str, str]:
    if isinstance(error, PoseError):
        text = str(error)
        if "\n" in text or not 0 < len(text) <= MAX_MESSAGE:
            lines = text.count("\n") + 1
            return "message", f"{lines} lines, {len(text)} characters: {text[:600]}", place_of(error)
        return REFUSED, text, ""
    if isinstance(error, allowed):
        return REFUSED, str(error), ""
    text = "".join(traceback.format_exception(error))
    return "traceback", f"{type(error).__name__}: {str(error)[:200]}\n{text[-1800:]}", place_of(error)


def place_of(error: BaseException) -> str:
    """Return file and function of the innermost frame in the product."""
    frames = traceback.extract_tb(error.__traceback__)
    names = [f"{found}:{frame.name}" for frame in frames if (found := product_file(frame.filename))]
    return names[-1] if names else ""


def product_file(filename: str) -> str | None:
    """Return a path below the repository's root if the file is part of the product."""
    found = re.search(r"/((?:pose|tools|data)/(?!site-packages)[\w/]+\.py)$", filename)
    return found.group(1) if found and "site-packages" not in filename and "tests/" not in filename else None


def message_fault(stderr: str) -> str:
    """Return what is wrong with the error message of a command that ended with status 2, or an empty string."""
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    errors = [line for line in lines if line.startswith("error:") or re.match(r"(usage.*|[\w. -]+): error: ", line)]
    if "Traceback (most recent call last)" in stderr:
        return f"a traceback on stderr\n{stderr[-600:]}"
    if len(errors) != 1 or lines[-1] != errors[0]:
        return f"{len(errors)} error lines, the last line is {lines[-1][:200] if lines else 'missing'!r}"
    if len(errors[0]) > MAX_MESSAGE:
        return f"too long, {len(errors[0])} characters: {errors[0][:400]}"
    return ""


# --- files


def snapshot(folder: Path, depth: int = 20) -> dict[str, tuple[Any, ...]]:
    """Return type and content of every file below a folder, without following links or opening pipes."""
    found: dict[str, tuple[Any, ...]] = {}
    for base, folders, files in os.walk(folder):
        level = len(Path(base).relative_to(folder).parts)
        for name in [*files, *folders]:
            path = os.path.join(base, name)
            status = os.lstat(path)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode) and depth > 1:
                with open(path, "rb") as file:
                    content = hash(file.read())
            found[os.path.relpath(path, folder)] = (stat.S_IFMT(status.st_mode), content, status.st_size)
        if level + 1 >= depth:
            folders.clear()
    return found


def file_fault(
    before: dict[str, tuple[Any, ...]],
    folder: Path,
    outside: dict[str, tuple[Any, ...]],
    temporary: Path,
    may_change: frozenset[str],
    refused: bool,
) -> tuple[str, str] | None:
    """Return the fault in what a case did to files: inputs lost or changed, left-over files, JSON with NaN."""
    after = snapshot(folder)
    for name, state in before.items():
        if stat.S_ISDIR(state[0]) and name in after:
            continue
        if after.get(name) != state and name not in may_change:
            return (
                "lost file",
                f"{'refused, and ' if refused else ''}{name} {'changed' if name in after else 'is gone'}",
            )
    new = {name: state for name, state in after.items() if state != before.get(name)}
    for name, state in new.items():
        base = os.path.basename(name)
        if name not in may_change and (base.startswith(".") or ".partial" in base or base.endswith(".tmp")):
            return "left-over file", name
        if refused and stat.S_ISREG(state[0]) and state[2] == 0 and base not in LOGS:
            return "left-over file", f"refused, and an empty {name} is left"
        if stat.S_ISREG(state[0]) and base.endswith((".json", ".jsonl")) and (wrong := json_fault(folder / name)):
            return "wrong answer", f"{base}: {wrong}"
    if left := os.listdir(temporary):
        return "left-over file", f"in the folder of temporary files: {left[:3]}"
    if created := snapshot(folder.parent, depth=1).keys() - outside.keys():
        return "left-over file", f"written outside the working folder: {sorted(created)[:3]}"
    return None


def json_fault(file: Path) -> str | None:
    """Return what is wrong with a written JSON file: not JSON, or with numbers that are not finite."""

    def reject(text: str) -> float:
        raise ValueError(f"has {text}")

    def finite(text: str) -> float:
        value = float(text)
        return value if abs(value) != float("inf") else reject(text)

    text = file.read_text(encoding="utf-8")
    try:
        for part in text.splitlines() if file.suffix == ".jsonl" else [text]:
            json.loads(part, parse_constant=reject, parse_float=finite)
    except ValueError as error:
        return str(error)[:100]
    return None


# --- the process


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Collect what the process and its libraries write to stdout and stderr, in pipes that file limits do not touch."""
    import fcntl

    collected: list[str] = []
    saved, readers = [], []
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor in (1, 2):
        reader, writer = os.pipe()
        fcntl.fcntl(writer, 1031, PIPE_BYTES)  # F_SETPIPE_SZ
        saved.append(os.dup(descriptor))
        os.dup2(writer, descriptor)
        os.close(writer)
        readers.append(reader)
    streams = sys.stdout, sys.stderr
    # New ones: a stream that was opened on a file would seek in the pipe.
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.stderr.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        yield collected
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = streams
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        for reader in readers:
            os.set_blocking(reader, False)  # a child process of the case may still hold the other end
            chunks = []
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(reader, PIPE_BYTES):
                    chunks.append(chunk)
            os.close(reader)
            collected.append(b"".join(chunks).decode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def _restored_state() -> Iterator[None]:
    """Restore what tools change in their process: log handlers, warnings, arguments."""
    root = logging.getLogger()
    handlers, level, argv = root.handlers[:], root.level, sys.argv[:]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # Python's default
        try:
            yield
        finally:
            for handler in set(root.handlers) - set(handlers):
                with contextlib.suppress(Exception):
                    handler.close()
            root.handlers[:], root.level, sys.argv[:] = handlers, level, argv


def reset_peak_memory() -> None:
    """Start to measure the peak memory again (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the peak memory of this process in bytes (Linux; else 0)."""
    return memory_of("VmHWM")


def memory_of(name: str) -> int:
    """Return a figure of /proc/self/status in bytes, 0 where there is none."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0


@dataclass
class Report:
    """Outcomes by kind and by class of fault."""

    tried: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[Outcome]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        counts = self.tried.setdefault(outcome.kind, {})
        name = "fault" if outcome.is_fault else outcome.result
        counts[name] = counts.get(name, 0) + 1
        self.seconds[outcome.kind] = self.seconds.get(outcome.kind, 0) + outcome.seconds
        if outcome.is_fault:
            self.faults.setdefault(outcome.fault_class, []).append(outcome)
