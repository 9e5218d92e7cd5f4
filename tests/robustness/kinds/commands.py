"""Command lines of every sub-command: values, options and outputs that make no sense, outputs that are inputs."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random

from harness import Answer, Case, command

MODEL = "--weights run/best.pt --device cpu"
BASES: dict[str, tuple[str, ...]] = {
    "print-config": ("--cfg config.yaml", "--list", "--schema pose", "--cfg config.yaml --yaml train.epochs=2"),
    "check-data": ("--cfg config.yaml", "--annotations persons.json --images images --detections boxes.json"),
    "hold-out": ("--annotations persons.json --fraction 0.4 --seed 0 --kept k.json --held-out h.json",),
    "estimate-sigmas": ("persons.json persons.json", "--category person persons.json persons.json"),
    "detect": (
        "--detector detector.onnx --images images --output o.json --score 0.1 --nms 0.5",
        "--detector detector.onnx --images images --annotations persons.json --output o.json",
    ),
    "label": (
        "--images photos --detector detector.onnx --teacher teacher.onnx --output o.json",
        "--images photos --detector detector.onnx --teacher run/best.pt --output o.json --detector-score 0.1 "
        "--keypoint-score 0.1 --min-keypoints 1",
    ),
    "predict": (
        f"photos {MODEL} --output out --save json,csv,coco,image --detector none",
        f"video.mp4 {MODEL} --no-flip --output out --save json --detector detector.onnx --max-frames 2 --smooth "
        "--detect-every 2 --keypoint-score 0.2 --score 0.1",
    ),
    "demo-video": (
        f"--input photos/photo.png --output o.png {MODEL} --detector none --json o.json",
        f"--input video.mp4 --output o.mp4 {MODEL} --boxes boxes.json --max-frames 2",
    ),
    "test": (
        f"--cfg config.yaml {MODEL} --gt-boxes --output out",
        f"--cfg config.yaml {MODEL} --detections boxes.json --output out --picture o.jpg",
        "--cfg config.yaml --weights model.onnx --gt-boxes --output out",
    ),
    "analyse": (
        "--cfg config.yaml --results results.json --json o.json",
        f"--cfg config.yaml {MODEL} --gt-boxes --json o.json",
    ),
    "pack-weights": ("--weights run/best.pt --output o.pt", "--weights run/best.pt run/last.pt --output o.pt"),
    "count-complexity": ("--cfg config.yaml --json o.json", "--cfg config.yaml classes.yaml model.width=0.2"),
    "plot-runs": (
        "--runs a=run --save-csv out",
        "--from-csv curves --cases a --save-csv out",
        "--runs a=run --entropy a=inspection.json --save-csv out",
    ),
    "export": ("--weights run/best.pt --output o.onnx --decode",),
    "train": (
        "--cfg config.yaml --resume run/last.pt --run-dir new --device cpu",
        "--cfg config.yaml --run-dir new --device cpu",
    ),
    "train-imagenet": ("--cfg classes.yaml --resume class_run/last.pt --run-dir new --device cpu",),
    "test-imagenet": ("--cfg classes.yaml --weights class_run/best.pt --output out --device cpu",),
    "inspect-attention": (f"--cfg config.yaml {MODEL} --gt-boxes --limit 2 --output out",),
    "browse": ("--cfg config.yaml --samples 1 --output o.html",),
    "build-cache": ("--cfg config.yaml data.crop_cache=o.crops",),
    "detector": ("set detector.onnx", "show", "unset"),
    "plot-perceptron": ("--output o.svg",),
    "prepare-cifar10": ("--source images --root out",),
}
WEIGHT = {
    "export": 0.3,
    "train": 0.6,
    "inspect-attention": 0.3,
    "plot-perceptron": 0.15,
    "prepare-cifar10": 0.3,
    "browse": 0.5,
}
VALUES = (
    "", "0", "-1", "-0", "1", "2", "0.5", "1.5", "1e9", "1e999", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "x",
    "x" * 300, "é", "x" * 5000, "a/b/c", ".", "..", "-", "--", "images", "persons.json", "missing", "missing/x",
    "photos/photo.png", "config.yaml", "\udcff", "\udcff.png", "\udcff.json", "a\nb", "a b", "cuda", "gpu", "cpu:0",
    "cuda:99", "mps", "meta", "tpu", "loop", "/proc/x", "/proc/self/status", "fifo", "full", "null", "folder",
    "folder.json", "~", "*", "[", "{", "'", "empty", "empty.json", "http://", "http://127.0.0.1:9/x.png", "ftp://x/y",
    "file:///x", "x.png", "x.mp4", "x.onnx", "x.xml", "x.pt", "x.exe", "x.", ".x", "none", "pose", "auto", "default",
    "a=b", "=", "train.epochs=1", "$HOME", "%s", "{0}", "json,json", "json,,csv", ",", "weights.pt", "run", "classes",
    "video.avi", "video.mp4", "detector.onnx", "teacher.onnx", "model.onnx", "run/last.pt", "1,2", "\u202e", "\t",
)  # fmt: skip
OUTPUTS = ("--output", "--json", "--kept", "--held-out", "--picture", "--run-dir", "--root", "--save-csv")


def commands(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a command line with one or two mistakes."""
    names = list(BASES)
    name = rng.choices(names, [WEIGHT.get(name, 1.0) for name in names])[0]
    arguments = rng.choice(BASES[name]).split()
    _fill(world, folder, skipped="class_run" if "class_run" not in " ".join(arguments) else "run")
    if not (world / "model.onnx").exists() and "model.onnx" in arguments:
        name, arguments = "print-config", ["--list"]
    for _ in range(rng.choice((1, 1, 1, 2))):
        _mistake(rng, arguments)
    arguments = [text for text in arguments if "\x00" not in text]
    for row, option in enumerate(arguments[:-1]):
        if option in OUTPUTS and arguments[row + 1] == "..":
            arguments[row + 1] = "."  # allowed, but what is written outside the folder of the case is a fault
    writes = {argument for option, argument in pairwise(arguments) if option in OUTPUTS}
    if "." in writes and name == "test":
        writes.add("results.json")  # the results of an earlier test are replaced
    text = " ".join([name, *(repr(a) if len(a) < 40 else f"{a[:20]!r}({len(a)})" for a in arguments)])

    def check(answer: Answer) -> str | None:
        for option, value in pairwise(arguments):
            asked_help = any(a in ("-h", "--help") for a in arguments)
            if option == "--json" and not asked_help and not Path(value).is_file():
                return f"no file {value[:60]!r}"
        return None

    return Case(text, command(name, *arguments), check=check, writes=frozenset(writes - read_by(arguments)))


INPUTS = frozenset({
    "config.yaml", "classes.yaml", "persons.json", "boxes.json", "results.json", "inspection.json", "run",
    "run/best.pt", "run/last.pt", "class_run", "weights.pt", "detector.onnx", "teacher.onnx", "model.onnx",
    "video.mp4", "video.avi", "photos/photo.png",
})  # fmt: skip
DATA = frozenset({"persons.json", "boxes.json"})
"""Files that config.yaml names."""


def read_by(arguments: list[str]) -> frozenset[str]:
    """Return the files that a command may not change, as it reads them; one that is an output alone is replaced."""
    named = {text for before, text in pairwise(["", *arguments]) if before not in OUTPUTS}
    return (INPUTS & named) | (DATA if "config.yaml" in named else frozenset())


def _fill(world: Path, folder: Path, skipped: str) -> None:
    """Copy the undamaged files but one folder, and make some unusual ones."""
    for path in world.iterdir():
        if path.name == skipped:
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder / path.name)
    (folder / "loop").symlink_to("loop")
    (folder / "full").symlink_to("/dev/full")
    (folder / "null").symlink_to("/dev/null")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "folder.json").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "empty.json").write_text(json.dumps([]))


def _mistake(rng: Random, arguments: list[str]) -> None:
    """Change a list of arguments in place."""
    value = rng.choice(VALUES)
    values = [row for row in range(1, len(arguments)) if arguments[row - 1].startswith("-")] or list(
        range(len(arguments))
    )
    outputs = [row for row in values if row and arguments[row - 1] in OUTPUTS]
    match rng.randrange(8):
        case 0 if outputs:  # an output that is an input
            inputs = [text for text in arguments if os.path.lexists(text)] or ["persons.json"]
            arguments[rng.choice(outputs)] = rng.choice(inputs)
        case 1 if len(arguments) > 1:
            del arguments[rng.randrange(len(arguments))]
        case 2:
            arguments.insert(rng.randrange(len(arguments) + 1), value)
        case 3:
            arguments.insert(
                rng.randrange(len(arguments) + 1), rng.choice(("--unknown", "--help", "--cfg", "-h", "--", "--output"))
            )
        case 4 if outputs:
            arguments[rng.choice(outputs)] = value
        case _ if values:
            arguments[rng.choice(values)] = value
