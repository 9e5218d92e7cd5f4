"""tools/model_table.py and tools/plot_pareto.py from the command line."""

import json

import pytest

from pose.cli import run
from pose.engine.model_table import read_rows, write_rows
from pose.tools import model_table, plot_pareto
from pose.tools import test as test_tool


def data_options(tiny_coco) -> list[str]:
    return [f"data.val_annotations={tiny_coco.annotations}", f"data.val_images={tiny_coco.images}", "train.workers=0"]


def test_ap_is_that_of_the_test_command_and_other_rows_stay(tmp_path, tiny_coco, weights, capsys):
    pytest.importorskip("onnxruntime")
    csv = tmp_path / "models.csv"
    write_rows(csv, [{"model": "other", "backend": "ONNX Runtime", "precision": "float32", "flip": "no", "ap": "12.3"}])
    options = data_options(tiny_coco)
    model_table.main(
        ["--models", f"tiny={weights}", "--csv", str(csv), "--seconds", "0", "--gt-boxes", "--detections",
         str(tiny_coco.detections), *options]
    )  # fmt: skip
    rows = read_rows(csv)
    assert [row["model"] for row in rows] == ["other", *["tiny"] * 6]
    assert "| tiny | ONNX Runtime | float32 | yes |" in capsys.readouterr().out

    size = ["model.width=0.35", "model.head_width=0.25", "input.size_hw=[64,64]"]
    for flip in ("no", "yes"):
        flip_option = f"test.flip={str(flip == 'yes').lower()}"
        test_tool.main(
            ["--cfg", model_table.CONFIG, "--weights", str(weights), "--gt-boxes", "--output", str(tmp_path / flip),
             *options, *size, flip_option]
        )  # fmt: skip

        expected = json.loads((tmp_path / flip / "metrics.json").read_text())
        for row in rows[1:]:
            if row["flip"] == flip and row["precision"] == "float32":
                assert row["ap"] == f"{100 * expected['AP']:.1f}" and row["ap50"] == f"{100 * expected['AP50']:.1f}"
                assert bool(row["ap_detections"]) == (flip == "yes")


def test_times_are_relative_to_the_peer(tmp_path, weights, monkeypatch):
    pytest.importorskip("onnxruntime")
    from pose.tools import export

    peer = tmp_path / "peer.onnx"
    export.main(["--weights", str(weights), "--output", str(peer)])
    csv = tmp_path / "models.csv"
    model_table.main(["--models", f"tiny={weights}", "--csv", str(csv), "--seconds", "1", "--peer", str(peer)])
    rows = read_rows(csv)
    assert all(float(row["ms"]) > 0 and float(row["time_ratio"]) > 0 for row in rows)
    once, twice = (float(rows[-2 + index]["time_ratio"]) for index in range(2))
    assert twice > once


def test_a_model_without_a_name_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(model_table.main, ["--models", "best.pt", "--csv", str(tmp_path / "a.csv")])
    assert caught.value.code == 2
    assert "--models: expected NAME=FILE or one of default" in capsys.readouterr().err


def test_the_plot_leaves_out_pytorch_where_onnx_runtime_was_measured(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("pose.engine.pareto.draw_pareto", lambda rows, path: drawn.append(rows))
    keys = ({"precision": precision, "flip": "no", "ap": "50.0"} for precision in ("float32", "bfloat16", "float32"))
    backends = ("PyTorch", "PyTorch", "ONNX Runtime")
    write_rows(tmp_path / "a.csv", [{"model": "m", "backend": b, **key} for b, key in zip(backends, keys, strict=True)])
    plot_pareto.main(["--csv", str(tmp_path / "a.csv"), "--output", str(tmp_path / "a.png")])
    assert [(row["backend"], row["precision"]) for row in drawn[0]] == [
        ("PyTorch", "bfloat16"),
        ("ONNX Runtime", "float32"),
    ]


def test_an_unknown_model_is_named_with_the_nearest(tmp_path, capsys):
    write_rows(tmp_path / "a.csv", [{"model": "default", "ap": "50.0"}])
    with pytest.raises(SystemExit):
        run(plot_pareto.main, ["--csv", str(tmp_path / "a.csv"), "--models", "defalt", "--output", "a.png"])
    assert "no model 'defalt'" in capsys.readouterr().err
