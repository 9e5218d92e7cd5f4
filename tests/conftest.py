"""Shared fixtures: small data sets, the folder of local data, the error line of a tool, suffixes of exported models."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pose.skeleton import COCO

IMAGES_WH = {1: (160, 120), 2: (100, 140), 3: (120, 120)}


@dataclass(frozen=True)
class TinyCoco:
    """Three images with five training persons (ids 11, 12, 21, 22, 31), a crowd (13) and one without keypoints (32)."""

    images: Path
    annotations: Path
    detections: Path

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Read the annotations, change them in place and write them."""
        content = json.loads(self.annotations.read_text())
        change(content)
        self.annotations.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Function that starts a web server on this machine for a handler, and returns its address."""
    servers = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        handler.log_message = lambda *_: None  # type: ignore[method-assign]
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked ``gpu`` where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def tiny_coco(tmp_path: Path) -> TinyCoco:
    """Write a small COCO keypoint data set and detector boxes."""
    data = TinyCoco(tmp_path / "images", tmp_path / "persons.json", tmp_path / "boxes.json")
    (data.images / "more").mkdir(parents=True)
    rng = np.random.default_rng(7)
    images = []
    for image_id, (width, height) in IMAGES_WH.items():
        name = f"{image_id}.png" if image_id < 3 else "more/3.png"
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(data.images / name), cv2.GaussianBlur(noise, (0, 0), 3))
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
    annotations = [
        _person(rng, 11, 1, [20, 10, 50, 90], labeled=17),
        _person(rng, 12, 1, [90, 30, 40, 60], labeled=5),
        {**_person(rng, 13, 1, [0, 0, 160, 120], labeled=3), "iscrowd": 1},
        _person(rng, 21, 2, [10, 20, 60, 100], labeled=12),
        _person(rng, 22, 2, [50, 70, 45, 60], labeled=9),
        _person(rng, 31, 3, [30, 5, 40, 110], labeled=17),
        _person(rng, 32, 3, [80, 10, 20, 40], labeled=0),
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    data.annotations.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    boxes = [
        (1, [-4.5, 10, 70, 95], 0.9),
        (1, [88, 28.5, 44, 66], 0.6),
        (2, [9, 15, 64, 108], 0.95),
        (3, [1, 2, 9, 9], 0.1),
    ]
    data.detections.write_text(
        json.dumps([{"image_id": i, "category_id": 1, "bbox": box, "score": score} for i, box, score in boxes])
    )
    return data


def _person(
    rng: np.random.Generator, person_id: int, image_id: int, bbox_xywh: list[float], labeled: int
) -> dict[str, Any]:
    x, y, w, h = bbox_xywh
    keypoints = np.column_stack([rng.uniform((x, y), (x + w, y + h), (17, 2)), rng.integers(1, 3, 17)]).round(2)
    keypoints[rng.permutation(17)[labeled:]] = 0
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": bbox_xywh,
        "area": 0.5 * w * h,
        "iscrowd": 0,
        "num_keypoints": labeled,
        "keypoints": keypoints.ravel().tolist(),
    }


CLASSES = ("disc", "ring", "square")


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Write class folders as in ImageNet: 4 training and 3 validation images per class, of mixed sizes and formats."""
    rng = np.random.default_rng(11)
    for split, count in (("train", 4), ("val", 3)):
        for name in CLASSES:
            folder = tmp_path / "classes" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f"{number}.{('png', 'jpg', 'JPEG')[number % 3]}"), _shape(rng, name))
    return tmp_path / "classes"


def _shape(rng: np.random.Generator, name: str) -> NDArray[np.uint8]:
    width, height = rng.integers(40, 60, 2)
    image = np.full((height, width, 3), rng.integers(0, 100, 3), dtype=np.uint8)
    color, center = [int(value) for value in rng.integers(150, 256, 3)], (int(width) // 2, int(height) // 2)
    if name == "square":
        x, y = center
        cv2.rectangle(image, (x - 12, y - 12), (x + 12, y + 12), color, -1)
    else:
        cv2.circle(image, center, 14, color, -1 if name == "disc" else 3)
    return image


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    """Restore the root logger, which tools configure, and close the log files of runs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(autouse=True)
def _no_detector_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``--detector auto`` take none, whatever the developer has set or downloaded."""
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "pose")


@pytest.fixture(autouse=True)
def _cache_of_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep exported models in a folder of the test session, and not in the developer's cache."""
    monkeypatch.setenv("DYCONV_POSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], object]], str]:
    """Return a function that calls a tool, expects exit status 2 and returns the last line on stderr, after any log."""

    def error_line(call: Callable[[], object]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            call()
        assert caught.value.code == 2
        captured = capsys.readouterr()
        *log, line = captured.err.strip().split("\n")
        assert line.startswith("error: ")
        assert not any(text.startswith(("error", "Traceback")) for text in log)
        assert captured.out == ""
        return line

    return error_line


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of local images, detectors and reference values, which are not part of the project."""
    folder = Path(__file__).resolve().parents[1] / "../shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared next to the repository")
    return folder.resolve()


BACKENDS = {".onnx": "onnxruntime", ".xml": "openvino"}


@pytest.fixture(scope="session", params=BACKENDS, ids=BACKENDS.values())
def suffix(request: pytest.FixtureRequest) -> str:
    """Return the suffix of the exported files of each installed backend."""
    for package in ("onnx", BACKENDS[request.param]):
        if find_spec(package) is None:  # openvino is imported by the tested code only
            pytest.skip(f"needs {package}")
    return str(request.param)
