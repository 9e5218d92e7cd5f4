"""Run folders: path of a new run, and the checkpoint to resume."""

import os
from pathlib import Path

import pytest

from pose.engine.run_folder import check_run_folder, find_last, new_run_folder, runs_folder
from pose.errors import CheckpointError


def test_new_run_folder_is_in_a_folder_named_after_the_config(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    folder = new_run_folder(tiny_config())

    assert folder.parent == runs_folder(tiny_config()) == Path("runs/quickstart")
    assert not folder.exists()


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


def test_a_new_run_in_the_folder_of_another_run_is_refused(tmp_path):
    check_run_folder(tmp_path, None)
    (tmp_path / "last.pt").touch()

    with pytest.raises(CheckpointError, match=r"already holds a run; resume it with --resume .*last\.pt"):
        check_run_folder(tmp_path, None)
    check_run_folder(tmp_path, tmp_path / "last.pt")
