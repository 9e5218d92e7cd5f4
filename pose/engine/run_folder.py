"""Run folders of training: the path of a new run, and the checkpoint that a resumed run continues."""

from datetime import datetime
from pathlib import Path

from pose.cli import NEWEST
from pose.config.base import ExperimentConfig
from pose.engine.distributed import DistContext, broadcast_object
from pose.errors import CheckpointError
from pose.files import newest_below


def open_run(
    config: ExperimentConfig, resume: Path | None, run_dir: Path | None, dist: DistContext
) -> tuple[Path, Path | None]:
    """Return the run folder, the same on every rank, and the checkpoint to resume, if any.

    Args:
        config: config of the run.
        resume: a checkpoint, a folder of runs, or `pose.cli.NEWEST` for the newest run of this config.
        run_dir: run folder; by default that of the checkpoint, or a new one.
        dist: rank, world size and device.

    Raises:
        CheckpointError: there is no checkpoint to resume, or the folder holds another run.
    """
    if resume == NEWEST:
        resume = find_last(runs_folder(config))
    elif resume is not None and resume.is_dir():
        resume = find_last(resume)
    folder = broadcast_object(run_dir or (resume.parent if resume else new_run_folder(config)), dist)
    if dist.is_main:
        check_run_folder(folder, resume)
    return folder, resume


def runs_folder(config: ExperimentConfig) -> Path:
    """Return the folder of all runs of a config: ``runs/<config name>``."""
    return Path("runs") / config.name


def new_run_folder(config: ExperimentConfig) -> Path:
    """Return the path of a new run: ``runs/<config name>/<time>``."""
    return runs_folder(config) / datetime.now().strftime("%Y%m%d-%H%M%S")


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
    """Check that a run would not overwrite the checkpoints of another run.

    Raises:
        CheckpointError: the folder holds a ``last.pt``, and ``resume`` is None.
    """
    if resume is None and (folder / "last.pt").exists():
        raise CheckpointError(
            f"{folder}: already holds a run; resume it with --resume {folder / 'last.pt'}, or give another --run-dir"
        )
