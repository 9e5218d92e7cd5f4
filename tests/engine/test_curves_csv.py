"""CSV files of learning curves and attention: writing, thinning, reading, damaged files."""

from pathlib import Path

import numpy as np
import pytest

from pose.engine.curves import Curves
from pose.engine.curves_csv import MAX_LOSS_ROWS, read_experiment, thin, write_experiment
from pose.engine.plots import smooth
from pose.errors import DataError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "docs/experiments"

HEADER = "case,run,kind,samples,value"
LAYER_HEADER = "case,name,kind,stride,entropy_mean,entropy_std,variation"
LAYER = {
    "name": "head.0, left", "kind": "depthwise 3x3", "stride": 4, "entropy_mean": 0.5, "entropy_std": 0.125,
    "variation": 1e-7,
}  # fmt: skip


def make_run(rows: int, metric: str = "AP", level: float = 3.0) -> Curves:
    """A run with a noisy loss that falls by 1, validated at half and at the end."""
    samples = np.arange(1.0, rows + 1) * 8
    losses = level - np.arange(rows) / rows + 0.1 * np.random.default_rng(rows).normal(size=rows)
    return Curves(samples, losses, samples[[rows // 2, -1]], np.array([12.34567, 45.0]), metric)


def write_curves(folder: Path, *lines: str) -> Path:
    (folder / "curves.csv").write_text("\n".join([HEADER, "a,0,loss,1,3", *lines]) + "\n")
    return folder


# --- writing and reading


def test_read_experiment_returns_what_write_experiment_wrote(tmp_path: Path) -> None:
    cases = {"static, 2x": [make_run(20), make_run(30)], "dynamic": [make_run(9)]}
    attention = {"dynamic": [LAYER, {**LAYER, "name": "b"}], "other": [LAYER]}

    files = write_experiment(tmp_path / "new", cases, attention)
    read_cases, read_attention = read_experiment(tmp_path / "new")

    assert [file.name for file in files] == ["curves.csv", "attention.csv"]
    assert list(read_cases) == ["static, 2x", "dynamic"]
    assert read_attention == attention
    for label, runs in cases.items():
        for run, expected in zip(read_cases[label], runs, strict=True):
            assert run.metric == "AP"
            np.testing.assert_array_equal(run.samples, expected.samples)
            np.testing.assert_allclose(run.losses, expected.losses, rtol=1e-4)
            np.testing.assert_array_equal(run.validation_samples, expected.validation_samples)
            np.testing.assert_allclose(run.validation_values, [12.346, 45])


def test_write_experiment_writes_these_columns_and_digits(tmp_path: Path) -> None:
    curves = Curves(np.array([8.0, 16.0]), np.array([3.25, 1 / 3]), np.array([16.0]), np.array([50.0]), "top1")

    write_experiment(tmp_path, {"a": [curves]}, {"a": [LAYER]})

    assert (tmp_path / "curves.csv").read_bytes().decode() == (
        f"{HEADER}\na,0,loss,8,3.25\na,0,loss,16,0.33333\na,0,top1,16,50\n"
    )
    assert (tmp_path / "attention.csv").read_bytes().decode() == (
        f'{LAYER_HEADER}\na,"head.0, left",depthwise 3x3,4,0.5,0.125,1e-07\n'
    )


def test_without_attention_only_curves_csv_is_written(tmp_path: Path) -> None:
    write_experiment(tmp_path, {"a": [make_run(3)]}, {})

    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]
    assert read_experiment(tmp_path)[1] == {}


def test_a_run_without_validation_is_kept(tmp_path: Path) -> None:
    nothing = np.zeros(0)
    write_experiment(tmp_path, {"a": [Curves(np.array([8.0]), np.array([3.0]), nothing, nothing)]}, {})

    ((run,),) = read_experiment(tmp_path)[0].values()
    assert len(run.validation_samples) == len(run.validation_values) == 0


def test_loss_rows_of_many_long_runs_are_limited(tmp_path: Path) -> None:
    cases = {f"case number {number}": [make_run(700), make_run(50)] for number in range(10)}

    (file,) = write_experiment(tmp_path, cases, {})

    assert file.stat().st_size < 40_000
    assert sum(",loss," in line for line in file.read_text().splitlines()) <= MAX_LOSS_ROWS
    runs = read_experiment(tmp_path)[0]["case number 9"]
    assert [len(run.samples) for run in runs] == [50, 50]


def test_samples_of_thinned_runs_are_ascending(tmp_path: Path) -> None:
    samples = np.arange(1.0, 3.5 * MAX_LOSS_ROWS)
    write_experiment(tmp_path, {"a": [Curves(samples, np.ones(len(samples)), samples[:0], samples[:0])]}, {})

    ((run,),) = read_experiment(tmp_path)[0].values()
    assert len(run.samples) == MAX_LOSS_ROWS
    assert (np.diff(run.samples) > 0).all()


@pytest.mark.parametrize("name", ["finetune_256x192", "miniature_128x96", "small_128x96", "classification_two_classes"])
def test_published_experiments_are_read(name: str) -> None:
    cases, attention = read_experiment(EXPERIMENTS / name)

    assert (EXPERIMENTS / name / "curves.csv").stat().st_size < 40_000
    assert attention.keys() <= cases.keys()
    for run in [run for runs in cases.values() for run in runs]:
        assert (run.samples[1:] > run.samples[:-1]).all()
        assert run.metric == ("top1" if name.startswith("classification") else "AP")
    if name == "small_128x96":
        (run,) = cases["dynamic"]
        assert run.validation_samples.tolist() == [10328, 20656, 30984, 41312, 51640]
        assert run.validation_values.round(1).tolist() == [0.6, 1.5, 2.1, 2.4, 3.0]


# --- thinning


def test_thin_averages_consecutive_rows() -> None:
    samples, losses = np.arange(1.0, 7.0) * 10, np.array([6.0, 4, 3, 1, 2, 8])
    curves = Curves(samples, losses, np.array([60.0]), np.array([5.0]), "top1")

    thinned = thin(curves, 3)

    assert thinned.samples.tolist() == [15, 35, 55]
    assert thinned.losses.tolist() == [5, 2, 5]
    assert thinned.validation_samples.tolist() == [60]
    assert thinned.validation_values.tolist() == [5]
    assert thinned.metric == "top1"


def test_thin_does_not_change_a_short_run() -> None:
    curves = make_run(5)
    assert thin(curves, 5).losses.tolist() == thin(curves, 99).losses.tolist() == curves.losses.tolist()


def test_thin_hardly_changes_the_smoothed_curve() -> None:
    curves = make_run(1000)
    thinned, grid = thin(curves, 70), np.linspace(500, 7500, 50)

    before = smooth(curves.samples, curves.losses, grid, 120)
    after = smooth(thinned.samples, thinned.losses, grid, 120)

    np.testing.assert_allclose(after, before, atol=0.02)


# --- damaged files


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,0,loss,2", "expected case,run,kind,samples,value, got 'a,0,loss,2'"),
        ("a,0,loss,2,3,4", "expected case,run,kind,samples,value"),
        (",0,loss,2,3", "expected case,run,kind,samples,value"),
        ("", "expected case,run,kind,samples,value, got ''"),
        ("a,0,loss,2,much", "expected numbers for samples, value, got '2,much'"),
        ("a,0,loss,2,nan", "expected numbers for samples, value"),
        ("a,0,loss,inf,2", "expected numbers for samples, value"),
        ("a,0,lost,2,3", "expected kind loss or AP or top1, got 'lost'"),
        ("a,0,loss,1,3", "expected more samples than in the row before"),
    ],
)
def test_a_damaged_row_is_refused_with_its_number(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_experiment(write_curves(tmp_path, line))
    assert f"curves.csv:3: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_validation_metrics_in_one_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one validation metric for case 'a', run '0', got loss, AP, top1"):
        read_experiment(write_curves(tmp_path, "a,0,AP,2,3", "a,0,top1,2,3"))


def test_a_run_without_losses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected loss rows and one validation metric for case 'b', run '1', got AP"):
        read_experiment(write_curves(tmp_path, "b,1,AP,2,3"))


@pytest.mark.parametrize("content", [b"", b"case,run\n", b"{}\n", HEADER.encode() + b",more\na,0,loss,1,3,4\n"])
def test_other_columns_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"curves\.csv:1: expected the columns case,run,kind,samples,value, got"):
        read_experiment(tmp_path)


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match=r"curves\.csv: expected rows below the header"):
        read_experiment(tmp_path)


@pytest.mark.parametrize("content", [None, b"\x89PNG\xff\xfe", HEADER.encode() + b'\n"a,0,loss,1,3\n'])
def test_a_missing_or_unreadable_csv_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"curves\.csv: cannot read it .*; expected what plot_runs --save-csv writes"):
        read_experiment(tmp_path)


def test_a_csv_file_with_bom_and_crlf_is_read(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_bytes(f"\ufeff{HEADER}\r\na,0,loss,1,3\r\n".encode())
    assert list(read_experiment(tmp_path)[0]) == ["a"]


@pytest.mark.parametrize("stride", ["x", "", "nan"])
def test_a_damaged_layer_is_refused_with_its_number(stride: str, tmp_path: Path) -> None:
    (tmp_path / "attention.csv").write_text(f"{LAYER_HEADER}\na,x,1x1,{stride},0.5,0.1,0.1\n")
    with pytest.raises(DataError, match=r"attention\.csv:2: expected"):
        read_experiment(write_curves(tmp_path))
