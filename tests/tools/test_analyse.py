"""Analysis of a model and of a result file by the command, and mistakes of the user."""

import json

import pytest

from pose.cli import run
from pose.config.loader import load_config
from pose.datasets.synthetic.prepare import prepare_data
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.tools.analyse import main

TINY = (
    "data.synthetic.train_images=4",
    "data.synthetic.val_images=5",
    "data.synthetic.image_wh=[160,120]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.workers=0",
)
ANNOTATIONS = "annotations/person_keypoints_val.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "data"
    prepare_data(load_config("quickstart", [f"data.root={root}", *TINY]))
    return root


@pytest.fixture
def truth(data):
    """Annotations as results, the last one twice."""
    annotations = json.loads((data / ANNOTATIONS).read_text())["annotations"]
    keys = ("image_id", "category_id", "keypoints")
    results = [{**{key: a[key] for key in keys}, "score": 0.9} for a in annotations if a["num_keypoints"]]
    return [*results, {**results[-1], "score": 0.2}]


@pytest.fixture
def call(data, tmp_path, monkeypatch):
    """Return a function that calls the tool with results (a list, written to a file) and other arguments."""
    monkeypatch.chdir(tmp_path)

    def analyse(results, *arguments):
        flags = []
        if results is not None:
            (tmp_path / "results.json").write_text(json.dumps(results))
            flags = ["--results", str(tmp_path / "results.json")]
        run(main, ["--cfg", "quickstart", *flags, *map(str, arguments), f"data.root={data}", *TINY])

    return analyse


def test_a_result_file_is_analysed_into_a_page_and_figures(call, truth, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

    call(truth, "--output", tmp_path / "new/report.html", "--json", tmp_path / "report.json")

    out = capsys.readouterr().out
    assert "AP 100.0 (95 % interval 100.0 to 100.0)" in out
    figures = json.loads((tmp_path / "report.json").read_text())
    assert {row["error"]: row["count"] for row in figures["errors"]} == {
        "jitter": 0, "inversion": 0, "swap": 0, "miss": 0, "score": 0, "false positive": 1, "false negative": 0,
    }  # fmt: skip
    assert figures["source"].endswith("results.json on person_keypoints_val.json")
    assert len(figures["worst"]) == min(20, len(truth) - 1)
    assert (tmp_path / "new/report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_default_is_a_page_in_the_working_directory_and_json_alone_writes_no_page(call, truth, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

    call(truth, "--json", "report.json")
    assert not (tmp_path / "analysis.html").exists()

    call(truth)
    assert (tmp_path / "analysis.html").exists()


def test_a_model_is_analysed_with_its_protocol(call, data, tmp_path, capsys):
    config = load_config("quickstart", [f"data.root={data}", *TINY])
    content = {"model": build_pose_net(config).state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")

    call(None, "--weights", tmp_path / "best.pt", "--gt-boxes", "--device", "cpu", "--json", tmp_path / "report.json")

    figures = json.loads((tmp_path / "report.json").read_text())
    assert "ground-truth boxes; input 64x64" in figures["source"]
    assert figures["source"] in capsys.readouterr().out
    assert figures["results"] > 0


def test_compare_states_the_difference_with_its_interval(call, truth, tmp_path, capsys):
    (tmp_path / "other.json").write_text(json.dumps(truth[:-3]))

    call(truth, "--compare", tmp_path / "other.json", "--json", tmp_path / "report.json")

    comparison = json.loads((tmp_path / "report.json").read_text())["comparison"]
    assert comparison["difference"] > 0
    assert comparison["other"].endswith("other.json")
    assert "95 % interval" in capsys.readouterr().out.splitlines()[-2]


def test_mistakes_of_the_user_are_answered_in_one_line(call, truth, tmp_path, refusal, data):
    for results, arguments, expected in (
        (truth, ["--gt-boxes"], "--results: the boxes are part of the results"),
        ({"images": []}, ["--json", "x.json"], "results.json: expected keypoint results"),
        (
            [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}],
            ["--json", "x"],
            "row 0 (image_id 1): expected 'keypoints'",
        ),
        ([{**truth[0], "keypoints": [1, 2, 3]}], ["--json", "x"], "row 0 (image"),
        ([{**truth[0], "score": float("nan")}], ["--json", "x"], "write finite numbers"),
        ([{**truth[0], "keypoints": "abc"}], ["--json", "x"], "expected a list"),
        ([{**truth[0], "image_id": 99999}], ["--json", "x"], "has no image 99999"),
        (truth, ["--json", "x", "--compare", "gone.json"], "gone.json: no such file"),
    ):
        line = refusal(lambda results=results, arguments=arguments: call(results, *arguments))
        assert expected in line

    content = json.loads((data / ANNOTATIONS).read_text())
    del content["annotations"]
    (tmp_path / "info.json").write_text(json.dumps(content))
    line = refusal(lambda: call(truth, "--json", "x", f"data.val_annotations={tmp_path}/info.json"))
    assert "has no annotations, so errors cannot be analysed" in line


def test_without_matplotlib_the_error_names_the_extra(call, truth, refusal, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)

    assert "analysis.html: drawing needs matplotlib; pip install 'dyconv-pose[plot]'" in refusal(lambda: call(truth))
