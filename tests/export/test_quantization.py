"""A model in 8-bit integers: which of its weights are, and that it still finds the same people."""

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
from pose.inference.metadata import CROPS, HEATMAPS, ExportMetadata
from pose.inference.pytorch import predict_heatmaps
from pose.models import build_pose_net
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra `export`")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra `export`")


@pytest.fixture(scope="module")
def trained():
    """The packaged model, its file in floats and in integers, and drawn people that it was not calibrated on."""
    net, config = load_pose_net(DEFAULT_WEIGHTS)
    content = predictor_to_onnx(net, ExportMetadata(config.input, config.keypoints, None, "of a test"), decodes=False)
    crops = synthetic_crops(config.input, 40)
    return net, content, quantize(content, crops[8:]), crops[:8]


def convolutions(content):
    return [node for node in onnx.load_from_string(content).graph.node if node.op_type == "Conv"]


def test_all_weights_but_the_first_and_the_last_are_bytes(trained):
    _, floats, integers, _ = trained
    graph = onnx.load_from_string(integers).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    weights = [made_by.get(node.input[1]) for node in convolutions(integers)]

    assert len(weights) == len(convolutions(floats))
    is_float = [node is None for node in weights]
    assert is_float == [True] * FLOAT_CONVOLUTIONS + [False] * (len(weights) - FLOAT_CONVOLUTIONS - 1) + [True]
    quantised = weights[FLOAT_CONVOLUTIONS:-1]
    assert {node.op_type for node in quantised} == {"DequantizeLinear"}
    assert {kinds[node.input[0]] for node in quantised} == {onnx.TensorProto.INT8}
    assert len(integers) < 0.35 * len(floats)


def test_a_scale_of_weights_is_of_one_output_channel(trained):
    _, _, integers, _ = trained
    graph = onnx.load_from_string(integers).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    for node in convolutions(integers)[FLOAT_CONVOLUTIONS:-1]:
        weight, scale = made_by[node.input[1]].input[:2]
        assert shapes[scale] == shapes[weight][:1]


def test_people_are_found_where_the_model_in_floats_finds_them(trained):
    net, _, integers, crops = trained
    session = open_session(integers, threads=1)

    (found,) = session.run([HEATMAPS], {CROPS: crops})

    expected = predict_heatmaps(net.heatmaps, torch.from_numpy(crops), None).numpy()
    (ours, scores), (theirs, their_scores) = decode(found), decode(expected)
    seen = their_scores > 0.3
    assert seen.sum() > 30
    distance = np.linalg.norm(ours - theirs, axis=-1)[seen]  # heatmap pixels
    assert np.median(distance) <= 0.5
    assert np.quantile(distance, 0.9) <= 2
    assert np.abs(scores - their_scores)[seen].mean() < 0.1


def test_a_dynamic_model_is_refused():
    net = build_pose_net(Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_head=True)))

    with pytest.raises(ConfigError, match="--int8: expected a static model, got a dynamic one"):
        require_static(net)


def test_without_onnxruntime_it_is_named(trained, monkeypatch):
    _, content, _, crops = trained
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="--int8: needs the package onnxruntime"):
        quantize(content, crops)
