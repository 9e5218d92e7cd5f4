"""What the commands write: never over an input, and on a full disk one line, the older file and exit status 2."""

import importlib
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.cli import run

Refusal = Callable[[Callable[[], object]], str]


def call(command: str, *arguments: object) -> None:
    package = "data" if command in ("hold_out", "browse", "build_cache") else "tools"
    run(importlib.import_module(f"pose.{package}.{command}").main, [*map(str, arguments)])


# --- outputs that are inputs


@pytest.fixture
def config(tiny_coco, tmp_path: Path) -> Path:
    """A config of the tiny data set, with a base file."""
    (tmp_path / "base.yaml").write_text("model: {width: 0.35, head_width: 0.25}\ninput: {size_hw: [64, 64]}\n")
    data = {"root": str(tmp_path), "synthetic": None, "category": None}
    data |= {f"{split}_annotations": tiny_coco.annotations.name for split in ("train", "val")}
    data |= {f"{split}_images": tiny_coco.images.name for split in ("train", "val")}
    data |= {"val_detections": tiny_coco.detections.name}
    path = tmp_path / "config.yaml"
    path.write_text(f"base: base.yaml\ndata: {json.dumps(data)}\ntrain: {{workers: 0}}\n")
    return path


CASES = {
    "detect over its annotations": "detect --detector none --images images --annotations persons.json "
    "--output persons.json",
    "detect over an annotated image": "detect --detector none --images images --annotations persons.json "
    "--output images/more/3.png",
    "detect over an image": "detect --detector none --images images --output images/1.png",
    "detect over a link to its annotations": "detect --detector none --images images --annotations persons.json "
    "--output linked.json",
    "detect over its detector": "detect --detector best.pt --images images --output best.pt",
    "label over an image": "label --detector none --images images --output images/2.png",
    "label over its teacher": "label --detector none --images images --teacher best.pt --output best.pt",
    "count_complexity over a config": "count_complexity --cfg config.yaml --json config.yaml",
    "count_complexity over a base": "count_complexity --cfg quickstart config.yaml --json base.yaml",
    "analyse over its results": "analyse --cfg config.yaml --results boxes.json --json boxes.json",
    "analyse over the annotations": "analyse --cfg config.yaml --results boxes.json --json persons.json",
    "analyse over its config": "analyse --cfg config.yaml --results boxes.json --output config.html",
    "browse over the annotations": "browse --cfg config.yaml --output persons.html",
    "browse over a base": "browse --cfg config.yaml --output base.html",
    "test over its boxes": "test --cfg config.yaml --weights best.pt --detections results.json --output .",
    "test over its weights": "test --cfg config.yaml --weights best.pt --picture best.pt",
    "export over an image": "export --weights best.pt --images images --output images/1.onnx",
    "plot_runs over its layers": "plot_runs --runs a=runs --entropy a=curves.png --output curves.png",
    "plot_runs over its experiment": "plot_runs --from-csv . --save-csv . --cases a",
    "hold_out over its annotations": "hold_out --annotations persons.json --kept persons.json --held-out new.json",
}


@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_an_output_that_is_an_input_is_refused(
    arguments: str, config: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("linked.json").hardlink_to("persons.json")
    for name in ("persons.json", "base.yaml", "config.yaml"):
        Path(name).with_suffix(".html").symlink_to(name)
    Path("best.pt").write_bytes(weights.read_bytes())
    Path("results.json").write_text("[]")
    Path("curves.csv").write_text("case,run,kind,samples,value\na,0,loss,1,1\n")
    Path("curves.png").write_text("{}")
    cv2.imwrite("one.png", np.zeros((8, 8, 3), np.uint8))
    Path("one.png").rename("images/1.onnx.png")
    if "1.onnx" in arguments:
        Path("images/1.onnx").symlink_to("1.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    line = refusal(lambda: call(*arguments.split()))
    assert "is an input of the same command; give the output another name" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- full disk


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let no file become larger than ``free_bytes``; a write beyond fails as on a full disk, with another reason."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


WRITERS = {
    "count_complexity": ("count_complexity --cfg quickstart --json OLD", "old.json"),
    "detect": ("detect --detector none --images images --output OLD", "old.json"),
    "browse": ("browse --cfg config.yaml --samples 1 --output OLD", "old.html"),
    "test": ("test --cfg config.yaml --weights best.pt --gt-boxes --output out", "out/results.json"),
    "test --picture": ("test --cfg config.yaml --weights best.pt --gt-boxes --output out --picture OLD", "old.png"),
    "plot_perceptron": ("plot_perceptron --output OLD", "old.png"),
    "plot_runs --save-csv": ("plot_runs --from-csv experiment --save-csv out", "out/curves.csv"),
    "export to ONNX": ("export --weights best.pt --output OLD", "old.onnx"),
    "export to OpenVINO": ("export --weights best.pt --output OLD", "old.xml"),
    "build_cache": ("build_cache --cfg config.yaml data.crop_cache=new.crops", "new.crops"),
}


@pytest.mark.parametrize("case", WRITERS)
def test_a_file_that_does_not_fit_on_the_disk_is_named_and_the_older_one_stays(
    case: str,
    config: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, name = WRITERS[case]
    if "export" in case:
        pytest.importorskip("onnx")
        pytest.importorskip("openvino" if name.endswith(".xml") else "onnxruntime")
    if case.startswith("plot_perceptron"):
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    Path("best.pt").write_bytes(weights.read_bytes())
    Path("experiment").mkdir()
    rows = "".join(f"a,0,loss,{samples},0.{samples}\n" for samples in range(1, 1000))
    Path("experiment/curves.csv").write_text(f"case,run,kind,samples,value\n{rows}")
    Path("out").mkdir()
    old = Path(name)
    if not name.startswith("new"):
        old.write_text("old")
    free_bytes = 10_000 if case == "test --picture" else 150
    before = {*tmp_path.rglob("*")}
    with full_disk(free_bytes), pytest.raises(SystemExit) as caught:
        call(*arguments.replace("OLD", name).split())
    line = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2
    written = (name, tmp_path / name, "/") if "export" in case else (name, tmp_path / name)  # or a temporary file
    assert line.startswith(tuple(f"error: {path}" for path in written)), line
    assert ": cannot write" in line
    assert name.startswith("new") or old.read_text() == "old"
    new = {path.relative_to(tmp_path).as_posix() for path in {*tmp_path.rglob("*")} - before}
    assert new <= ({"out/results.json", "out/metrics.json"} if case == "test --picture" else set())
