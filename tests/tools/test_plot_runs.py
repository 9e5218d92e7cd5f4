"""tools/plot_runs.py from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pose.cli import run
from pose.tools.plot_runs import main

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, level in (("a", 3.0), ("a1", 3.1), ("b", 2.5)):
        (tmp_path / name).mkdir()
        rows = [{"kind": "train", "samples": 10 * step, "loss": level - step / 99} for step in range(1, 30)]
        rows.append({"kind": "validation", "samples": 290, "AP": 0.1 * level})
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    layer = {"name": "x", "kind": "1x1", "stride": 4, "entropy_mean": 0.9, "entropy_std": 0.01, "variation": 0.1}
    (tmp_path / "b/inspection.json").write_text(json.dumps({"layers": [layer, layer]}))
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of the drawing function, which draws nothing here."""
    arguments: dict[str, Any] = {}

    def draw(cases: dict[str, list[object]], entropies: dict[str, list[object]], path: Path) -> None:
        arguments.update(cases=cases, entropies=entropies, path=path)

    monkeypatch.setattr("pose.engine.plots.draw_learning_curves", draw)
    return arguments


@pytest.fixture
def error_line(refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """Run the tool with arguments it refuses, and return its line on stderr."""
    return lambda *arguments: refusal(lambda: run(main, [str(argument) for argument in arguments]))


def validation_values(cases: dict[str, list[Any]]) -> dict[str, list[int]]:
    """Rounded first validation value of each run."""
    return {label: [round(float(run.validation_values[0])) for run in runs] for label, runs in cases.items()}


def test_runs_are_plotted_to_an_image(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = runs / "shown/curves.png"

    main(["--runs", f"static={runs}/a", f"dynamic={runs}/b/metrics.jsonl", "--output", str(output)])

    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{output}\n"


def test_runs_with_the_same_label_are_seeds_of_one_case(runs: Path, drawn: dict[str, Any]) -> None:
    main(["--runs", f"static={runs}/a", f"dynamic={runs}/b", f"static={runs}/a1", "--output", f"{runs}/c.png"])

    assert validation_values(drawn["cases"]) == {"static": [30, 31], "dynamic": [25]}
    assert drawn["entropies"] == {}
    assert drawn["path"] == runs / "c.png"


def test_entropy_is_added_by_label(runs: Path, drawn: dict[str, Any]) -> None:
    main(["--runs", f"b={runs}/b", "--entropy", f"b={runs}/b/inspection.json", "--output", f"{runs}/c.png"])

    assert [layer["name"] for layer in drawn["entropies"]["b"]] == ["x", "x"]


def test_a_path_may_contain_an_equals_sign(runs: Path, drawn: dict[str, Any]) -> None:
    (runs / "b").rename(runs / "lr=3")
    main(["--runs", f"b={runs}/lr=3", "--output", f"{runs}/c.png"])
    assert list(drawn["cases"]) == ["b"]


@pytest.mark.parametrize("argument", ["runs/a", "=runs/a", "static="])
@pytest.mark.parametrize("option", ["--runs", "--entropy"])
def test_a_run_without_label_or_path_is_refused(
    option: str, argument: str, runs: Path, error_line: Callable[..., str]
) -> None:
    line = error_line("--output", runs / "c.png", "--runs", f"a={runs}/a", option, argument)
    assert f"{option}: expected label=path, such as dynamic=runs/b, got '{argument}'" in line


def test_a_missing_run_is_refused(runs: Path, error_line: Callable[..., str]) -> None:
    assert "gone: cannot read it" in error_line("--runs", f"a={runs}/gone", "--output", runs / "c.png")


def test_an_unknown_image_suffix_is_refused_before_the_runs_are_read(
    runs: Path, error_line: Callable[..., str]
) -> None:
    assert "c.doc: expected the name of a plot" in error_line("--runs", f"a={runs}/gone", "--output", runs / "c.doc")


# --- CSV files


@pytest.fixture
def experiment(runs: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Folder of CSV files: two seeds of static, one run of dynamic with its attention."""
    folder = runs / "experiment"
    labels = [f"static={runs}/a", f"static={runs}/a1", f"dynamic={runs}/b"]
    main(["--runs", *labels, "--entropy", f"dynamic={runs}/b/inspection.json", "--save-csv", str(folder)])
    assert capsys.readouterr().out == f"{folder}/curves.csv\n{folder}/attention.csv\n"
    return folder


def test_an_experiment_is_plotted_from_its_csv_files(experiment: Path, drawn: dict[str, Any]) -> None:
    main(["--from-csv", str(experiment), "--output", f"{experiment}/c.png"])

    assert validation_values(drawn["cases"]) == {"static": [30, 31], "dynamic": [25]}
    assert list(drawn["entropies"]) == ["dynamic"]


def test_the_image_can_be_written_with_the_csv_files(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", f"b={runs}/b", "--save-csv", f"{runs}/new", "--output", f"{runs}/c.png"])

    assert capsys.readouterr().out == f"{runs}/new/curves.csv\n{runs}/c.png\n"
    assert (runs / "c.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (runs / "new").iterdir()] == ["curves.csv"]


def test_cases_are_selected_in_the_given_order(experiment: Path, drawn: dict[str, Any]) -> None:
    main(["--from-csv", str(experiment), "--output", f"{experiment}/c.png", "--cases", "dynamic", "static"])
    assert list(drawn["cases"]) == ["dynamic", "static"]

    main(["--from-csv", str(experiment), "--output", f"{experiment}/c.png", "--cases", "static"])
    assert list(drawn["cases"]) == ["static"]
    assert drawn["entropies"] == {}


@pytest.mark.parametrize(("case", "hint"), [("dynamc", "did you mean 'dynamic'"), ("x", "there are static, dynamic")])
def test_an_unknown_case_is_refused(case: str, hint: str, experiment: Path, error_line: Callable[..., str]) -> None:
    line = error_line("--from-csv", experiment, "--output", experiment / "c.png", "--cases", "static", case)
    assert f"--cases: no case '{case}'" in line
    assert hint in line


def test_a_folder_without_curves_is_refused(runs: Path, error_line: Callable[..., str]) -> None:
    assert "a/curves.csv: cannot read it" in error_line("--from-csv", runs / "a", "--output", runs / "c.png")


def test_without_anything_to_write_the_call_is_refused(runs: Path, error_line: Callable[..., str]) -> None:
    assert "expected --output FILE, --save-csv FOLDER or both" in error_line("--runs", f"a={runs}/a")


@pytest.mark.parametrize("source", [[], ["--runs", "a=runs/a", "--from-csv", "experiment"]])
def test_either_runs_or_csv_files_are_drawn(source: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, [*source, "--output", "c.png"])
    assert caught.value.code == 2
