"""The peer suite: ours in both engines is the same model, the peer is fed as it wants, mistakes are one line."""

import sys

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, PoseError
from pose.heatmap import decode
from pose.inference.pytorch import predict_heatmaps
from pose.models import build_pose_net
from pose.models.weights import load_pose_net, write_weights
from pose.skeleton import COCO
from pose.tools.benchmarks import peer
from pose.tools.benchmarks._timing import Budget

onnx = pytest.importorskip("onnx", reason="needs onnx to make a peer")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run a peer")

OURS = "static mobilenet_v2 x0.35 + type_b 64x96"


def write_peer(path, kind=onnx.TensorProto.INT32, shape=(1, 32, 48, 3)):
    """A model of one layer with the input of a MoveNet: the sum over the crop, for three "keypoints"."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["floats", "axes"], ["output"], keepdims=1),
        ],
        "peer",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def movenet(tmp_path):
    return write_peer(tmp_path / "small-movenet.onnx")


@pytest.fixture
def weights(tmp_path):
    return write_model(tmp_path / "best.pt")


def write_model(path, **model):
    config = Config(
        model=ModelConfig(**{"width": 0.35, "head_width": 0.25} | model), input=InputConfig(size_hw=(64, 96))
    )
    torch.manual_seed(0)
    net = build_pose_net(config)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        net(torch.randn(4, 3, 64, 96))
    torch.nn.init.normal_(net.head[-1].bias, mean=1.0)  # peaks above 0, of which there is something to decode
    write_weights({"model": net.state_dict(), "config": config.model_dump(mode="json")}, path)
    return path


@pytest.fixture
def timed(monkeypatch):
    """The calls; each takes as many milliseconds as its place among them, from 1."""
    found = {}

    def fake(calls, budget, rng):
        found.update(calls)
        return {name: np.array([place * 1e-3]) for place, name in enumerate(calls, start=1)}

    monkeypatch.setattr(peer, "time_interleaved", fake)
    return found


def measure(weights, movenet):
    return list(peer.measure(Budget(rounds=1), np.random.default_rng(0), weights=weights, peer=movenet))


def test_each_way_to_run_ours_is_compared_with_the_peer_and_sizes_are_in_the_names(timed, weights, movenet):
    found = [(c.case, c.against_name, c.ratio.value, c.bar) for c in measure(weights, movenet)]

    against = "small-movenet 32x48, onnxruntime"
    assert found == [
        (f"{OURS}, PyTorch, no flip", against, pytest.approx(1 / 5), None),
        (f"{OURS}, PyTorch, flip average", against, pytest.approx(2 / 5), None),
        (f"{OURS}, onnxruntime, no flip", against, pytest.approx(3 / 5), None),
        (f"{OURS}, onnxruntime, flip average", against, pytest.approx(4 / 5), None),
    ]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ({}, "static"),
        ({"dynamic_backbone": True, "dynamic_head": True}, "dynamic"),
        ({"dynamic_head": True}, "dynamic head"),
    ],
)
def test_ours_finds_the_keypoints_of_the_predictor_in_both_engines(timed, tmp_path, movenet, model, kind):
    weights = write_model(tmp_path / "best.pt", **model)
    measure(weights, movenet)

    net, config = load_pose_net(weights)
    for flip, pairs in (("no flip", None), ("flip average", COCO.flip_pairs)):
        calls = [timed[f"{OURS.replace('static', kind)}, {engine}, {flip}"] for engine in ("PyTorch", "onnxruntime")]
        crop_rgb = torch.from_numpy(calls[0].args[1])
        assert crop_rgb.shape == (1, 64, 96, 3)
        assert crop_rgb.dtype == torch.uint8
        expected = decode(predict_heatmaps(net.heatmaps, crop_rgb, pairs, config.test.flip_shift).numpy())
        assert (expected[1] > 0).any()
        for call in calls:
            keypoints, scores = call()
            np.testing.assert_allclose(scores, expected[1], rtol=1e-3)
            np.testing.assert_allclose(keypoints, expected[0], atol=1e-4)
    assert not np.allclose(timed[f"{OURS.replace('static', kind)}, PyTorch, no flip"]()[1], expected[1], rtol=1e-4)


def test_the_peer_gets_a_crop_of_its_size_and_one_thread(timed, weights, movenet):
    measure(weights, movenet)

    call = timed["small-movenet 32x48, onnxruntime"]
    session, crop_rgb = call.args
    assert session.get_session_options().intra_op_num_threads == 1
    assert crop_rgb.shape == (1, 32, 48, 3)
    np.testing.assert_allclose(call()[0], crop_rgb.sum(axis=(1, 2), keepdims=True, dtype=np.float64), rtol=1e-5)


def test_without_onnx_ours_runs_in_pytorch_only_and_says_so(timed, weights, movenet, monkeypatch, caplog):
    monkeypatch.setattr(peer, "find_spec", lambda name: None)

    assert [c.case for c in measure(weights, movenet)] == [
        f"{OURS}, PyTorch, no flip",
        f"{OURS}, PyTorch, flip average",
    ]
    assert "package onnx is not installed" in caplog.text


def test_an_export_of_another_model_is_found_out_before_anything_is_timed(
    timed, weights, movenet, tmp_path, monkeypatch
):
    real = peer.to_onnx
    other, _ = load_pose_net(write_model(tmp_path / "other.pt"))
    torch.nn.init.normal_(other.head[-1].bias)
    monkeypatch.setattr(peer, "to_onnx", lambda net, size_hw: real(other, size_hw))

    with pytest.raises(RuntimeError, match="heatmaps differ"):
        measure(weights, movenet)
    assert not timed


@pytest.mark.parametrize(
    "form",
    [
        {"kind": onnx.TensorProto.FLOAT},
        {"shape": (1, 3, 32, 48)},
        {"shape": (2, 32, 48, 3)},
        {"shape": (1, "height", 48, 3)},
    ],
    ids=str,
)
def test_a_model_that_is_no_movenet_is_refused(weights, tmp_path, form):
    path = write_peer(tmp_path / "other.onnx", **form)

    with pytest.raises(CheckpointError, match=r"other\.onnx: expected a MoveNet.*\[1, height, width, 3\], got tensor"):
        measure(weights, path)


def test_files_that_are_missing_are_named(weights, movenet, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such weight file"):
        measure(tmp_path / "none.pt", movenet)
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such ONNX file"):
        measure(weights, tmp_path / "none.onnx")


def test_without_onnxruntime_there_is_no_peer(weights, movenet, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="need the package onnxruntime"):
        measure(weights, movenet)


def test_movenet_lightning_is_a_peer(weights, shared):
    row = measure(weights, shared / "peers/movenet-lightning.onnx")[0]

    assert row.against_name == "movenet-lightning 192x192, onnxruntime"
    assert row.rounds == 1
