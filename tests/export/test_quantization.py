"""Int8 quantization: which weights are quantized, and that predictions stay close to float32."""

import sys

import numpy as np
import pytest
import torch

from pose.config.pose import Config, ModelConfig
from pose.errors import ConfigError, PoseError
from pose.export.onnx import predictor_to_onnx
from pose.export.quantization import FLOAT_CONVOLUTIONS, quantize, require_static
from pose.export.verify import synthetic_crops
from pose.heatmap import decode
from pose.inference.backends import open_session
from pose.inference.metadata import CROPS, HEATMAPS, KEYPOINTS, ExportMetadata
from pose.inference.pytorch import predict_heatmaps
from pose.models import build_pose_net
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra `export`")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra `export`")


@pytest.fixture(scope="module")
def trained():
    """The packaged model, its float32 and int8 files, and synthetic crops that were not used for calibration."""
    model, config = load_pose_net(DEFAULT_WEIGHTS)
    content = predictor_to_onnx(model, ExportMetadata(config.input, config.keypoints, None, "test"), decodes=False)
    crops = synthetic_crops(config.input, 40)
    return model, content, quantize(content, crops[8:]), crops[:8]


def convolutions(content):
    return [node for node in onnx.load_from_string(content).graph.node if node.op_type == "Conv"]


def test_all_convolution_weights_except_the_first_and_last_are_int8(trained):
    _, float32, int8, _ = trained
    graph = onnx.load_from_string(int8).graph
    data_types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    weights = [producers.get(node.input[1]) for node in convolutions(int8)]

    assert len(weights) == len(convolutions(float32))
    is_float = [node is None for node in weights]
    assert is_float == [True] * FLOAT_CONVOLUTIONS + [False] * (len(weights) - FLOAT_CONVOLUTIONS - 1) + [True]
    quantized = weights[FLOAT_CONVOLUTIONS:-1]
    assert {node.op_type for node in quantized} == {"DequantizeLinear"}
    assert {data_types[node.input[0]] for node in quantized} == {onnx.TensorProto.INT8}
    assert len(int8) < 0.35 * len(float32)


def test_flip_average_and_decoding_are_not_quantized():
    model, config = load_pose_net(DEFAULT_WEIGHTS)
    metadata = ExportMetadata(config.input, config.keypoints, 1, "test")
    crops = synthetic_crops(config.input, 3)
    int8 = quantize(predictor_to_onnx(model, metadata, decodes=True), crops)
    nodes = onnx.load_from_string(int8).graph.node
    last = max(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    assert not {node.op_type for node in nodes[last:]} & {"QuantizeLinear", "DequantizeLinear"}

    heatmaps, keypoints = open_session(int8, threads=1).run([HEATMAPS, KEYPOINTS], {CROPS: crops})

    np.testing.assert_array_equal(keypoints, 4 * decode(heatmaps)[0])


def test_weights_are_quantized_per_output_channel(trained):
    _, _, int8, _ = trained
    graph = onnx.load_from_string(int8).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    for node in convolutions(int8)[FLOAT_CONVOLUTIONS:-1]:
        weight, scale = producers[node.input[1]].input[:2]
        assert shapes[scale] == shapes[weight][:1]


def test_the_int8_model_predicts_keypoints_close_to_the_float_model(trained):
    model, _, int8, crops = trained
    session = open_session(int8, threads=1)

    (heatmaps,) = session.run([HEATMAPS], {CROPS: crops})

    expected = predict_heatmaps(model.heatmaps, torch.from_numpy(crops), None).numpy()
    (keypoints, scores), (expected_keypoints, expected_scores) = decode(heatmaps), decode(expected)
    confident = expected_scores > 0.3
    assert confident.sum() > 30
    distance = np.linalg.norm(keypoints - expected_keypoints, axis=-1)[confident]  # heatmap pixels
    assert np.median(distance) <= 0.5
    assert np.quantile(distance, 0.9) <= 2
    assert np.abs(scores - expected_scores)[confident].mean() < 0.1


def test_require_static_refuses_a_dynamic_model():
    model = build_pose_net(Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_head=True)))

    with pytest.raises(ConfigError, match="--int8: expected a static model, got a dynamic one"):
        require_static(model)


def test_quantize_without_onnxruntime_names_the_package(trained, monkeypatch):
    _, content, _, crops = trained
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="--int8: needs the package onnxruntime"):
        quantize(content, crops)
