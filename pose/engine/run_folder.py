"""Run folders of training: created exclusively, locked while a run writes; the checkpoint that a run resumes."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from pose.cli import NEWEST
from pose.config.base import ExperimentConfig
from pose.engine.distributed import DistContext, broadcast_object
from pose.errors import CheckpointError
from pose.files import newest_below, remove_partial_files, writing

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""Name of the file in a run folder that is locked while a run writes there; it holds the process id."""


@contextmanager
def open_run(
    config: ExperimentConfig, resume: Path | None, run_dir: Path | None, dist: DistContext
) -> Iterator[tuple[Path, Path | None]]:
    """Context manager: open and lock the folder of a run; gives the folder and the checkpoint to resume, if any.

    Rank 0 chooses both for all ranks.

    Args:
        config: config of the run.
        resume: a checkpoint, a folder of runs, or `pose.cli.NEWEST` for the newest run of this config.
        run_dir: run folder; by default that of the checkpoint, or a new one.
        dist: rank, world size and device.

    Raises:
        CheckpointError: there is no checkpoint to resume, the folder holds another run, or another run writes to it.
        MediaError: the folder cannot be written.
    """
    if not dist.is_main:
        yield broadcast_object((Path(), resume), dist)
        return
    if resume is not None and (resume == NEWEST or resume.is_dir()):
        resume = find_last(runs_folder(config) if resume == NEWEST else resume)
    if resume is not None and not resume.is_file():
        raise CheckpointError(f"{resume}: no such checkpoint; give the last.pt of a run, or --resume alone")
    if run_dir is None and resume is None:
        folder = make_run_folder(config)
    else:
        folder = run_dir or (resume or Path()).parent
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        check_run_folder(folder, resume)
        remove_partial_files(folder)
        yield broadcast_object((folder, resume), dist)


def runs_folder(config: ExperimentConfig) -> Path:
    """Return the folder of all runs of a config: ``runs/<config name>``."""
    return Path("runs") / config.name


def make_run_folder(config: ExperimentConfig) -> Path:
    """Create the folder of a new run: ``runs/<config name>/<time>``, or ``<time>-2`` and so on if it exists.

    Raises:
        MediaError: the folder cannot be written.
    """
    first = runs_folder(config) / datetime.now().strftime("%Y%m%d-%H%M%S")
    with writing(first):
        first.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    raise AssertionError("count is endless")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Context manager: hold the lock of a run folder. The system releases the lock of a process that has ended.

    Without `fcntl` (Windows), and on file systems without locks, there is no lock.

    Raises:
        CheckpointError: another process holds the lock.
        MediaError: the folder cannot be written.
    """
    path = folder / LOCK
    with writing(path):
        while True:
            file = path.open("a+b", buffering=0)
            try:
                _lock(file.fileno())
            except BlockingIOError:
                file.seek(0)
                holder = file.read(20).decode("ascii", "replace").strip()
                file.close()
                raise CheckpointError(
                    f"{folder}: another run (process {holder}) writes to it; wait for it, or give another --run-dir"
                ) from None
            if _is_same(file.fileno(), path):
                break
            file.close()  # its last holder has removed it
    try:
        with writing(path):  # fails on a full disk
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is unlocked, so that nobody locks a file without a name
        file.close()


def _lock(descriptor: int) -> None:
    """Lock a file, or raise `BlockingIOError`. Forked processes, such as data workers, do not keep the lock."""
    if fcntl is None:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        raise BlockingIOError from None
    except OSError as error:
        logger.warning("run folders cannot be locked on this file system (%s)", error.strerror)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def find_last(folder: Path) -> Path:
    """Return the newest ``last.pt`` below a folder of runs.

    Raises:
        CheckpointError: there is no ``last.pt``.
    """
    newest = newest_below(folder, "last.pt")
    if newest is None:
        raise CheckpointError(f"{folder}: no run to resume (no last.pt); start one without --resume")
    return newest


def check_run_folder(folder: Path, resume: Path | None) -> None:
    """Check that a run does not write over another one.

    Raises:
        CheckpointError: the folder holds checkpoints, metrics, or a config.yaml that is not a run's, and ``resume`` is
            none of its files.
    """
    if resume is not None and resume.resolve().parent == folder.resolve():
        return
    if (folder / "config.yaml").exists() and not (folder / "train.log").exists():
        raise CheckpointError(
            f"{folder}: holds a config.yaml that no run wrote, which this run would replace; give another --run-dir"
        )
    for name in ("last.pt", "best.pt"):
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder}: already holds a run; resume it with --resume {folder / name}, or give another --run-dir"
            )
    metrics = folder / "metrics.jsonl"
    if metrics.exists() and metrics.stat().st_size:
        raise CheckpointError(
            f"{folder}: holds the metrics of a run that wrote no checkpoint; remove it, or give another --run-dir"
        )
