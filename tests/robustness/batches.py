"""Run many cases in forked processes, each with a time limit and a memory limit.

A lane is a process that forks one child after the other; a child runs a batch of cases. When a case hangs or kills its
child, the fault is attributed to that case and the next child continues after it.
"""

import contextlib
import faulthandler
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import MakeCase, Outcome, memory_of, product_file, run_case

MEMORY_BYTES = 2 << 30
"""Address space that a child may use beyond that of its parent."""
BATCH = 60


@dataclass(frozen=True)
class Limits:
    """What the cases share.

    Attributes:
        seed: of all random numbers.
        world: folder of undamaged files.
        work: folder of the cases; emptied.
        keep: folder that gets one failing input of each class; None: keep none.
        seconds: time limit of a case.
    """

    seed: int
    world: Path
    work: Path
    keep: Path | None
    seconds: float


def run_all(
    kinds: Mapping[str, MakeCase], cases: Sequence[tuple[str, int]], limits: Limits, lanes: int
) -> Iterator[Outcome]:
    """Yield the outcome of each (kind, index), in the order in which they end.

    Raises:
        RuntimeError: the harness itself failed: an outcome is missing.
    """
    batches = [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]
    reader, writer = os.pipe()
    lane_ids = []
    for lane in range(lanes):
        if (process := os.fork()) == 0:
            os.close(reader)
            _exit_after(lambda lane=lane: _run_lane(kinds, batches[lane::lanes], limits, lane, writer))  # type: ignore[misc]
        lane_ids.append(process)
    os.close(writer)
    count = 0
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            yield Outcome(**json.loads(line))
            count += 1
    for process in lane_ids:
        os.waitpid(process, 0)
    if count != len(cases):
        raise RuntimeError(f"the harness failed: {len(cases) - count} of {len(cases)} outcomes are missing")


def in_child(function: Callable[[], None]) -> None:
    """Run a function in a forked process, so that libraries that start threads do so there.

    Raises:
        RuntimeError: it failed.
    """
    if (process := os.fork()) == 0:
        _exit_after(function)
    if os.waitpid(process, 0)[1] != 0:
        raise RuntimeError("the undamaged files could not be made, see the traceback above")


def _exit_after(function: Callable[[], None]) -> None:
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run_lane(
    kinds: Mapping[str, MakeCase], batches: Sequence[Sequence[tuple[str, int]]], limits: Limits, lane: int, results: int
) -> None:
    folder = limits.work / f"lane{lane}"
    for batch in batches:
        rest = list(batch)
        while rest:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            done, started = _run_child(kinds, rest, limits, folder, results)
            rest = rest[done:]
            if started is not None:
                kind, index = rest.pop(0)
                outcome = Outcome(kind, index, *started)
                if limits.keep is not None:
                    keep(outcome, folder / "case", limits.keep)
                os.write(results, outcome.to_json().encode() + b"\n")
    shutil.rmtree(folder, ignore_errors=True)


def _run_child(
    kinds: Mapping[str, MakeCase], batch: Sequence[tuple[str, int]], limits: Limits, folder: Path, results: int
) -> tuple[int, tuple[str, str, str, str] | None]:
    """Run a batch in a child.

    Returns:
        How many cases ended, and what, fault, detail and place of the one that did not.
    """
    reader, writer = os.pipe()
    crash = folder / "crash.txt"
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        _exit_after(lambda: _run_batch(kinds, batch, limits, folder, crash, results, writer))
    os.close(writer)
    done, timed_out = 0, False
    while True:
        ready, _, _ = select.select([reader], [], [], limits.seconds + 20)
        if not ready:
            timed_out = True
            break
        ticks = os.read(reader, 1 << 16)
        if not ticks:
            break
        done += len(ticks)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the case has started, too
    status = os.waitpid(child, 0)[1]
    os.close(reader)
    if done == len(batch):
        return done, None
    text = crash.read_text(errors="replace") if crash.exists() else ""
    what = (folder / "what.txt").read_text() if (folder / "what.txt").exists() else ""
    if timed_out or "Timeout (" in text:
        return done, (what, "hang", f"more than {limits.seconds:g} s\n{text[-1500:]}", _place_in(text))
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return done, (what, "killed", f"{name}\n{text[-1500:]}", _place_in(text))
    return done, (
        what,
        "killed",
        f"the process ended with status {os.waitstatus_to_exitcode(status)}\n{text[-1500:]}",
        "",
    )


def _place_in(text: str) -> str:
    """Return file and function of the product's innermost frame in a dump of `faulthandler`, of the main thread."""
    main = text[text.rfind("Current thread") :] if "Current thread" in text else text[text.rfind("Thread 0x") :]
    for filename, function in re.findall(r'File "(.+?)", line \d+ in (\S+)', main):
        if found := product_file(filename):
            return f"{found}:{function}"
    return ""


def _run_batch(
    kinds: Mapping[str, MakeCase],
    batch: Sequence[tuple[str, int]],
    limits: Limits,
    folder: Path,
    crash: Path,
    results: int,
    ticks: int,
) -> None:
    used = memory_of("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with crash.open("w") as crash_file:
        faulthandler.enable(crash_file)
        for kind, index in batch:
            case = folder / "case"
            crash_file.truncate(0)
            faulthandler.dump_traceback_later(limits.seconds, exit=True, file=crash_file)

            def noted(rng, world, case_folder, kind=kind):  # type: ignore[no-untyped-def]
                made = kinds[kind](rng, world, case_folder)
                (folder / "what.txt").write_text(made.what[:500], errors="replace")
                return made

            outcome = run_case(noted, kind, limits.seed, index, limits.world, case)
            faulthandler.cancel_dump_traceback_later()
            if outcome.is_fault and limits.keep is not None:
                keep(outcome, case, limits.keep)
            os.chdir(folder)
            shutil.rmtree(case, ignore_errors=True)
            shutil.rmtree(folder / "temporary", ignore_errors=True)
            for left in [path for path in folder.iterdir() if path.name not in ("crash.txt", "what.txt")]:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            os.write(results, outcome.to_json().encode() + b"\n")
            os.write(ticks, b".")


def keep(outcome: Outcome, case: Path, folder: Path) -> None:
    """Copy a failing input and what happened to ``folder``, if it is the first of its class."""
    slug = re.sub(r"[^\w.]+", "_", outcome.fault_class)[:100].strip("_")
    target = folder / slug
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        return
    text = f"{outcome.fault_class}\ncase {outcome.kind}:{outcome.index}\n{outcome.what}\n\n{outcome.detail}\n"
    (target / "outcome.txt").write_text(text, errors="replace")
    shutil.copytree(case, target / "input", symlinks=True, ignore_dangling_symlinks=True, ignore=_special_files)


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Return the names that cannot be copied: pipes and devices."""
    paths = [(name, Path(folder) / name) for name in names]
    return [name for name, path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())]
