"""Exported ONNX models equal PyTorch, for every kind of model and any batch size, with pre- and post-processing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pose.config.pose import Config, InputConfig, ModelConfig, TrainConfig
from pose.errors import PoseError
from pose.export import onnx as export
from pose.export.onnx import decode_in_graph, predictor_to_onnx, session_heatmap_fn, to_onnx
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


def responsive_model(loss="mse", **options):
    """A model whose heatmaps and kernels depend on the image: random batch norm and last layer, temperature 1."""
    torch.manual_seed(0)
    model = build_pose_net(
        Config(model=ModelConfig(**options), input=InputConfig(size_hw=SIZE_HW), train=TrainConfig(loss=loss))
    )
    set_temperature(model, 1.0)
    nn.init.normal_(model.head[-1].weight, std=0.1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, std=0.1)
    with torch.no_grad():
        model(torch.randn(16, 3, *SIZE_HW))
    return model.eval()


def images(seed):
    return torch.randn((1, 3, *SIZE_HW), generator=torch.Generator().manual_seed(seed))


def relative_difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def test_kernels_of_the_exported_test_models_depend_on_the_image():
    model = responsive_model(**DYNAMIC)
    at_1 = model.heatmaps(images(0))
    set_temperature(model, 2.0)

    # Otherwise an export with constant kernels would pass.
    assert relative_difference(model.heatmaps(images(0)), at_1) > 0.1


@pytest.mark.parametrize(
    ("loss", "options"),
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
def test_an_exported_model_returns_the_heatmaps_of_the_model(loss, options):
    model = responsive_model(loss, **options)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    exported = session_heatmap_fn(open_session(to_onnx(model, SIZE_HW), threads=1))

    with torch.no_grad():
        expected = [model.heatmaps(images(seed)) for seed in range(3)]
        for seed, heatmaps in enumerate(expected):
            assert relative_difference(exported(images(seed)), heatmaps) < 1e-3
    assert relative_difference(expected[0], expected[1]) > 0.1
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("options", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_heatmaps_do_not_depend_on_the_batch_size(options):
    exported = session_heatmap_fn(open_session(to_onnx(responsive_model(**options), SIZE_HW), threads=1))
    single = [exported(images(seed)) for seed in range(3)]

    batched = exported(torch.cat([images(seed) for seed in range(3)]))

    assert batched.shape == (3, 17, 16, 24)
    for heatmaps, expected in zip(batched, single, strict=True):
        assert relative_difference(heatmaps, expected[0]) < 1e-4


def test_dynamic_graphs_have_no_loops_branches_or_batch_norms():
    graph = onnx.load_from_string(to_onnx(responsive_model(**DYNAMIC), SIZE_HW)).graph

    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If", "BatchNormalization"}
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        *SIZE_HW,
    ]


def test_a_session_uses_the_given_number_of_threads():
    options = open_session(to_onnx(responsive_model(**STATIC), SIZE_HW), threads=1).get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_to_onnx_prints_nothing_and_warns_of_nothing(recwarn, capfd):
    to_onnx(responsive_model(**DYNAMIC), SIZE_HW)

    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_without_onnx_the_message_names_the_package_to_install(monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)

    with pytest.raises(PoseError, match=r"needs the package onnx; pip install 'dyconv-pose\[export\]'"):
        to_onnx(responsive_model(**STATIC), SIZE_HW)


# --- with pre- and post-processing

METADATA = ExportMetadata(InputConfig(size_hw=SIZE_HW), COCO, flip_shift=1, licence="MIT")


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(("options", "crops"), [(STATIC, "random"), (DYNAMIC, "people")], ids=["static", "dynamic"])
def test_an_exported_predictor_normalizes_flips_and_decodes_like_pytorch(options, crops, flip):
    model = responsive_model(**options)
    if crops == "random":
        crops_rgb = np.random.default_rng(0).integers(0, 256, (3, *SIZE_HW, 3), dtype=np.uint8)
    else:
        crops_rgb = synthetic_crops(METADATA.input_config, 3)
    session = open_session(
        predictor_to_onnx(model, replace(METADATA, flip_shift=1 if flip else None), decodes=True), threads=1
    )

    heatmaps, keypoints, scores = session.run(["heatmaps", "keypoints", "scores"], {"crops": crops_rgb})

    expected = predict_heatmaps(model.heatmaps, torch.from_numpy(crops_rgb), COCO.flip_pairs if flip else None)
    assert relative_difference(torch.from_numpy(heatmaps), expected) < 1e-3
    keypoints_heatmap, peaks = decode(heatmaps)
    np.testing.assert_array_equal(keypoints, 4 * keypoints_heatmap)
    np.testing.assert_array_equal(scores, peaks)
    assert (keypoints % 4 != 0).any(), "no keypoint was moved by a quarter pixel, so the quarter offsets are not tested"


def test_the_exported_flip_average_uses_the_given_shift():
    model, crops_rgb = responsive_model(**STATIC), synthetic_crops(METADATA.input_config, 1)

    for shift in (0, 2):
        session = open_session(predictor_to_onnx(model, replace(METADATA, flip_shift=shift), decodes=False), threads=1)
        expected = predict_heatmaps(model.heatmaps, torch.from_numpy(crops_rgb), COCO.flip_pairs, shift)
        assert relative_difference(torch.from_numpy(session.run(None, {"crops": crops_rgb})[0]), expected) < 1e-3


@pytest.mark.parametrize("flip", [True, False])
def test_the_one_crop_export_of_a_dynamic_model_equals_the_export_for_any_batch(flip):
    model, crops_rgb = responsive_model(**DYNAMIC), synthetic_crops(METADATA.input_config, 2)
    metadata = replace(METADATA, flip_shift=1 if flip else None)
    any_batch, one_crop = (
        open_session(predictor_to_onnx(model, metadata, decodes=False, one_crop=fixed), threads=1)
        for fixed in (False, True)
    )

    expected = torch.from_numpy(any_batch.run(None, {"crops": crops_rgb})[0])
    for crop, heatmaps in zip(crops_rgb, expected, strict=True):
        assert relative_difference(torch.from_numpy(one_crop.run(None, {"crops": crop[None]})[0]), heatmaps) < 1e-3
    assert one_crop.get_inputs()[0].shape == [1, *SIZE_HW, 3]


def test_without_decoding_the_only_output_is_heatmaps():
    session = open_session(predictor_to_onnx(responsive_model(**STATIC), METADATA, decodes=False), threads=1)

    assert [output.name for output in session.get_outputs()] == ["heatmaps"]


def edge_cases():
    """Heatmaps with the peak at each pixel, with ties, and without positive values."""
    rng = np.random.default_rng(0)
    peaks = rng.normal(size=(7 * 6, 7, 6)).astype(np.float32).clip(-1, 1)
    for index, heatmap in enumerate(peaks):
        heatmap.flat[index] = 2
    negative = -1 - rng.random((3, 7, 6)).astype(np.float32)
    ties = rng.integers(0, 3, (50, 7, 6)).astype(np.float32)
    zero = np.zeros((1, 7, 6), dtype=np.float32)
    return np.concatenate([peaks, negative, ties, zero])[None].repeat(2, 0)


def test_decode_in_graph_equals_decode():
    maps = edge_cases()
    keypoints, scores = decode_in_graph(torch.from_numpy(maps))

    keypoints_heatmap, peaks = decode(maps)
    np.testing.assert_array_equal(keypoints.numpy(), 4 * keypoints_heatmap)
    np.testing.assert_array_equal(scores.numpy(), peaks)
