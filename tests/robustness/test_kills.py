"""Training that is killed at random moments and resumed: the same weights bit for bit, and no file left over.

`make test` kills a few times; more with the environment variables KILLS and SEED:

    KILLS=200 SEED=1 python -m pytest -s tests/robustness/test_kills.py
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from pose.cli import run
from pose.tools.train import main

KILLS, SEED = int(os.environ.get("KILLS", "6")), int(os.environ.get("SEED", "0"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXIT_STATUS = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130}}
"""Status after each signal; SIGTERM ends a process at once before the command has started."""
OPTIONS = (
    "data.synthetic.train_images=8",
    "data.synthetic.val_images=2",
    "data.synthetic.image_wh=[96,72]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "model.dynamic_head=true",
    "input.size_hw=[64,64]",
    "train.batch_size=4",
    "train.epochs=3",
    "train.workers=0",
    "train.validate_every=1",
    "train.loss=cross_entropy",
    "train.warmup_steps=2",
    "train.ema_decay=0.9",
    "train.checkpoint_minutes=1e-9",
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: each run starts in milliseconds")


def arguments(folder: Path, data: Path) -> list[str]:
    """Return the arguments of a run that starts or resumes in a folder."""
    checkpoints = [folder / name for name in ("last.pt", "best.pt") if (folder / name).exists()]
    if not checkpoints:
        shutil.rmtree(folder, ignore_errors=True)  # it was killed before its first step
    resume = ["--resume", str(checkpoints[0])] if checkpoints else []
    return [
        "--cfg", "quickstart", "--device", "cpu", "--run-dir", str(folder), *resume, f"data.root={data}", *OPTIONS
    ]  # fmt: skip


def fork_training(argv: list[str], stderr: Path) -> int:
    """Start training in a copy of this process, which has imported everything; return its process id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr = stderr.open("a")
        try:
            run(main, argv)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except KeyboardInterrupt:  # before the command has started
            status = 130
        sys.stderr.flush()
    finally:
        os._exit(status)


def read_state(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True)
    del content["progress"]["seconds"], content["config"]
    return content


def file_names(folder: Path) -> set[str]:
    return {path.name.split(".tfevents")[0] for path in folder.iterdir()}


def test_killed_and_resumed_runs_have_the_weights_of_one_that_was_not(tmp_path, capsys):
    torch.set_num_threads(1)
    rng, data, expected = random.Random(SEED), tmp_path / "data", tmp_path / "expected"
    run(main, arguments(expected, data))  # imports all that a run needs
    start = time.monotonic()
    os.waitpid(fork_training(arguments(tmp_path / "timed", data), tmp_path / "timed.txt"), 0)
    duration = time.monotonic() - start
    states = {name: read_state(expected / name) for name in ("last.pt", "best.pt")}
    kills: Counter[str] = Counter()
    runs, folder, stderr = 0, tmp_path / "run", tmp_path / "stderr.txt"
    while kills.total() < KILLS or folder.exists():
        process = fork_training(arguments(folder, data), stderr)
        name = SIGNALS[kills.total() % len(SIGNALS)]
        if kills.total() < KILLS:
            time.sleep(rng.uniform(0, 0.7 * duration))
            os.kill(process, name)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        log = stderr.read_text() if stderr.exists() else ""
        assert "Traceback" not in log, log
        if status != 0:
            assert status in EXIT_STATUS[name], log
            kills[name.name] += 1
            continue
        for file, state in states.items():
            torch.testing.assert_close(read_state(folder / file), state, rtol=0, atol=0)
        assert file_names(folder) == file_names(expected)
        shutil.rmtree(folder)
        stderr.unlink()
        runs += 1
    with capsys.disabled():
        print(f"\n{kills.total()} kills ({dict(kills)}) of {runs} runs: equal weights, no file left over")
