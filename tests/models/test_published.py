"""Counts of the paper's models, compared with independent reference counts and PyTorch's counter; the notes."""

from functools import cache
from itertools import product
from math import prod

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pose.config.classification import ClassificationConfig
from pose.config.loader import load_any_config
from pose.models import build_classifier, build_pose_net
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.complexity import count_config
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.published import OVERHEAD, PUBLISHED, Published

EXPECTED = {
    "imagenet/static_mobilenetv2": ("3.50", "300.8"),
    "imagenet/static_mobilenetv2_w0.75": ("2.64", "209.1"),
    "imagenet/static_mobilenetv2_w0.5": ("1.97", "97.1"),
    "imagenet/static_mobilenetv2_w0.35": ("1.68", "59.3"),
    "imagenet/dy_mobilenetv2": ("11.15", "316.8"),
    "imagenet/dy_mobilenetv2_w0.75": ("7.01", "220.2"),
    "imagenet/dy_mobilenetv2_w0.5": ("3.95", "103.1"),
    "imagenet/dy_mobilenetv2_w0.35": ("2.69", "63.3"),
    "imagenet/static_mobilenetv3_small": ("3.11", "66.4"),
    "imagenet/dy_mobilenetv3_small": ("4.78", "70.1"),
    "imagenet/static_resnet18": ("11.69", "1814"),
    "imagenet/dy_resnet18": ("44.93", "1860"),
    "imagenet/static_resnet10": ("5.42", "890"),
    "imagenet/dy_resnet10": ("19.69", "910"),
    "imagenet/condconv_mobilenetv2": ("27.56", "330.1"),
    "imagenet/condconv_mobilenetv2_w0.5": ("15.56", "113.6"),
}
"""Params and MAdds in 1e6 of classifiers, from independent code."""

EXPECTED_BACKBONES = {
    "static_mobilenetv2": ("2.22", "293.4"),
    "dy_mobilenetv2": ("9.87", "309.3"),
    "static_mobilenetv2_w0.5": ("0.69", "93.9"),
    "dy_mobilenetv2_w0.5": ("2.67", "99.8"),
    "static_mobilenetv3_small": ("1.09", "63.1"),
    "dy_mobilenetv3_small": ("2.76", "66.7"),
}
"""The same of pose backbones; those of ResNet-18 are tested against the classifier's."""

EXPECTED_HEADS = {
    "B_static_mobilenetv2": ("1.208", "727.6"),
    "B_dy_mobilenetv2": ("6.319", "738.9"),
    "B_static_mobilenetv3_small": ("1.009", "689.7"),
    "B_dy_mobilenetv3_small": ("4.871", "699.2"),
    "A_static_resnet18": ("4.20", "1121"),
    "A_static_mobilenetv2": ("7.35", "1272"),
    "A_static_mobilenetv3_small": ("4.46", "1133"),
}
"""The same of heads; the width of MobileNetV2 does not change its features."""

ROWS = {(row.model, row.part): row for row in PUBLISHED}
MODELS = {row.model: row for row in PUBLISHED}
POSE_MODELS = [model for model in MODELS if model.startswith("pose/")]
COUNTED = [row for row in PUBLISHED if row.params is not None]
LAYERS = {"c1": (4, 1, 1), "c2": (1, 4, 1), "c3": (1, 1, 4), "c1_c2": (4, 4, 1), "c1_c3": (4, 1, 4), "c2_c3": (1, 4, 4)}


@cache
def counts(model: str) -> dict[str, int]:
    config, *overrides = model.split()
    return count_config(load_any_config(config, overrides))


def ours(row: Published) -> tuple[float, float]:
    """Return our params and MAdds in 1e6 of a row."""
    parts = ("backbone", "head") if row.part == "classifier" else (row.part,)
    params, madds = (sum(counts(row.model)[f"{part}_{what}"] for part in parts) / 1e6 for what in ("params", "madds"))
    return params, madds


def assert_counts(row: Published, expected: tuple[str, str]) -> None:
    for value, printed in zip(ours(row), expected, strict=True):
        rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
        assert abs(value - float(printed)) <= rounding + 0.001 * float(printed)


def test_every_model_is_one_row_per_part() -> None:
    assert len(ROWS) == len(PUBLISHED)
    assert all({(model, "backbone"), (model, "head")} <= ROWS.keys() for model in POSE_MODELS)


def test_tables_10_and_11_have_sixteen_pose_models() -> None:
    table_10 = [
        f"pose/{head}_{kind}_{backbone}_256x192"
        for head, kinds, backbones in (
            ("A", ("static", "dybackbone"), ("resnet18", "mobilenetv2", "mobilenetv2_w0.5", "mobilenetv3_small")),
            ("B", ("static", "dy"), ("mobilenetv2", "mobilenetv2_w0.5", "mobilenetv3_small")),
        )
        for kind in kinds
        for backbone in backbones
    ]
    table_11 = [f"pose/B_{kind}_mobilenetv2_w0.5_256x192" for kind in ("static", "dyhead", "dybackbone", "dy")]
    assert len(POSE_MODELS) == 16
    assert set(POSE_MODELS) == {*table_10, *table_11}


@pytest.mark.parametrize("model", EXPECTED)
def test_classifiers_equal_independent_reference_counts(model: str) -> None:
    assert_counts(ROWS[model, "classifier"], EXPECTED[model])


def test_every_published_classifier_has_a_reference_count() -> None:
    assert EXPECTED.keys() == {row.model for row in COUNTED if row.part == "classifier"}


@pytest.mark.parametrize("model", POSE_MODELS)
def test_parts_of_pose_models_equal_independent_reference_counts(model: str) -> None:
    head_type, kind, backbone = model.removeprefix("pose/").removesuffix("_256x192").split("_", 2)
    backbone_kind = "dy" if kind in ("dy", "dybackbone") else "static"
    head_kind = "dy" if kind in ("dy", "dyhead") else "static"
    if backbone == "resnet18":
        classifier = counts(f"imagenet/{backbone_kind}_resnet18")
        assert counts(model)["backbone_params"] == classifier["backbone_params"]
        assert ROWS[model, "backbone"].params is None
    else:
        assert_counts(ROWS[model, "backbone"], EXPECTED_BACKBONES[f"{backbone_kind}_{backbone}"])
    assert_counts(ROWS[model, "head"], EXPECTED_HEADS[f"{head_type}_{head_kind}_{backbone.removesuffix('_w0.5')}"])


def mobilenet_v2_counts(
    width: float,
    depth: float = 1.0,
    kernels: tuple[int, int, int] = (1, 1, 1),
    last_kernels: int = 1,
    classifier_kernels: int = 1,
    first_block: int = 1,
    condconv: bool = False,
) -> tuple[int, int]:
    """Return params and MAdds of the classifier from the formulas of section 3.2, without building a model.

    Args:
        width: multiplier of the channels.
        depth: multiplier of the blocks per stage.
        kernels: K of expansion, depthwise convolution and projection; 1 is static.
        last_kernels: K of the last 1x1 convolution.
        classifier_kernels: K of the classifier.
        first_block: static before this block, from 1.
        condconv: attention with one linear layer, as in CondConv.
    """
    params = madds = count = 0

    def conv(inputs: int, outputs: int, size: int, side: int, stride: int = 1, groups: int = 1, k: int = 1) -> None:
        nonlocal params, madds
        weights, hidden = size * size * inputs * outputs // groups, inputs // 4
        params += k * weights + 2 * outputs
        madds += (side // stride) ** 2 * weights
        if k > 1:
            params += (inputs + 1) * k if condconv else (inputs + 1) * hidden + (hidden + 1) * k
            madds += side * side * inputs + k * weights
            madds += inputs * k if condconv else inputs * hidden + hidden * k

    def channels(count: int) -> int:
        rounded = max(8, int(count * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * count * width else rounded

    inputs, side = channels(32), 112
    conv(3, inputs, 3, 224, 2)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outputs, blocks, first_stride in stages:
        for block in range(max(1, round(depth * blocks))):
            stride, hidden = first_stride if block == 0 else 1, expansion * inputs
            count += 1
            expand, depthwise, project = kernels if count >= first_block else (1, 1, 1)
            if expansion > 1:
                conv(inputs, hidden, 1, side, k=expand)
            conv(hidden, hidden, 3, side, stride, groups=hidden, k=depthwise)
            side //= stride
            conv(hidden, channels(outputs), 1, side, k=project)
            inputs = channels(outputs)
    conv(inputs, 1280, 1, side, k=last_kernels)
    params, madds = params + classifier_kernels * 1281 * 1000, madds + 1280 * 1000
    if classifier_kernels > 1:
        params, madds = params + 1281 * classifier_kernels, madds + classifier_kernels * (1281 * 1000 + 1280)
    return params, madds


MOBILENET_V2 = [model for model in MODELS if "mobilenetv2" in model and model.startswith("imagenet/")]


@pytest.mark.parametrize("model", [*MOBILENET_V2, *(f"imagenet/ablation/layers_{layers}" for layers in LAYERS)])
def test_mobilenet_v2_classifiers_equal_the_formulas(model: str) -> None:
    """Table 1 (K by width), Table 2 (CondConv), Table 5, Figures 6 and 7 (depth) and the literal reading."""
    config, *overrides = model.split()
    condconv = "/condconv_" in config
    options = dict(override.removeprefix("model.").split("=") for override in overrides)
    k = int(options.get("num_kernels", 4)) if "/dy_" in config else 8 if condconv else 1
    expected = mobilenet_v2_counts(
        0.5 if "/layers_" in config else float(config.partition("_w")[2] or 1),
        float(options.get("depth", 1)),
        LAYERS.get(config.partition("/layers_")[2], (k, k, k)),
        k if options.get("dynamic_last", "true" if condconv else "false") == "true" else 1,
        k if condconv else 1,
        int(options.get("first_dynamic_block", 7 if condconv else 1)),
        condconv,
    )
    found = counts(model)
    assert tuple(found[f"backbone_{what}"] + found[f"head_{what}"] for what in ("params", "madds")) == expected


def test_the_formulas_reproduce_the_published_multiply_adds() -> None:
    """Of static models, which the paper prints with one decimal: its counts are 0.0 to 0.3% lower."""
    for width, published in ((1, 300.0), (0.75, 209.0), (0.5, 97.0), (0.35, 59.2)):
        assert 0 <= mobilenet_v2_counts(width)[1] / 1e6 - published < 0.003 * published


def test_only_one_choice_of_condconv_layers_fits_both_published_parameter_counts() -> None:
    """The fifth note: with one attention for each block, and the classifier dynamic in any case.

    That attention is the first one of the block. The second and the third have the hidden channels as inputs.
    """
    hidden = {}
    for width in (1.0, 0.5):
        with torch.device("meta"):
            blocks = MobileNetV2(width).blocks
        hidden[width] = [block.project.conv.in_channels for block in blocks]  # type: ignore[union-attr]

    def fits(width: float, published: float, first_block: int, last: bool) -> bool:
        params, _ = mobilenet_v2_counts(width, 1, (8, 8, 8), 8 if last else 1, 8, first_block, condconv=True)
        for block, channels in enumerate(hidden[width], 1):
            if block >= first_block:
                params -= 8 * (channels + 1) * (1 if block == 1 else 2)  # the first block has no expansion
        return abs(params / 1e6 - published) <= 0.05

    choices = product(range(1, 18), (False, True))
    assert [choice for choice in choices if fits(1.0, 27.5, *choice) and fits(0.5, 15.5, *choice)] == [(7, True)]


@pytest.mark.parametrize("depth", [10, 18])
def test_dynamic_shortcuts_of_resnets_equal_the_formulas(depth: int) -> None:
    static = counts(f"imagenet/dy_resnet{depth}")
    literal = counts(f"imagenet/dy_resnet{depth} model.dynamic_shortcuts=true")
    added = [
        (3 * 2 * c * c + (c + 1) * c // 4 + (c // 4 + 1) * 4, side * side * c + c * c // 4 + c + 4 * 2 * c * c)
        for c, side in zip((64, 128, 256), (56, 28, 14), strict=True)
    ]
    assert literal["backbone_params"] - static["backbone_params"] == sum(params for params, _ in added)
    assert literal["backbone_madds"] - static["backbone_madds"] == sum(madds for _, madds in added)


@pytest.mark.parametrize("model", [model for model in MODELS if "model.depth" not in model])
def test_counts_equal_pytorchs_flop_counter(model: str) -> None:
    """It counts the attention's linear layers and the aggregation, a matrix product, but not the pooling."""
    name, *overrides = model.split()
    config = load_any_config(name, overrides)
    with torch.device("meta"):
        net = build_classifier(config) if isinstance(config, ClassificationConfig) else build_pose_net(config)
    pooled = 0

    def add(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal pooled
        pooled += prod(inputs[0].shape)

    for layer in net.modules():
        if isinstance(layer, DynamicConv2d):
            layer.register_forward_pre_hook(add)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.empty((1, 3, *config.input.size_hw), device="meta"))

    assert bool(pooled) == any(word in name for word in ("dy", "layers_", "condconv"))
    assert counter.get_total_flops() == 2 * (counts(model)["backbone_madds"] + counts(model)["head_madds"] - pooled)


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: f"{row.model} {row.part}")
def test_every_difference_from_the_paper_has_a_note(row: Published) -> None:
    for quantity, paper, value in zip(("Parameters", "MAdds"), (row.params, row.madds), ours(row), strict=True):
        assert paper is not None
        rounding = 0.05 if paper < 1000 else 5.0
        differs = abs(value - paper) > rounding + 0.01 * paper
        noted = any(note.startswith((quantity, "The paper")) for note in row.notes)
        assert noted or not differs, (quantity, value, paper)
        assert noted <= differs or OVERHEAD in row.notes, (quantity, "unnecessary note")


def test_attention_and_aggregation_cost_more_than_the_paper_prints() -> None:
    """The first note, for every pair of a static and a dynamic MobileNet."""
    for (model, part), dynamic in ROWS.items():
        if OVERHEAD in dynamic.notes:
            kind = "dybackbone_" if "dybackbone_" in model else "dyhead_" if "dyhead_" in model else "dy_"
            static = ROWS[model.replace(kind, "static_", 1), part]
            assert dynamic.madds is not None
            assert static.madds is not None
            assert ours(dynamic)[1] - ours(static)[1] > 1.15 * (dynamic.madds - static.madds)


def test_resnet_params_of_the_paper_fit_a_million_of_two_to_the_twenty() -> None:
    for row in COUNTED:
        if "resnet" in row.config and row.part == "classifier":
            assert row.params is not None
            assert abs(ours(row)[0] * 1e6 / 2**20 - row.params) <= 0.011 * row.params
