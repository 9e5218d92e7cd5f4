"""Run folders: created exclusively, locked while a run writes, the checkpoint to resume."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pose.cli import NEWEST
from pose.engine.run_folder import check_run_folder, find_last, lock_folder, make_run_folder, open_run, runs_folder
from pose.errors import CheckpointError, MediaError

ROOT = Path(__file__).resolve().parents[2]


def test_run_folders_made_in_the_same_second_are_different(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    folders = [make_run_folder(tiny_config()) for _ in range(12)]

    assert len(set(folders)) == 12
    for folder in folders:
        assert folder.parent == runs_folder(tiny_config()) == Path("runs/quickstart")
        assert folder.is_dir()


def test_find_last_returns_the_newest_last_checkpoint(tmp_path):
    files = [tmp_path / name / "last.pt" for name in ("b", "c", "a")]
    for age, file in enumerate(files):
        file.parent.mkdir()
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / "a/best.pt").touch()

    assert find_last(tmp_path) == files[0]
    assert find_last(tmp_path / "a") == tmp_path / "a/last.pt"


def test_find_last_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"new: no run to resume"):
        find_last(tmp_path / "new")


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_new_run_in_the_folder_of_another_run_is_refused(name, tmp_path):
    check_run_folder(tmp_path, None)
    (tmp_path / name).touch()

    with pytest.raises(CheckpointError, match=rf"already holds a run; resume it with --resume .*{name}"):
        check_run_folder(tmp_path, None)
    with pytest.raises(CheckpointError, match="already holds a run"):
        check_run_folder(tmp_path, tmp_path / "another/last.pt")
    check_run_folder(tmp_path, tmp_path / name)


def test_a_new_run_does_not_mix_its_metrics_with_those_of_another(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    check_run_folder(tmp_path, None)
    (tmp_path / "metrics.jsonl").write_text("{}\n")

    with pytest.raises(CheckpointError, match="holds the metrics of a run that wrote no checkpoint"):
        check_run_folder(tmp_path, None)


def test_a_run_does_not_replace_a_config_file_that_no_run_wrote(tmp_path):
    (tmp_path / "config.yaml").touch()

    for resume in (None, tmp_path / "another/last.pt"):
        with pytest.raises(CheckpointError, match=r"holds a config.yaml that no run wrote"):
            check_run_folder(tmp_path, resume)
    check_run_folder(tmp_path, tmp_path / "last.pt")
    (tmp_path / "train.log").touch()
    check_run_folder(tmp_path, None)


def test_a_checkpoint_that_does_not_exist_leaves_no_folder(tiny_config, dist, tmp_path):
    missing = tmp_path / "none/last.pt"

    with pytest.raises(CheckpointError, match="no such checkpoint"), open_run(tiny_config(), missing, None, dist):
        pass

    assert not missing.parent.exists()


def test_a_run_resumes_the_newest_run_of_its_config_in_its_folder(tiny_config, dist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = make_run_folder(tiny_config()) / "last.pt"
    last.touch()

    with open_run(tiny_config(), NEWEST, None, dist) as opened:
        assert opened == (last.parent, last)


HOLD_LOCK = """
import sys, time
from pathlib import Path
from pose.engine.run_folder import lock_folder
with lock_folder(Path(sys.argv[1])):
    if sys.argv[2:]:
        import os
        if os.fork() == 0:  # a data worker, which outlives a killed parent for seconds
            time.sleep(60)
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold_lock(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Return a process that holds the lock of a folder until its standard input is closed."""
    command = [sys.executable, "-c", HOLD_LOCK, str(folder), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    assert process.stdout.readline() == "locked\n"
    return process


needs_locks = pytest.mark.skipif(os.name != "posix", reason="file locks of POSIX")


@needs_locks
def test_a_second_process_does_not_write_to_the_folder_of_a_run(tiny_config, dist, tmp_path):
    (tmp_path / "last.pt").touch()
    with hold_lock(tmp_path) as process:
        for resume in (None, tmp_path / "last.pt"):
            with (
                pytest.raises(CheckpointError, match=rf"another run \(process {process.pid}\) writes to it"),
                open_run(tiny_config(), resume, tmp_path, dist),
            ):
                pass
        process.stdin.close()

    with open_run(tiny_config(), tmp_path / "last.pt", tmp_path, dist):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@needs_locks
def test_the_lock_of_a_killed_process_is_taken_over_at_once_even_if_its_workers_live(tmp_path):
    with hold_lock(tmp_path, "fork") as process:
        process.kill()
        process.wait()
        with lock_folder(tmp_path):
            pass
        assert not list(tmp_path.iterdir())
        process.stdin.close()


@needs_locks
def test_a_full_disk_is_refused_in_one_line_and_leaves_no_lock(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # files cannot grow
    try:
        with pytest.raises(MediaError, match=r"\.lock: cannot write it"), lock_folder(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_temporary_files_of_killed_runs_are_removed(tiny_config, dist, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f".last.{ended.pid}.partial.pt", f".val_pred.{ended.pid}.partial.jpg"):
        (tmp_path / name).touch()
    kept = tmp_path / f".results.{os.getpid()}.partial.json"
    kept.touch()

    with open_run(tiny_config(), None, tmp_path, dist):
        pass

    assert list(tmp_path.iterdir()) == [kept]
