"""From a training tool's arguments to a run: its folder, its processes, its log."""

import logging
from collections.abc import Callable
from pathlib import Path

from pose.command import NEWEST
from pose.config_sections import ExperimentConfig
from pose.engine.distributed import Processes, barrier, from_main, join_processes
from pose.engine.run import check_run_folder, find_last, new_run_folder, runs_folder
from pose.engine.run_log import start_logging

logger = logging.getLogger(__name__)

Train = Callable[[Path, Processes, Path | None], float]
"""Called with the run's folder, the processes, and the checkpoint to resume; returns the best validation score."""


def launch(
    config: ExperimentConfig,
    train: Train,
    prepare: Callable[[], None],
    score: str,
    resume: Path | None = None,
    run_dir: Path | None = None,
    device: str | None = None,
) -> None:
    """Train in this process and its equals.

    Args:
        config: names the run.
        train: what each process does.
        prepare: what the first process does before.
        score: what the best validation score is, such as "AP".
        resume: checkpoint, folder of runs, or `NEWEST`: of this config's runs.
        run_dir: folder of the run; by default that of the checkpoint, or a new one.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU where there is one.

    Raises:
        CheckpointError: there is nothing to resume, or the folder holds another run.
    """
    with join_processes(device) as processes:
        if resume == NEWEST:
            resume = find_last(runs_folder(config))
        elif resume is not None and resume.is_dir():
            resume = find_last(resume)
        folder = run_dir or (resume.parent if resume else new_run_folder(config))
        folder = from_main(folder, processes)
        if processes.is_main:
            check_run_folder(folder, resume)
            prepare()
        barrier(processes)
        start_logging(folder if processes.is_main else None)
        best = train(folder, processes, resume)
        logger.info("best validation %s %.3f; weights in %s", score, best, folder / "best.pt")
