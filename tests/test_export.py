"""Exported nets compute what the nets do, for every kind of net, and say so when they do not."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pose import export
from pose.config import Config, InputConfig, ModelConfig, TrainConfig
from pose.errors import CheckpointError, PoseError
from pose.export import check_export, heatmaps_of, open_session, to_onnx
from pose.models import build_pose_net
from pose.models.dynamic_conv import set_temperature

pytest.importorskip("onnx", reason="needs onnx to export")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run what was exported")

SIZE_HW = (64, 96)
STATIC = {"width": 0.35, "head_width": 0.25}
DYNAMIC = {**STATIC, "dynamic_backbone": True, "dynamic_head": True}


def lively_net(loss="mse", **model):
    """A net whose heatmaps and kernels depend on the picture: lively statistics and last layer, tau 1."""
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
def test_the_kernels_of_the_nets_that_are_exported_here_depend_on_the_picture():
    net = lively_net(**DYNAMIC)
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
        ("mse", {**DYNAMIC, "width": 1.0, "backbone": "mobilenet_v3_small"}),
        ("mse", {**DYNAMIC, "width": 1.0, "backbone": "resnet10", "num_kernels": 2}),
    ],
    ids=["static", "dynamic", "sigmoid_cross_entropy", "type_a", "mobilenet_v3", "resnet"],
)
def test_an_exported_net_gives_the_nets_heatmaps(loss, model):
    net = lively_net(loss, **model)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    exported = heatmaps_of(open_session(to_onnx(net, SIZE_HW), threads=1))

    with torch.no_grad():
        expected = [net.heatmaps(images(seed)) for seed in range(3)]
        for seed, heatmaps in enumerate(expected):
            assert difference(exported(images(seed)), heatmaps) < 1e-3
    assert difference(expected[0], expected[1]) > 0.1
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_batch_is_refused_and_not_mixed_up():
    session = open_session(to_onnx(lively_net(**DYNAMIC), SIZE_HW), threads=1)

    with pytest.raises(Exception, match="invalid dimensions"):
        heatmaps_of(session)(torch.cat([images(0), images(1)]))


def test_a_session_keeps_to_its_threads():
    options = open_session(to_onnx(lively_net(**STATIC), SIZE_HW), threads=1).get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_exporting_is_quiet(recwarn, capfd):
    to_onnx(lively_net(**DYNAMIC), SIZE_HW)

    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda heatmaps: heatmaps * 1.01, "differ by 1.0e-02"),
        (lambda heatmaps: heatmaps.roll(1, dims=-1), "differ"),
        (lambda heatmaps: heatmaps * torch.nan, "differ by nan"),
        (lambda heatmaps: heatmaps[:, :-1], "heatmaps of"),
    ],
    ids=["scaled", "shifted", "nan", "fewer"],
)
def test_an_export_that_is_wrong_is_our_mistake(wrong, message):
    net = lively_net(**STATIC)
    check_export(net.heatmaps, net.heatmaps, images(0))

    with pytest.raises(RuntimeError, match=message):
        check_export(lambda x: wrong(net.heatmaps(x)), net.heatmaps, images(0))


def test_without_onnx_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)

    with pytest.raises(PoseError, match=r"needs the package onnx; pip install 'dyconv-pose\[export\]'"):
        to_onnx(lively_net(**STATIC), SIZE_HW)


def test_without_onnxruntime_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="need the package onnxruntime; pip install"):
        open_session(Path("any.onnx"), threads=1)


def test_files_that_are_no_nets_are_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such ONNX file"):
        open_session(tmp_path / "none.onnx", threads=1)
    (tmp_path / "bad.onnx").write_bytes(b"not a net" * 9)
    with pytest.raises(CheckpointError, match=r"bad\.onnx: not an ONNX net") as caught:
        open_session(tmp_path / "bad.onnx", threads=1)
    assert "\n" not in str(caught.value)
