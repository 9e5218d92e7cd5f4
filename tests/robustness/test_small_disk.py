"""A file system that is really full, a tmpfs: one line, status 2, the older file stays, nothing is left over."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pose.cli import run
from pose.tools import count_complexity, demo_video, export, pack_weights, train

DISK_BYTES = 256 << 10
VIDEO = Path(__file__).parents[2] / "data/samples/people.mp4"
TINY = (
    "data.synthetic.train_images=8",
    "data.synthetic.val_images=2",
    "data.synthetic.image_wh=[96,72]",
    "input.size_hw=[64,64]",
    "train.batch_size=4",
    "train.epochs=1",
    "train.workers=0",
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted tmpfs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError as error:
        pytest.skip(f"needs the command mount ({error})")
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def fill(disk: Path, free_bytes: int) -> None:
    """Leave ``free_bytes`` free, in whole blocks."""
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - free_bytes))


DEMO = ["--input", str(VIDEO), "--detector", "none", "--runtime", "pytorch", "--device", "cpu", "--max-frames", "8"]
CASES = {
    "JSON": (count_complexity.main, ["--cfg", "quickstart", "--json", "DISK/old.json"], 0),
    "weights": (pack_weights.main, ["--weights", "default", "--output", "DISK/new.pt"], 64 << 10),
    "export": (export.main, ["--weights", "default", "--output", "DISK/old.onnx"], 64 << 10),
    "video": (demo_video.main, [*DEMO, "--output", "DISK/old.avi"], 64 << 10),
    "video and JSON": (demo_video.main, [*DEMO, "--output", "DISK/old.mp4", "--json", "DISK/old.json"], 8 << 10),
    "run": (train.main, ["--cfg", "quickstart", "--device", "cpu", "--run-dir", "DISK/run", *TINY], 64 << 10),
}
"""Command, its arguments, and the free bytes."""


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_is_one_line_and_the_older_file_stays(case, disk, tmp_path, monkeypatch, capsys):
    if case == "export":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    main, arguments, free_bytes = CASES[case]
    old = [disk / f"old{suffix}" for suffix in (".json", ".onnx", ".avi", ".mp4")]
    for file in old:
        file.write_text("old")
    fill(disk, free_bytes)
    before = {path.name for path in disk.iterdir()}
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as caught:
        run(main, [text.replace("DISK", str(disk)) for text in arguments])

    assert caught.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert len(line) <= 300
    assert str(disk) in line
    assert [file.read_text() for file in old] == ["old"] * len(old)
    assert {path.name for path in disk.iterdir()} - before <= ({"run"} if case == "run" else set())
    assert not [path for path in disk.rglob("*") if ".partial" in path.name or path.name == ".lock"]
