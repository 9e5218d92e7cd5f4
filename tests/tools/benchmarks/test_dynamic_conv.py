"""The dynamic_conv suite: layers and models in every mode, and a public layer in place of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pose.errors import PoseError
from pose.models.dynamic_conv import DynamicConv2d
from pose.tools.benchmarks import dynamic_conv
from pose.tools.benchmarks._public_layer import load_layer, replace_layers
from pose.tools.benchmarks._timing import Budget
from pose.tools.benchmarks.dynamic_conv import MODES, Layer

SIZE_HW = (64, 64)
SMALL = (Layer("pointwise", 4, 8, 1, 1, 1, (6, 4)), Layer("depthwise", 4, 4, 3, 2, 4, (6, 4)))
PUBLIC_FILE = """
from pose.models.dynamic_conv import DynamicConv2d

class Dynamic_conv2d(DynamicConv2d):
    def __init__(self, in_planes, out_planes, kernel_size, ratio=0.25, stride=1, padding=0, dilation=1, groups=1,
                 bias=True, K=4, temperature=34):
        super().__init__(in_planes, out_planes, kernel_size, stride, padding, dilation, groups, bias, num_kernels=K)
"""


@pytest.fixture
def public(tmp_path: Path) -> Path:
    file = tmp_path / "dynamic_conv.py"
    file.write_text(PUBLIC_FILE)
    return file


@pytest.fixture
def timed(monkeypatch):
    """The timed calls of each case; instead of measured times, the first takes 1 ms, the second 2 ms, and so on."""
    cases = []

    def fake_times(calls, budget, rng):
        cases.append(calls)
        return {name: np.array([1e-3 * number]) for number, name in enumerate(calls, start=1)}

    monkeypatch.setattr(dynamic_conv, "time_interleaved", fake_times)
    return cases


def measure(**options):
    budget, rng = Budget(rounds=1, warmup=0), np.random.default_rng(0)
    return list(dynamic_conv.measure(budget, rng, layers=SMALL, size_hw=SIZE_HW, **options))


def test_every_layer_is_compared_in_every_mode_and_both_layouts(timed, public):
    rows = measure(parts=["layers"], peer=public)

    assert [(row.case, row.against_name, row.ratio.value) for row in rows] == [
        (f"dynamic{layout}: {layer} on 6x4, {mode}", against, ratio)
        for layer in ("pointwise", "depthwise")
        for mode in ("inference, batch 1", "inference, batch 32", "training step, batch 32")
        for layout, against, ratio in (
            ("", "static", 1 / 3),
            (" in channels_last", "static in channels_last", 2 / 4),
            (" in channels_last", "a public layer", pytest.approx(2 / 5)),
        )
    ]


def test_all_calls_take_the_same_input_and_return_the_same_shape(timed, public):
    measure(parts=["layers"], peer=public)

    for calls, mode in zip(timed, MODES * 2, strict=True):
        modules, inputs = zip(*(call.args for call in calls.values()), strict=True)
        assert all(torch.equal(x, inputs[0]) for x in inputs)
        assert len(inputs[0]) == mode.batch
        assert len({module(x).shape for module, x in zip(modules, inputs, strict=True)}) == 1
        layouts = [x.is_contiguous(memory_format=torch.channels_last) for x in inputs]
        assert layouts == [False, True, False, True, False]


def test_a_training_step_leaves_gradients_and_inference_none(timed):
    measure(parts=["layers"])

    for calls, mode in zip(timed, MODES * 2, strict=True):
        for call in calls.values():
            call()
            trained = [parameter.grad is not None for parameter in call.args[0].parameters()]
            assert all(trained) if mode.name == "training step" else not any(trained)


def test_models_have_targets_and_the_public_layer_replaces_all_dynamic_layers(timed, public):
    rows = measure(parts=["nets"], peer=public)

    assert [(row.case.partition(":")[2], row.target) for row in rows if row.against_name == "static"] == [
        (" MobileNetV2 x1 backbone, inference, batch 1", None),
        (" MobileNetV2 x1 backbone, inference, batch 32", 1.2),
        (" MobileNetV2 x0.5 backbone, inference, batch 32", 1.2),
        (" MobileNetV2 x0.5 + type B, inference, batch 32", None),
        (" MobileNetV2 x0.5 + type B, training step, batch 32", 1.15),
    ]
    for calls, training in zip(timed, (False, False, False, False, True), strict=True):
        model = calls["a public layer"].args[0]
        layers = [layer for layer in model.modules() if isinstance(layer, DynamicConv2d)]
        assert {type(layer).__name__ for layer in layers} == {"Dynamic_conv2d"}
        assert all(call.args[0].training is training for call in calls.values())
        for name, call in calls.items():
            has_norms = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in call.args[0].modules())
            assert has_norms is (training or name == "a public layer")


def test_training_on_small_images_has_targets(timed):
    rows = measure(parts=["small"])

    assert [(row.case.partition(":")[2], row.target) for row in rows if row.against_name == "static"] == [
        (" MobileNetV2 x0.35 classifier on 32x32, training step, batch 64", 2.0),
        (" MobileNetV2 x0.35 classifier on 64x64, training step, batch 64", 1.25),
    ]


def test_memory_is_measured_for_a_training_step(monkeypatch, public):
    steps = []
    monkeypatch.setattr(dynamic_conv, "peak_bytes", lambda step: steps.append(step) or 1e6 * len(steps))
    monkeypatch.setattr(dynamic_conv, "BATCH", 2)

    rows = measure(parts=["memory"], peer=public)

    assert [(row.against_name, row.ours.median, row.against.median, row.unit) for row in rows] == [
        ("static in channels_last", 1.0, 2.0, "MB"),
        ("a public layer", 1.0, 3.0, "MB"),
    ]
    for step in steps:
        step()


def test_replaced_layers_have_the_same_sizes(public):
    model = torch.nn.Sequential(
        torch.nn.Sequential(DynamicConv2d(4, 6, 3, 2, 1, bias=False)),
        DynamicConv2d(6, 6, 5, 1, 2, groups=6, bias=False),
    )
    expected = model(torch.zeros(2, 4, 8, 8)).shape

    replace_layers(model, load_layer(public))

    assert model(torch.zeros(2, 4, 8, 8)).shape == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a Python file with the class Dynamic_conv2d, got none"),
        ("x = 1", "has no class Dynamic_conv2d that can be imported (AttributeError"),
        ("import nothing_of_that_name", "(ModuleNotFoundError"),
    ],
)
def test_an_invalid_peer_file_is_a_one_line_error(tmp_path, text, message):
    file = tmp_path / "layer.py"
    if text is not None:
        file.write_text(text)

    with pytest.raises(PoseError) as raised:
        measure(parts=["layers"], peer=file)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
