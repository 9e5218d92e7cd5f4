"""Ranks that are killed, stopped or left without torchrun: the others end soon, with one line and status 2.

More often with the environment variables KILLED and STOPPED, which print the seconds until the end:

    KILLED=10 STOPPED=3 python -m pytest -s tests/engine/test_lost_ranks.py
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.engine.distributed import DistContext, all_gather
from pose.engine.launch import init_distributed
from pose.errors import ConfigError, DataError

KILLED, STOPPED = int(os.environ.get("KILLED", "1")), int(os.environ.get("STOPPED", "1"))
TIMEOUT = 3.0

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and prctl"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

Body = Callable[[DistContext], None]


def start_ranks(folder: Path, body: Body, count: int = 2) -> list[int]:
    """Start ranks as copies of this process; return their process ids. Each writes its errors to a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_start_rank(folder, body, rank, count, port) for rank in range(count)]


def _start_rank(folder: Path, body: Body, rank: int, count: int, port: int) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
        sys.stderr = (folder / f"rank{rank}.txt").open("w")

        def main(_: object) -> None:
            with init_distributed("cpu", TIMEOUT) as dist:
                all_gather(0, dist)
                (folder / f"ready{rank}").touch()
                body(dist)

        try:
            run(main)
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stderr.flush()
    finally:
        os._exit(status)


def exchange_for_ever(dist: DistContext) -> None:
    while True:
        all_gather(torch.zeros(1000), dist)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def wait_until_ready(folder: Path) -> None:
    wait_until(lambda: (folder / "ready0").exists() and (folder / "ready1").exists())


def end_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def errors(folder: Path) -> list[str]:
    """Return all that the ranks have written to stderr, by line."""
    return [line for file in sorted(folder.glob("rank*.txt")) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("attempt", range(KILLED))
def test_a_killed_rank_ends_the_job_at_once(attempt, tmp_path, capsys):
    ranks = start_ranks(tmp_path, exchange_for_ever)
    wait_until_ready(tmp_path)
    lost = attempt % 2

    start = time.monotonic()
    os.kill(ranks[lost], signal.SIGKILL)

    assert end_of(ranks[1 - lost]) == 2
    seconds = time.monotonic() - start
    end_of(ranks[lost])
    with capsys.disabled():
        print(f"\nrank {lost} killed: the other ended after {seconds:.2f} s")
    (line,) = errors(tmp_path)
    assert f"rank {1 - lost} lost another rank" in line


@pytest.mark.parametrize("attempt", range(STOPPED))
def test_a_stopped_rank_ends_the_job_after_the_timeout(attempt, tmp_path, capsys):
    ranks = start_ranks(tmp_path, exchange_for_ever)
    wait_until_ready(tmp_path)
    lost = 1 - attempt % 2

    start = time.monotonic()
    os.kill(ranks[lost], signal.SIGSTOP)

    try:
        assert end_of(ranks[1 - lost]) == 2
        seconds = time.monotonic() - start
    finally:
        os.kill(ranks[lost], signal.SIGKILL)
        end_of(ranks[lost])
    with capsys.disabled():
        print(f"\nrank {lost} stopped: the other ended after {seconds:.2f} s (timeout {TIMEOUT:g} s)")
    (line,) = errors(tmp_path)
    assert f"did not answer for {TIMEOUT:g} s" in line


def test_ranks_whose_launcher_is_killed_end(tmp_path):
    launcher = os.fork()
    if not launcher:
        try:
            ranks = start_ranks(tmp_path, exchange_for_ever)
            (tmp_path / "ranks").write_text(" ".join(map(str, ranks)))
            time.sleep(600)
        finally:
            os._exit(1)
    wait_until_ready(tmp_path)
    ranks = [int(number) for number in (tmp_path / "ranks").read_text().split()]

    os.kill(launcher, signal.SIGKILL)
    end_of(launcher)

    wait_until(lambda: not any(is_running(rank) for rank in ranks), seconds=20)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def fail_on_rank_1(dist: DistContext) -> None:
    if dist.rank == 1:
        raise DataError("image.jpg: cannot read the image")
    exchange_for_ever(dist)


def fail_on_all_ranks(dist: DistContext) -> None:
    raise DataError("image.jpg: cannot read the image")


@pytest.mark.parametrize("body", [fail_on_rank_1, fail_on_all_ranks])
def test_a_mistake_is_one_line_once_whichever_ranks_find_it(body, tmp_path):
    ranks = start_ranks(tmp_path, body)

    assert [end_of(rank) for rank in ranks] == [2, 2]
    assert errors(tmp_path) == ["error: image.jpg: cannot read the image"]


def test_a_mistake_before_the_ranks_are_connected_is_printed_by_the_first_rank_only(monkeypatch, capsys):
    def main(_: object) -> None:
        raise ConfigError("train.epoch: no such option")

    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit) as caught:
            run(main)
        assert caught.value.code == 2

    assert capsys.readouterr().err == "error: train.epoch: no such option\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "but RANK, MASTER_ADDR, MASTER_PORT is not set; start them with torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK: expected a whole number"),
        ({"WORLD_SIZE": "", "RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "but WORLD_SIZE is not set"),
    ],
)
def test_incomplete_variables_of_torchrun_are_named(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=message), init_distributed("cpu"):
        pass
