"""tools/plot_runs.py as a user meets it."""

import json
from collections.abc import Callable
from pathlib import Path

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
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What was handed to the drawing function."""
    taken: dict[str, object] = {}

    def draw(cases: dict[str, list[object]], entropies: dict[str, list[object]], path: Path) -> None:
        taken.update(cases=cases, entropies=entropies, path=path)

    monkeypatch.setattr("pose.engine.plots.draw_learning_curves", draw)
    return taken


@pytest.fixture
def mistake(refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """The line that a mistake ends with."""
    return lambda *words: refusal(lambda: run(main, [str(word) for word in words]))


def test_runs_become_a_image(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = runs / "shown/curves.png"

    main(["--runs", f"static={runs}/a", f"dynamic={runs}/b/metrics.jsonl", "--output", str(output)])

    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{output}\n"


def test_runs_of_one_label_are_seeds_of_one_case(runs: Path, seen: dict[str, object]) -> None:
    main(["--runs", f"static={runs}/a", f"dynamic={runs}/b", f"static={runs}/a1", "--output", f"{runs}/c.png"])

    cases = seen["cases"]
    assert isinstance(cases, dict)
    assert {label: [round(float(one.aps[0])) for one in case] for label, case in cases.items()} == {
        "static": [30, 31],
        "dynamic": [25],
    }
    assert seen["entropies"] == {}
    assert seen["path"] == runs / "c.png"


def test_attention_is_added_by_label(runs: Path, seen: dict[str, object]) -> None:
    main(["--runs", f"b={runs}/b", "--entropy", f"b={runs}/b/inspection.json", "--output", f"{runs}/c.png"])

    assert isinstance(seen["entropies"], dict)
    assert [layer["name"] for layer in seen["entropies"]["b"]] == ["x", "x"]


def test_a_path_may_hold_an_equal_sign(runs: Path, seen: dict[str, object]) -> None:
    (runs / "b").rename(runs / "lr=3")
    main(["--runs", f"b={runs}/lr=3", "--output", f"{runs}/c.png"])
    assert list(seen["cases"]) == ["b"]  # type: ignore[call-overload]


@pytest.mark.parametrize("word", ["runs/a", "=runs/a", "static="])
@pytest.mark.parametrize("option", ["--runs", "--entropy"])
def test_a_run_without_label_or_path_is_refused(
    option: str, word: str, runs: Path, mistake: Callable[..., str]
) -> None:
    line = mistake("--output", runs / "c.png", "--runs", f"a={runs}/a", option, word)
    assert f"{option}: expected label=path, such as dynamic=runs/b, got '{word}'" in line


def test_missing_runs_are_named(runs: Path, mistake: Callable[..., str]) -> None:
    assert "gone: cannot read it" in mistake("--runs", f"a={runs}/gone", "--output", runs / "c.png")


def test_a_image_of_no_known_kind_is_refused_before_the_runs_are_read(runs: Path, mistake: Callable[..., str]) -> None:
    assert "c.doc: expected the name of a plot" in mistake("--runs", f"a={runs}/gone", "--output", runs / "c.doc")
