"""The peer suite: ours is the same model in both backends, the peer gets its own input, errors are one line."""

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
    """Write a one-layer model with the input of a MoveNet: the sum over the crop, for three "keypoints"."""
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


def write_model(path, **options):
    config = Config(
        model=ModelConfig(**{"width": 0.35, "head_width": 0.25} | options), input=InputConfig(size_hw=(64, 96))
    )
    torch.manual_seed(0)
    model = build_pose_net(config)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 96))
    torch.nn.init.normal_(model.head[-1].bias, mean=1.0)  # positive peaks, which can be decoded
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, path)
    return path


@pytest.fixture
def timed(monkeypatch):
    """The timed calls; instead of measured times, the first takes 1 ms, the second 2 ms, and so on."""
    timed_calls = {}

    def fake_times(calls, budget, rng):
        timed_calls.update(calls)
        return {name: np.array([number * 1e-3]) for number, name in enumerate(calls, start=1)}

    monkeypatch.setattr(peer, "time_interleaved", fake_times)
    return timed_calls


def measure(weights, movenet):
    return list(peer.measure(Budget(rounds=1), np.random.default_rng(0), weights=weights, peer=movenet))


def test_each_backend_and_flip_is_compared_with_the_peer(timed, weights, movenet):
    rows = [(c.case, c.against_name, c.ratio.value, c.target) for c in measure(weights, movenet)]

    against = "small-movenet 32x48, onnxruntime"
    assert rows == [
        (f"{OURS}, PyTorch, no flip", against, pytest.approx(1 / 5), None),
        (f"{OURS}, PyTorch, flip average", against, pytest.approx(2 / 5), None),
        (f"{OURS}, onnxruntime, no flip", against, pytest.approx(3 / 5), None),
        (f"{OURS}, onnxruntime, flip average", against, pytest.approx(4 / 5), None),
    ]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "static"),
        ({"dynamic_backbone": True, "dynamic_head": True}, "dynamic"),
        ({"dynamic_head": True}, "dynamic head"),
    ],
)
def test_ours_predicts_the_same_keypoints_in_both_backends(timed, tmp_path, movenet, options, kind):
    weights = write_model(tmp_path / "best.pt", **options)
    measure(weights, movenet)

    model, config = load_pose_net(weights)
    ours = OURS.replace("static", kind)
    for flip, pairs in (("no flip", None), ("flip average", COCO.flip_pairs)):
        calls = [timed[f"{ours}, {backend}, {flip}"] for backend in ("PyTorch", "onnxruntime")]
        crop_rgb = torch.from_numpy(calls[0].args[1])
        assert crop_rgb.shape == (1, 64, 96, 3)
        assert crop_rgb.dtype == torch.uint8
        expected = decode(predict_heatmaps(model.heatmaps, crop_rgb, pairs, config.test.flip_shift).numpy())
        assert (expected[1] > 0).any()
        for call in calls:
            keypoints, scores = call()
            np.testing.assert_allclose(scores, expected[1], rtol=1e-3)
            np.testing.assert_allclose(keypoints, expected[0], atol=1e-4)
    assert not np.allclose(timed[f"{ours}, PyTorch, no flip"]()[1], expected[1], rtol=1e-4)


def test_the_peer_runs_on_a_crop_of_its_size_and_one_thread(timed, weights, movenet):
    measure(weights, movenet)

    call = timed["small-movenet 32x48, onnxruntime"]
    session, crop_rgb = call.args
    assert session.get_session_options().intra_op_num_threads == 1
    assert crop_rgb.shape == (1, 32, 48, 3)
    np.testing.assert_allclose(call()[0], crop_rgb.sum(axis=(1, 2), keepdims=True, dtype=np.float64), rtol=1e-5)


def test_without_onnx_ours_runs_in_pytorch_only_with_a_warning(timed, weights, movenet, monkeypatch, caplog):
    monkeypatch.setattr(peer, "find_spec", lambda name: None)

    assert [c.case for c in measure(weights, movenet)] == [
        f"{OURS}, PyTorch, no flip",
        f"{OURS}, PyTorch, flip average",
    ]
    assert "package onnx is not installed" in caplog.text


def test_a_wrong_export_is_an_error_and_not_timed(timed, weights, movenet, tmp_path, monkeypatch):
    to_onnx = peer.to_onnx
    other, _ = load_pose_net(write_model(tmp_path / "other.pt"))
    torch.nn.init.normal_(other.head[-1].bias)
    monkeypatch.setattr(peer, "to_onnx", lambda model, size_hw: to_onnx(other, size_hw))

    with pytest.raises(RuntimeError, match="heatmaps differ"):
        measure(weights, movenet)
    assert not timed


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": onnx.TensorProto.FLOAT},
        {"shape": (1, 3, 32, 48)},
        {"shape": (2, 32, 48, 3)},
        {"shape": (1, "height", 48, 3)},
    ],
    ids=str,
)
def test_an_onnx_file_that_is_not_a_movenet_is_refused(weights, tmp_path, changes):
    path = write_peer(tmp_path / "other.onnx", **changes)

    with pytest.raises(CheckpointError, match=r"other\.onnx: expected a MoveNet.*\[1, height, width, 3\], got tensor"):
        measure(weights, path)


def test_a_missing_file_is_named(weights, movenet, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such weight file"):
        measure(tmp_path / "none.pt", movenet)
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such ONNX file"):
        measure(weights, tmp_path / "none.onnx")


def test_without_onnxruntime_the_message_names_the_package(weights, movenet, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="need the package onnxruntime"):
        measure(weights, movenet)


def test_movenet_lightning_is_accepted_as_peer(weights, shared):
    row = measure(weights, shared / "peers/movenet-lightning.onnx")[0]

    assert row.against_name == "movenet-lightning 192x192, onnxruntime"
    assert row.rounds == 1
