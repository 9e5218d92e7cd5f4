"""The table of models: rows, merging, the file, and the Pareto front."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.pose import Config
from pose.engine.model_table import COLUMNS, markdown, merge_rows, open_variants, read_rows, write_rows
from pose.engine.pareto import draw_pareto, pareto_front, points_of
from pose.errors import DataError, MediaError
from pose.models import build_pose_net
from pose.models.weights import write_weights

MODEL = {"width": 0.35, "depth": 0.1, "head_width": 0.25, "dynamic_head": True}
CONFIG = Config.model_validate({"model": MODEL, "input": {"size_hw": [96, 64]}})


def row(model: str, flip: str = "no", precision: str = "float32", **cells: str) -> dict[str, str]:
    empty = dict.fromkeys(COLUMNS, "")
    return {**empty, "model": model, "backend": "ONNX Runtime", "precision": precision, "flip": flip, **cells}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "best.pt"
    model = build_pose_net(CONFIG)
    torch.nn.init.normal_(model.head[-1].weight, std=0.1)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(8, 3, 96, 64))
    write_weights({"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}, path)
    return path


def test_a_weight_file_runs_in_three_ways_with_equal_heatmaps_and_counted_costs(weights: Path) -> None:
    pytest.importorskip("onnxruntime")
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), dtype=np.uint8))
    with ExitStack() as stack:
        variants = list(open_variants("tiny", weights, Config(), stack))
        assert [(v.backend, v.precision, v.same_as) for v in variants] == [
            ("PyTorch", "float32", None), ("PyTorch", "bfloat16", None), ("ONNX Runtime", "float32", "PyTorch"),
        ]  # fmt: skip
        expected = variants[0].with_flip(True, crops)
        assert expected.shape == (2, 17, 24, 16)
        assert not torch.allclose(expected, variants[0].with_flip(False, crops))
        torch.testing.assert_close(
            variants[2].with_flip(True, crops), expected, rtol=1e-3, atol=1e-4 * float(expected.max())
        )
        model = build_pose_net(CONFIG)
        for variant in variants:
            assert variant.config.input == CONFIG.input and variant.flips == (False, True)
            assert float(variant.figures["parameters_1e6"]) == pytest.approx(
                sum(p.numel() for p in model.parameters()) / 1e6, abs=0.005
            )
            assert float(variant.figures["madds_1e6"]) > 0
        assert float(variants[0].figures["size_mb"]) == pytest.approx(weights.stat().st_size / 1e6, abs=0.05)


def test_an_int8_file_is_recognized_and_measured_as_it_was_exported(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from pose.tools import export

    file = tmp_path / "model.onnx"
    export.main(["--weights", str(weights), "--output", str(file), "--flip"])
    with ExitStack() as stack:
        (variant,) = open_variants("tiny", file, Config(), stack)
        assert (variant.backend, variant.precision, variant.flips) == ("ONNX Runtime", "float32", (True,))
        assert variant.config.input == CONFIG.input and variant.cells(True)["flip"] == "yes"


def test_new_cells_replace_old_ones_of_the_same_row_and_all_others_stay(tmp_path: Path) -> None:
    old = [row("a", ap="40.0", ms="9.0", source="measured"), row("a", "yes", ap="42.0")]
    new = [{**{key: old[0][key] for key in COLUMNS[:4]}, "ms": "8.0"}, row("b", ap="50.0")]
    merged = merge_rows(old, new)
    assert merged[0] == {**old[0], "ms": "8.0"} and merged[1:] == [old[1], new[1]]
    write_rows(tmp_path / "models.csv", merged)
    assert read_rows(tmp_path / "models.csv") == merged
    table = markdown(merged).splitlines()
    assert table[0] == "| model | backend | precision | flip | ap | ms | source |" and len(table) == 5


@pytest.mark.parametrize("content", [None, "", "model,ap\na,1\n", b"\xff\xfe"])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "models.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"models\.csv: expected a") as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_the_pareto_front_holds_the_points_that_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = [(float(x), float(y), row("a")) for x, y in rng.integers(0, 6, (12, 2))]
        beaten = [any((x2 <= x and y2 >= y) and (x2, y2) != (x, y) for x2, y2, _ in points) for x, y, _ in points]
        expected = sorted({(x, y) for (x, y, _), lost in zip(points, beaten, strict=True) if not lost})
        assert [(x, y) for x, y, _ in pareto_front(points)] == expected


def test_multiply_adds_are_drawn_once_per_model_and_times_for_every_row_that_has_one() -> None:
    costs = {"madds_1e6": "300", "time_ratio": "2.0", "ap": "50.0"}
    rows = [row("a", **costs), row("a", "yes", **costs), row("a", precision="int8", **costs), row("b", ap="40.0")]
    assert len(points_of(rows, "time_ratio")) == 3 and len(points_of(rows, "madds_1e6")) == 1


def test_a_plot_is_drawn_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [row("a", madds_1e6="300", time_ratio="2.0", ap="50.0"), row("b", "yes", "int8", time_ratio="1", ap="40")]
    draw_pareto(rows, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="no row has both ap and madds_1e6"):
        draw_pareto(rows[1:], tmp_path / "empty.png")
    with pytest.raises(MediaError):
        draw_pareto(rows, tmp_path / "pareto.txt")
