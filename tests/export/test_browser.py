"""The web page: complete, without other hosts, and in Chromium with the keypoints of Python."""

import functools
import html
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest

from pose.cli import run
from pose.errors import MediaError, PoseError
from pose.export import browser
from pose.export.browser import RUNTIME, RUNTIME_FILES, check_folder, load_runtime
from pose.inference import search
from pose.inference.exported import ExportedPredictor
from pose.tools.export import main
from pose.video.readers import Frame
from pose.video.tracking import track_person

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of ONNX Runtime Web, or skip."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, of Node.js")
    folder = tmp_path_factory.mktemp("npm")
    command = [npm, "pack", RUNTIME, "--silent", "--pack-destination", str(folder)]
    if subprocess.run(command, capture_output=True, timeout=300).returncode:
        pytest.skip(f"needs the npm registry, to download {RUNTIME}")
    return next(folder.glob("*.tgz"))


@pytest.fixture(scope="module")
def page(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of the packaged model, and a frame of the sample video into its folder."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    folder = tmp_path_factory.mktemp("web") / "page"
    main(["--browser", str(folder), "--runtime", str(runtime)])
    decoded, frame = cv2.VideoCapture(str(ROOT / "data/samples/people.mp4")).read()
    assert decoded
    cv2.imwrite(str(folder / "people.png"), frame)
    return folder


@pytest.fixture(scope="module")
def chromium(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return a function that opens the page with a query in headless Chromium and returns its final HTML."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(page)))
    Thread(target=server.serve_forever, daemon=True).start()
    profile = tmp_path_factory.mktemp("profile")

    def open_page(query: str) -> str:
        command = [str(program), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        # Virtual time: Chromium waits for the model, however slow the machine, but its clock does not count seconds.
        command += ["--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/{query}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=240).stdout

    yield open_page
    server.shutdown()
    server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def text_of(document: str, element: str) -> str:
    found = re.search(rf'<\w+ id="{element}"[^>]*>(.*?)</', document, re.DOTALL)
    assert found, document[:500]
    return html.unescape(found.group(1))


def test_the_page_in_chromium_has_the_keypoints_of_python_to_a_pixel(
    page: Path, chromium: Callable[[str], str]
) -> None:
    document = chromium("?input=people.png")
    assert text_of(document, "status").startswith("1 person"), text_of(document, "status")
    result = json.loads(text_of(document, "result"))

    predictor = ExportedPredictor(page / "model.onnx", threads=1)
    image = cv2.imread(str(page / "people.png"))
    expected = next(iter(track_person([Frame(0, image, 0, "people.png", None)], predictor, predictor))).poses
    assert [row[0] for row in result["keypoints"]] == list(predictor.skeleton.names)
    keypoints = np.array([row[1:3] for row in result["keypoints"]])
    assert np.linalg.norm(keypoints - expected.keypoints[0], axis=1).max() < 1
    np.testing.assert_allclose([row[3] for row in result["keypoints"]], expected.scores[0], atol=0.01)
    np.testing.assert_allclose(result["bbox"], expected.bboxes_xywh[0], atol=1)


def test_the_page_says_what_is_wrong_with_its_input(page: Path, chromium: Callable[[str], str]) -> None:
    (page / "text.png").write_text("no image")

    assert "missing.png: the server answered 404" in text_of(chromium("?input=missing.png"), "status")
    assert "could not be decoded" in text_of(chromium("?input=text.png"), "status")


def test_the_page_is_complete_and_names_no_other_host(page: Path) -> None:
    files = {file.name: file for file in page.iterdir()}
    assert {"index.html", "model.json", "model.onnx", *RUNTIME_FILES} <= files.keys()
    description = json.loads(files["model.json"].read_text())
    assert description["tracking"]["margin"] == search.MARGIN
    assert description["skeleton"]["names"][0] == "nose"
    for name in (file.name for file in browser.PAGE.iterdir()):
        assert "://" not in files[name].read_text().replace("http://localhost", ""), name
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', files["index.html"].read_text())
    assert policy and policy.group(1).startswith("default-src 'self';") and "http" not in policy.group(1)


def test_a_page_is_replaced_and_any_other_folder_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    check_folder(tmp_path)
    (tmp_path / "model.json").touch()
    check_folder(tmp_path)
    (tmp_path / "model.json").rename(tmp_path / "index.html")

    for folder in (tmp_path, tmp_path / "index.html"):
        with pytest.raises(MediaError, match="exists and is not a page that was written before"):
            check_folder(folder)


def archive(path: Path, names: tuple[str, ...]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return path


def test_the_runtime_is_read_from_an_archive_of_npm(tmp_path: Path) -> None:
    assert load_runtime(archive(tmp_path / "good.tgz", RUNTIME_FILES)) == dict.fromkeys(RUNTIME_FILES, b"abc")

    (tmp_path / "text.tgz").write_text("no archive")
    archive(tmp_path / "other.tgz", RUNTIME_FILES[:1])
    for name in ("text.tgz", "other.tgz", "missing.tgz"):
        with pytest.raises(PoseError, match=rf"{name}: not the archive of `npm pack onnxruntime-web@") as caught:
            load_runtime(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_without_npm_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[[Callable[[], object]], str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refusal(lambda: run(main, ["--browser", str(tmp_path / "page")]))
    assert line.startswith("error: npm: not found")
    assert "--runtime" in line


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as npm")
def test_a_failed_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[[Callable[[], object]], str]
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\necho 'more' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    line = refusal(lambda: run(main, ["--browser", str(tmp_path / "page")]))
    assert f"npm pack {RUNTIME}: failed (npm error network more)" in line
    assert not (tmp_path / "page").exists()
