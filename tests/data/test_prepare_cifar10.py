"""The command prepare-cifar10: prints what was written, and refuses a bad source in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pose.cli import run
from pose.data.prepare_cifar10 import main

Refusal = Callable[[Callable[[], object]], str]


def test_the_command_writes_once_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = iter([True, False])
    calls = []
    monkeypatch.setattr(
        "pose.data.prepare_cifar10.write_class_folders", lambda *paths: calls.append(paths) or next(results)
    )
    for _ in range(2):
        main(["--source", "images.tar.xz", "--root", "data"])

    assert calls == [(Path("images.tar.xz"), Path("data"))] * 2
    assert (
        capsys.readouterr().out
        == "data: 50000 in train and 10000 in val\ndata: 50000 in train and 10000 in val; was complete\n"
    )


def test_a_missing_source_is_refused_in_one_line(tmp_path: Path, refusal: Refusal) -> None:
    line = refusal(lambda: run(main, ["--source", str(tmp_path / "none.tar"), "--root", str(tmp_path / "data")]))

    assert "none.tar: cannot read it as a tar archive (No such file or directory)" in line
