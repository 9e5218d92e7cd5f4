"""A disk that is full: a limit on the size of files, at any byte, while a command writes.

`RLIMIT_FSIZE` makes a write beyond the limit fail, as a full disk does.
"""

import contextlib
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from harness import Answer, Case, command

from kinds.media import count_frames

MODEL = "--weights run/best.pt --device cpu"
VIDEO = f"demo-video --input video.mp4 {MODEL} --detector none --output"
LABEL = "label --images photos --detector detector.onnx --teacher teacher.onnx --output"
COMMANDS = (
    ("hold-out --annotations persons.json --fraction 0.4 --kept k.json --held-out h.json", "k.json h.json", 4000),
    ("detect --detector detector.onnx --images images --output o.json", "o.json", 400),
    (f"{LABEL} o.json", "o.json", 9000),
    (f"predict photos {MODEL} --no-flip --detector none --save json,csv,coco,image --output out", "", 20000),
    (f"test --cfg config.yaml {MODEL} --gt-boxes --output out", "out/results.json out/metrics.json", 4000),
    ("pack-weights --weights run/best.pt --output o.pt", "o.pt", 300000),
    ("plot-runs --runs a=run --save-csv out", "out/curves.csv", 200),
    ("build-cache --cfg config.yaml data.crop_cache=o.crops", "o.crops", 20000),
    ("count-complexity --cfg config.yaml --json o.json", "o.json", 300),
    ("export --weights run/best.pt --output o.onnx", "o.onnx", 300000),
    ("export --weights run/best.pt --output o.xml", "o.xml o.bin", 300000),
    (f"{VIDEO} o.mp4 --json o.json", "o.mp4 o.json", 9000),
    (f"{VIDEO} o.avi", "o.avi", 9000),
    (f"{VIDEO} o.webm", "o.webm", 9000),
    ("train --cfg config.yaml --run-dir new --device cpu", "new/last.pt new/best.pt", 700000),
    ("train --cfg config.yaml --resume run/last.pt --device cpu train.epochs=2", "run/last.pt", 700000),
    ("detector set detector.onnx", "", 100),
    ("browse --cfg config.yaml --samples 1 --output o.html", "o.html", 50000),
    ("analyse --cfg config.yaml --results results.json --json o.json", "o.json", 5000),
)
"""Command, the files that it writes, and about their size."""
RUN_FILES = ("last.pt", "best.pt", "metrics.jsonl", "train.log", "config.yaml", "train_batch.jpg", "val_pred.jpg")


def full_disk(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a command whose files may not grow beyond a size."""
    line, names, size = rng.choice(COMMANDS)
    arguments, outputs = line.split(), names.split()
    for path in world.iterdir():
        if path.name == "class_run":
            continue
        copy: Callable[..., object] = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / path.name)
    older = rng.random() < 0.5 and arguments[0] not in ("hold-out", "pack-weights", "train", "export")
    for name in outputs if older else ():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((world / "persons.crops").read_bytes() if name == "o.crops" else b"older")
    limit = rng.choice((0, 1, rng.randrange(size), rng.randrange(size), rng.randrange(2 * size)))

    def act() -> None:
        with file_size_limit(limit):
            command(*arguments)()

    def check(answer: Answer) -> str | None:
        return next(filter(None, (_broken(folder / name) for name in outputs)), None)

    writes, changes = frozenset(outputs), frozenset[str]()
    if "--resume" in arguments:
        writes, changes = frozenset(), frozenset(f"run/{name}" for name in RUN_FILES)
    what = f"{' '.join(arguments[:3])}... to {', '.join(outputs)}, files up to {limit} bytes"

    def files() -> str | None:
        return next(filter(None, (_broken(folder / name) for name in ("run/last.pt", "run/best.pt"))), None)

    return Case(what, act, check=check, writes=writes, changes=changes, files=files)


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let no file grow beyond ``limit`` bytes. (Python ignores the signal, so that writes fail with an error.)"""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _broken(path: Path) -> str | None:
    """Return what is wrong with an output of a command that succeeded."""
    if not path.is_file():
        return f"no {path.name}"
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".pt":
        import torch

        torch.load(path, weights_only=True)
    elif path.suffix in (".mp4", ".avi", ".webm"):
        found = count_frames(path)
        return None if found == 6 else f"{path.name}: {found} frames can be read back of 6"
    elif path.suffix == ".onnx":
        import onnxruntime

        onnxruntime.InferenceSession(str(path))
    return None if path.stat().st_size and path.read_bytes() != b"older" else f"{path.name} is empty, or the older file"
