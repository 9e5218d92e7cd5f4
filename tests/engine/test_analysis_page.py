"""The page of an analysis: plots, worst persons, and how a browser shows it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.engine.analysis_page import draw_worst, write_page
from pose.evaluation.analysis import Analysis, analyse
from pose.skeleton import COCO

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def analysis(tiny_coco) -> Analysis:
    """The annotations of `tiny_coco` as results; left and right of person 11 are exchanged, and it is moved up."""
    results = []
    for person in json.loads(tiny_coco.annotations.read_text())["annotations"]:
        if person["num_keypoints"] and not person["iscrowd"]:
            xyv = np.reshape(person["keypoints"], (17, 3))
            if person["id"] == 11:
                xyv = xyv[COCO.flip_order] - [0, 1, 0]
            result = {"image_id": person["image_id"], "category_id": 1, "score": 0.5 + person["id"] / 100}
            results.append({**result, "keypoints": xyv.ravel().tolist()})
    return analyse(tiny_coco.annotations, results, COCO, rounds=20)


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def written(analysis: Analysis, images: Path, folder: Path, **options) -> str:
    page = folder / "new/page.html"
    comparison = options.get("comparison")
    worst = draw_worst(analysis, COCO, images)
    write_page(analysis, worst, options.get("source", "the results"), comparison, page)
    return page.read_text(encoding="utf-8")


@pytest.fixture
def no_plots(monkeypatch) -> None:
    """Write no plots, which take most of the time."""
    monkeypatch.setattr("pose.engine.analysis_plots.draw_png", lambda draw, size_inches: b"")


def test_the_worst_person_is_drawn_first_with_its_errors(analysis, tiny_coco):
    worst = draw_worst(analysis, COCO, tiny_coco.images, count=2)

    assert len(worst) == 2
    assert worst[0].figures["annotation_id"] == 11
    assert worst[0].figures["image"] == "1.png"
    assert worst[0].figures["labeled"] == 17
    assert "inversion" in worst[0].figures["errors"]
    height, width = worst[0].drawing.shape[:2]
    left, right = worst[0].drawing[:, : width // 2], worst[0].drawing[:, width // 2 :]
    assert (left != right).any(axis=2).mean() > 0.01
    assert height > 200


def test_a_perfect_prediction_is_drawn_like_its_annotation(analysis, tiny_coco):
    last = draw_worst(analysis, COCO, tiny_coco.images)[-1]

    half = last.drawing.shape[1] // 2 - 3  # tiles of equal width with a gap of 6 pixels
    np.testing.assert_array_equal(last.drawing[:, 6 : half + 3], last.drawing[:, half + 6 : 2 * half + 3])
    assert last.figures["OKS"] == 1
    assert last.figures["errors"] == "no error"


@pytest.mark.usefixtures("no_plots")
def test_missing_images_are_named_in_a_warning_and_on_the_page(analysis, tmp_path, caplog):
    page = written(analysis, tmp_path / "nowhere", tmp_path)

    assert "nowhere/1.png" in caplog.text
    assert page.count("image file not found") == len(analysis.match.persons)


def test_the_page_needs_no_other_file_and_shows_all_parts(analysis, tiny_coco, tmp_path):
    page = written(analysis, tiny_coco.images, tmp_path)

    tags = Tags(page).tags
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(sources) == 4 + len(analysis.match.persons)
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in sources)
    assert not {"link", "script", "iframe"} & {tag for tag, _ in tags}
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    for heading in ("What the errors cost", "By keypoint", "By size", "Scores", "The worst 5 persons"):
        assert heading in page
    assert "<td>left_ankle</td>" in page


@pytest.mark.usefixtures("no_plots")
def test_text_of_the_user_is_escaped(analysis, tiny_coco, tmp_path):
    page = written(analysis, tiny_coco.images, tmp_path, source="<b>a&b</b>")

    assert "&lt;b&gt;a&amp;b&lt;/b&gt;" in page
    assert "<b>a&b" not in page


@pytest.mark.usefixtures("no_plots")
def test_a_comparison_is_stated_in_a_sentence(analysis, tiny_coco, tmp_path):
    comparison = {
        "other": "old.json", "other_AP": 0.5, "difference": 0.0123, "difference_interval": (-0.001, 0.02),
        "share_better": 0.9, "rounds": 20,
    }  # fmt: skip

    page = written(analysis, tiny_coco.images, tmp_path, comparison=comparison)

    assert "Compared with old.json (AP 50.0): +1.2 AP, 95 % interval -0.1 to +2.0" in page


def test_a_browser_shows_the_page_with_all_images(analysis, tiny_coco, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium")
    written(analysis, tiny_coco.images, tmp_path)
    screenshot, page = tmp_path / "page.png", tmp_path / "new/page.html"
    # The script of a copy counts the images that the browser could decode and writes the count into the title.
    count = "<script>onload = () => { document.title = [...document.images].filter(i => i.naturalWidth > 50).length }"
    checked = tmp_path / "checked.html"
    checked.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{count}</script></body>"), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}/profile",
    ]

    dom = subprocess.run(
        [browser, *options, "--dump-dom", checked.as_uri()], capture_output=True, text=True, timeout=120
    )
    subprocess.run(
        [browser, *options, "--window-size=1040,3000", f"--screenshot={screenshot}", page.as_uri()],
        capture_output=True, timeout=120,
    )  # fmt: skip

    assert f"<title>{4 + len(analysis.match.persons)}</title>" in dom.stdout
    shown = cv2.imread(str(screenshot))
    assert shown.shape == (3000, 1040, 3)
    rows_with_content = (shown != 255).any(axis=(1, 2))
    assert rows_with_content.mean() > 0.3
