"""Exported files are written atomically, for ONNX Runtime and OpenVINO."""

import sys

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, PoseError
from pose.export.write import build_onnx, write_export
from pose.inference.backends import open_exported
from pose.inference.metadata import ExportMetadata
from pose.models import build_pose_net
from pose.skeleton import COCO

INPUT = InputConfig(size_hw=(64, 64))
METADATA = ExportMetadata(INPUT, COCO, flip_shift=None, licence="MIT")


def small_model(seed=0):
    torch.manual_seed(seed)
    return build_pose_net(Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25), input=INPUT)).eval()


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


def export(path, seed=0):
    with write_export(path, build_onnx(path, small_model(seed), METADATA, decodes=False), METADATA):
        pass


def test_write_export_writes_the_files_at_the_end_and_no_others(suffix, tmp_path):
    path = tmp_path / "new" / f"model{suffix}"
    with write_export(path, build_onnx(path, small_model(), METADATA, decodes=False), METADATA) as temporary:
        assert open_exported(temporary, threads=1).outputs == ("heatmaps",)
        assert not path.exists()

    assert file_names(path.parent) == (["model.onnx"] if suffix == ".onnx" else ["model.bin", "model.xml"])


def test_an_exception_keeps_the_old_files(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    export(path)
    before = {name: (tmp_path / name).read_bytes() for name in file_names(tmp_path)}

    with (
        pytest.raises(RuntimeError, match="wrong"),
        write_export(path, build_onnx(path, small_model(seed=1), METADATA, decodes=False), METADATA),
    ):
        raise RuntimeError("wrong")

    assert {name: (tmp_path / name).read_bytes() for name in file_names(tmp_path)} == before


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_an_openvino_model_overwrites_an_older_one(suffix, tmp_path):
    crops_rgb = np.full((1, 64, 64, 3), 99, dtype=np.uint8)
    heatmaps = []
    for seed in (0, 1):
        export(tmp_path / "model.xml", seed)
        heatmaps.append(open_exported(tmp_path / "model.xml", threads=1).run(crops_rgb)["heatmaps"])

    assert (heatmaps[0] != heatmaps[1]).any()


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_graph_and_weights_of_different_exports_are_refused(suffix, tmp_path):
    for seed in (0, 1):
        export(tmp_path / f"{seed}.xml", seed)
    (tmp_path / "1.bin").replace(tmp_path / "0.bin")

    with pytest.raises(CheckpointError, match=r"0\.bin: not the weights that 0\.xml was written with"):
        open_exported(tmp_path / "0.xml", threads=1)


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_an_unrelated_bin_file_is_not_overwritten(suffix, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"a recording")

    with pytest.raises(CheckpointError, match=r"model\.bin: exists without model\.xml"):
        export(tmp_path / "model.xml")
    assert (tmp_path / "model.bin").read_bytes() == b"a recording"
    assert file_names(tmp_path) == ["model.bin"]


def test_without_openvino_no_file_is_written(monkeypatch, tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to export")
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(PoseError, match="need the package openvino"):
        export(tmp_path / "model.xml")
    assert not file_names(tmp_path)
