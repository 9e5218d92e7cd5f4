"""Exported files are written whole or not at all, and are what their engine is fast with."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, PoseError
from pose.export.write import build_onnx, to_openvino, write_export
from pose.inference.backends import import_openvino, open_exported
from pose.inference.metadata import ExportMetadata
from pose.models import build_pose_net
from pose.skeleton import COCO

INPUT = InputConfig(size_hw=(64, 64))
CARD = ExportMetadata(INPUT, COCO, flip_shift=None, licence="MIT")
SMALL = {"width": 0.35, "depth": 0.1, "head_width": 0.25}


def net(seed=0, **model):
    torch.manual_seed(seed)
    return build_pose_net(Config(model=ModelConfig.model_validate(SMALL | model), input=INPUT)).eval()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def export(path, seed=0):
    with write_export(path, build_onnx(path, net(seed), CARD, decodes=False), CARD):
        pass


def test_files_stand_under_their_names_when_all_is_done_and_nothing_beside_them(suffix, tmp_path):
    path = tmp_path / "new" / f"model{suffix}"
    with write_export(path, build_onnx(path, net(), CARD, decodes=False), CARD) as temporary:
        assert open_exported(temporary, threads=1).outputs == ("heatmaps",)
        assert not path.exists()

    assert names(path.parent) == (["model.onnx"] if suffix == ".onnx" else ["model.bin", "model.xml"])


def test_an_exception_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    export(path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    with (
        pytest.raises(RuntimeError, match="wrong"),
        write_export(path, build_onnx(path, net(seed=1), CARD, decodes=False), CARD),
    ):
        raise RuntimeError("wrong")

    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_an_openvino_model_is_written_over_another(suffix, tmp_path):
    crops_rgb = np.full((1, 64, 64, 3), 99, dtype=np.uint8)
    found = []
    for seed in (0, 1):
        export(tmp_path / "model.xml", seed)
        found.append(open_exported(tmp_path / "model.xml", threads=1).run(crops_rgb)["heatmaps"])

    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_graph_and_weights_of_two_exports_are_no_pair(suffix, tmp_path):
    for seed in (0, 1):
        export(tmp_path / f"{seed}.xml", seed)
    (tmp_path / "1.bin").replace(tmp_path / "0.bin")

    with pytest.raises(CheckpointError, match=r"0\.bin: not the weights that 0\.xml was written with"):
        open_exported(tmp_path / "0.xml", threads=1)


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_another_bin_file_is_not_written_over(suffix, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"a recording")

    with pytest.raises(CheckpointError, match=r"model\.bin: is in the way of the weights of model\.xml"):
        export(tmp_path / "model.xml")
    assert (tmp_path / "model.bin").read_bytes() == b"a recording"
    assert names(tmp_path) == ["model.bin"]


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
@pytest.mark.parametrize(("dynamic", "loops"), [(False, 0), (True, 1)], ids=["static", "dynamic"])
def test_only_dynamic_models_meet_openvino_crop_by_crop(suffix, dynamic, loops):
    content = build_onnx(Path("model.xml"), net(dynamic_backbone=dynamic), CARD, decodes=False)

    model = to_openvino(content, CARD)

    assert sum(op.get_type_name() == "TensorIterator" for op in model.get_ops()) == loops
    assert model.input("crops").partial_shape == import_openvino().PartialShape([-1, 64, 64, 3])


def test_without_openvino_nothing_is_written(monkeypatch, tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to export")
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(PoseError, match="need the package openvino"):
        export(tmp_path / "model.xml")
    assert not names(tmp_path)
