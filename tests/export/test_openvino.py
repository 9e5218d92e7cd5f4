"""OpenVINO models made from ONNX files."""

from pathlib import Path

import pytest

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.export.openvino import to_openvino
from pose.export.write import build_onnx
from pose.inference.metadata import ExportMetadata
from pose.inference.openvino_cpu import import_openvino
from pose.models import build_pose_net
from pose.skeleton import COCO

INPUT = InputConfig(size_hw=(64, 64))
METADATA = ExportMetadata(INPUT, COCO, flip_shift=None, licence="MIT")


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
@pytest.mark.parametrize(("dynamic", "loops"), [(False, 0), (True, 1)], ids=["static", "dynamic"])
def test_only_dynamic_models_loop_over_crops_in_openvino(suffix, dynamic, loops):
    model_config = ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=dynamic)
    model = build_pose_net(Config(model=model_config, input=INPUT)).eval()

    openvino_model = to_openvino(build_onnx(Path("model.xml"), model, METADATA, decodes=False), METADATA)

    assert sum(op.get_type_name() == "TensorIterator" for op in openvino_model.get_ops()) == loops
    assert openvino_model.input("crops").partial_shape == import_openvino().PartialShape([-1, 64, 64, 3])
