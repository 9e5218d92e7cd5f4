"""tools/render_benchmarks.py: the page in the repository is that of its measurements; bad files give one line."""

import json
from pathlib import Path

import pytest

from pose.cli import run
from pose.tools.benchmarks import suite_names
from pose.tools.benchmarks._growth_plot import growth_points
from pose.tools.benchmarks._page import SUITES, number, read_records, render_page
from pose.tools.render_benchmarks import main

ROOT = Path(__file__).resolve().parents[2]
ROW = {
    "suite": "nms", "case": "many persons", "ours": 12.34, "against": 61.7, "against_name": "HRNet's code",
    "unit": "ms", "ratio": 0.2, "bar": 0.1,
}  # fmt: skip
RECORD = {
    "suite": "nms", "command": "python tools/benchmark.py nms", "date": "2026-11-25", "commit": "abc", "machine": "M",
    "versions": "V", "conditions": "a training ran", "rows": [ROW],
}  # fmt: skip


def write(folder: Path, **changes) -> Path:
    file = folder / "nms.json"
    file.write_text(json.dumps(RECORD | changes))
    return file


def test_the_page_in_the_repository_is_rendered_from_the_measurements_in_the_repository():
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert page == render_page(read_records(ROOT / "docs/benchmarks")), "run python tools/render_benchmarks.py"


def test_every_suite_has_a_heading():
    assert set(SUITES) == set(suite_names())


def test_a_row_of_a_peer_is_in_the_first_table_and_in_its_section(tmp_path):
    write(tmp_path)
    main(["--records", str(tmp_path), "--output", str(tmp_path / "page.md")])

    page = (tmp_path / "page.md").read_text()
    row = "| many persons | 12.3 ms | HRNet's code 61.7 | 0.20 | 0.10 |"
    first, *_, last = page.split("\n## ")[1:]
    assert row in first
    assert row in last
    assert "Measured on 2026-11-25, commit abc. M; V. Meanwhile: a training ran." in last


def test_detection_has_frames_a_second_and_ap_lost(tmp_path):
    def row(case, ours, against, unit):
        return ROW | {"case": case, "ours": ours, "against": against, "unit": unit, "against_name": "every frame"}

    case = "detection in every 5 frames, onnxruntime"
    rows = [row(f"{case}, time a frame", 40.0, 80.0, "ms"), row(f"{case}, AP", 42.5, 44.0, "AP")]
    write(tmp_path, suite="detect_every", rows=rows)

    assert "| 5 | 25.0 | 42.5 | 1.5 |" in render_page(read_records(tmp_path))


def test_growth_points_are_by_step_and_factor(tmp_path):
    rows = [ROW | {"case": f"reading, {factor} x val2017, time", "ours": factor * 2.0} for factor in (1, 10)]
    write(tmp_path, suite="growth", rows=[*rows, ROW])

    assert growth_points(read_records(tmp_path)["nms"].rows, "time") == {"reading": {1: 2.0, 10: 20.0}}


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (100.0, "100")])
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": []}, "nms.json"),
        ({"rows": [ROW | {"ours": -1}]}, "nms.json"),
        ({"rows": [ROW | {"ratio": None}]}, "nms.json"),
        ({"date": "yesterday"}, "nms.json"),
        ({"suite": "speed"}, "nms.json: no suite 'speed'; there are peer, "),
        ({"note": "typed"}, "nms.json"),
    ],
)
def test_a_bad_measurement_gives_one_line(changes, message, tmp_path, capsys):
    write(tmp_path, **changes)
    assert message in error_line(tmp_path, capsys)


def test_no_measurement_and_no_json_give_one_line(tmp_path, capsys):
    assert "expected measurements (.json), got none" in error_line(tmp_path, capsys)
    (tmp_path / "nms.json").write_text("[")
    assert "nms.json" in error_line(tmp_path, capsys)


def test_a_plot_without_growth_gives_one_line(tmp_path, capsys):
    write(tmp_path)
    assert "growth: expected its measurement" in error_line(tmp_path, capsys, "--plot", str(tmp_path / "plot.png"))


def error_line(folder: Path, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(main, ["--records", str(folder), "--output", str(folder / "page.md"), *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert len(line) <= 300
    return line
