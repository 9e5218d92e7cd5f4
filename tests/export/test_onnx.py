"""Exported models compute what the models do, for every kind of model and any batch, also around the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pose.config.pose import Config, InputConfig, ModelConfig, TrainConfig
from pose.errors import PoseError
from pose.export import onnx as export
from pose.export.onnx import decode_in_graph, heatmap_fn, predictor_to_onnx, to_onnx
from pose.export.verify import synthetic_crops
from pose.heatmap import decode
from pose.inference.backends import open_session
from pose.inference.metadata import ExportMetadata
from pose.inference.pytorch import predict_heatmaps
from pose.models import build_pose_net
from pose.models.kernel_attention import set_temperature
from pose.skeleton import COCO

onnx = pytest.importorskip("onnx", reason="needs onnx to export")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run what was exported")

SIZE_HW = (64, 96)
STATIC = {"width": 0.35, "depth": 0.1, "head_width": 0.25}
DYNAMIC = {**STATIC, "dynamic_backbone": True, "dynamic_head": True}


def lively_model(loss="mse", **model):
    """A model whose heatmaps and kernels depend on the image: lively statistics and last layer, tau 1."""
    torch.manual_seed(0)
    net = build_pose_net(
        Config(model=ModelConfig(**model), input=InputConfig(size_hw=SIZE_HW), train=TrainConfig(loss=loss))
    )
    set_temperature(net, 1.0)
    nn.init.normal_(net.head[-1].weight, std=0.1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, std=0.1)
    with torch.no_grad():
        net(torch.randn(16, 3, *SIZE_HW))
    return net.eval()


def images(seed):
    return torch.randn((1, 3, *SIZE_HW), generator=torch.Generator().manual_seed(seed))


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def test_the_kernels_of_the_models_that_are_exported_here_depend_on_the_image():
    net = lively_model(**DYNAMIC)
    at_1 = net.heatmaps(images(0))
    set_temperature(net, 2.0)

    assert difference(net.heatmaps(images(0)), at_1) > 0.1  # else an export that froze the kernels would pass


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        ("mse", STATIC),
        ("mse", DYNAMIC),
        ("cross_entropy", {**STATIC, "dynamic_backbone": True, "attention": "sigmoid"}),
        ("mse", {**STATIC, "head": "type_a"}),
        ("mse", {**DYNAMIC, "width": 1.0, "depth": 1.0, "backbone": "mobilenet_v3_small"}),
        ("mse", {**DYNAMIC, "width": 1.0, "depth": 1.0, "backbone": "resnet10", "num_kernels": 2}),
    ],
    ids=["static", "dynamic", "sigmoid_cross_entropy", "type_a", "mobilenet_v3", "resnet"],
)
def test_an_exported_model_gives_the_models_heatmaps(loss, model):
    net = lively_model(loss, **model)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    exported = heatmap_fn(open_session(to_onnx(net, SIZE_HW), threads=1))

    with torch.no_grad():
        expected = [net.heatmaps(images(seed)) for seed in range(3)]
        for seed, heatmaps in enumerate(expected):
            assert difference(exported(images(seed)), heatmaps) < 1e-3
    assert difference(expected[0], expected[1]) > 0.1
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("model", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_any_batch_gives_each_sample_what_it_gets_alone(model):
    exported = heatmap_fn(open_session(to_onnx(lively_model(**model), SIZE_HW), threads=1))
    alone = [exported(images(seed)) for seed in range(3)]

    together = exported(torch.cat([images(seed) for seed in range(3)]))

    assert together.shape == (3, 17, 16, 24)
    for found, expected in zip(together, alone, strict=True):
        assert difference(found, expected[0]) < 1e-4


def test_dynamic_models_have_no_loops_branches_or_batch_norms():
    graph = onnx.load_from_string(to_onnx(lively_model(**DYNAMIC), SIZE_HW)).graph

    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If", "BatchNormalization"}
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        *SIZE_HW,
    ]


def test_a_session_keeps_to_its_threads():
    options = open_session(to_onnx(lively_model(**STATIC), SIZE_HW), threads=1).get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_exporting_is_quiet(recwarn, capfd):
    to_onnx(lively_model(**DYNAMIC), SIZE_HW)

    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_without_onnx_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)

    with pytest.raises(PoseError, match=r"needs the package onnx; pip install 'dyconv-pose\[export\]'"):
        to_onnx(lively_model(**STATIC), SIZE_HW)


# --- pixels in, keypoints out

CARD = ExportMetadata(InputConfig(size_hw=SIZE_HW), COCO, flip_shift=1, licence="MIT")


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(("model", "crops"), [(STATIC, "random"), (DYNAMIC, "people")], ids=["static", "dynamic"])
def test_a_predictor_in_a_file_normalises_flips_and_decodes_as_ours_does(model, crops, flip):
    net = lively_model(**model)
    if crops == "random":
        crops_rgb = np.random.default_rng(0).integers(0, 256, (3, *SIZE_HW, 3), dtype=np.uint8)
    else:
        crops_rgb = synthetic_crops(CARD.input_config, 3)
    session = open_session(
        predictor_to_onnx(net, replace(CARD, flip_shift=1 if flip else None), decodes=True), threads=1
    )

    heatmaps, keypoints, scores = session.run(["heatmaps", "keypoints", "scores"], {"crops": crops_rgb})

    expected = predict_heatmaps(net.heatmaps, torch.from_numpy(crops_rgb), COCO.flip_pairs if flip else None)
    assert difference(torch.from_numpy(heatmaps), expected) < 1e-3
    keypoints_heatmap, peaks = decode(heatmaps)
    np.testing.assert_array_equal(keypoints, 4 * keypoints_heatmap)
    np.testing.assert_array_equal(scores, peaks)
    assert (keypoints % 4 != 0).any(), "nothing was moved by a quarter, so the quarters are untested"


def test_the_shift_of_the_flip_average_is_the_one_asked_for():
    net, crops_rgb = lively_model(**STATIC), synthetic_crops(CARD.input_config, 1)

    for shift in (0, 2):
        session = open_session(predictor_to_onnx(net, replace(CARD, flip_shift=shift), decodes=False), threads=1)
        expected = predict_heatmaps(net.heatmaps, torch.from_numpy(crops_rgb), COCO.flip_pairs, shift)
        assert difference(torch.from_numpy(session.run(None, {"crops": crops_rgb})[0]), expected) < 1e-3


@pytest.mark.parametrize("flip", [True, False])
def test_a_dynamic_model_for_one_crop_gives_what_the_one_for_any_number_gives(flip):
    net, crops_rgb = lively_model(**DYNAMIC), synthetic_crops(CARD.input_config, 2)
    card = replace(CARD, flip_shift=1 if flip else None)
    free, one = (
        open_session(predictor_to_onnx(net, card, decodes=False, one_crop=one_crop), threads=1)
        for one_crop in (False, True)
    )

    expected = torch.from_numpy(free.run(None, {"crops": crops_rgb})[0])
    for crop, heatmaps in zip(crops_rgb, expected, strict=True):
        assert difference(torch.from_numpy(one.run(None, {"crops": crop[None]})[0]), heatmaps) < 1e-3
    assert one.get_inputs()[0].shape == [1, *SIZE_HW, 3]


def test_without_decoding_there_are_heatmaps_only():
    session = open_session(predictor_to_onnx(lively_model(**STATIC), CARD, decodes=False), threads=1)

    assert [output.name for output in session.get_outputs()] == ["heatmaps"]


def edge_cases():
    """Maps of which each has its peak somewhere else, ties, and nothing positive."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(7 * 6, 7, 6)).astype(np.float32).clip(-1, 1)
    for index, heatmap in enumerate(places):
        heatmap.flat[index] = 2
    low = -1 - rng.random((3, 7, 6)).astype(np.float32)
    ties = rng.integers(0, 3, (50, 7, 6)).astype(np.float32)
    zero = np.zeros((1, 7, 6), dtype=np.float32)
    return np.concatenate([places, low, ties, zero])[None].repeat(2, 0)


def test_decoding_in_the_graph_is_decoding():
    maps = edge_cases()
    keypoints, scores = decode_in_graph(torch.from_numpy(maps))

    keypoints_heatmap, peaks = decode(maps)
    np.testing.assert_array_equal(keypoints.numpy(), 4 * keypoints_heatmap)
    np.testing.assert_array_equal(scores.numpy(), peaks)
