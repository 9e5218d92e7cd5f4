"""Counts of the paper's models, compared with independent reference counts and PyTorch's counter; the notes."""

from functools import cache
from math import prod

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pose.config.classification import ClassificationConfig
from pose.config.loader import load_any_config
from pose.models import build_classifier, build_pose_net
from pose.models.complexity import count_config
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.published import OVERHEAD, PUBLISHED, Published

EXPECTED = {
    ("imagenet/static_mobilenetv2", "classifier"): ("3.50", "300.8"),
    ("imagenet/static_mobilenetv2_w0.75", "classifier"): ("2.64", "209.1"),
    ("imagenet/static_mobilenetv2_w0.5", "classifier"): ("1.97", "97.1"),
    ("imagenet/static_mobilenetv2_w0.35", "classifier"): ("1.68", "59.3"),
    ("imagenet/dy_mobilenetv2", "classifier"): ("11.15", "316.8"),
    ("imagenet/dy_mobilenetv2_w0.75", "classifier"): ("7.01", "220.2"),
    ("imagenet/dy_mobilenetv2_w0.5", "classifier"): ("3.95", "103.1"),
    ("imagenet/dy_mobilenetv2_w0.35", "classifier"): ("2.69", "63.3"),
    ("imagenet/static_mobilenetv3_small", "classifier"): ("3.11", "66.4"),
    ("imagenet/dy_mobilenetv3_small", "classifier"): ("4.78", "70.1"),
    ("imagenet/static_resnet18", "classifier"): ("11.69", "1814"),
    ("imagenet/dy_resnet18", "classifier"): ("44.93", "1860"),
    ("imagenet/static_resnet10", "classifier"): ("5.42", "890"),
    ("imagenet/dy_resnet10", "classifier"): ("19.69", "910"),
    ("pose/B_static_mobilenetv2_256x192", "backbone"): ("2.22", "293.4"),
    ("pose/B_dy_mobilenetv2_256x192", "backbone"): ("9.87", "309.3"),
    ("pose/B_static_mobilenetv2_w0.5_256x192", "backbone"): ("0.69", "93.9"),
    ("pose/B_dy_mobilenetv2_w0.5_256x192", "backbone"): ("2.67", "99.8"),
    ("pose/B_static_mobilenetv3_small_256x192", "backbone"): ("1.09", "63.1"),
    ("pose/B_dy_mobilenetv3_small_256x192", "backbone"): ("2.76", "66.7"),
    ("pose/B_static_mobilenetv2_256x192", "head"): ("1.208", "727.6"),
    ("pose/B_dy_mobilenetv2_256x192", "head"): ("6.319", "738.9"),
    ("pose/B_static_mobilenetv3_small_256x192", "head"): ("1.009", "689.7"),
    ("pose/B_dy_mobilenetv3_small_256x192", "head"): ("4.871", "699.2"),
    ("pose/A_static_resnet18_256x192", "head"): ("4.20", "1121"),
    ("pose/A_static_mobilenetv2_256x192", "head"): ("7.35", "1272"),
    ("pose/A_static_mobilenetv3_small_256x192", "head"): ("4.46", "1133"),
}
"""Params and MAdds in 1e6, from independent code."""

CONFIGS = list(dict.fromkeys(row.config for row in PUBLISHED))


@cache
def counts(config: str) -> dict[str, int]:
    return count_config(load_any_config(config))


def ours(row: Published) -> tuple[float, float]:
    """Return our params and MAdds in 1e6 of a row."""
    parts = ("backbone", "head") if row.part == "classifier" else (row.part,)
    params, madds = (sum(counts(row.config)[f"{part}_{what}"] for part in parts) / 1e6 for what in ("params", "madds"))
    return params, madds


@pytest.mark.parametrize(("config", "part"), EXPECTED)
def test_counts_equal_independent_reference_counts(config: str, part: str) -> None:
    (row,) = (row for row in PUBLISHED if (row.config, row.part) == (config, part))
    for value, printed in zip(ours(row), EXPECTED[config, part], strict=True):
        rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
        assert abs(value - float(printed)) <= rounding + 0.001 * float(printed)


def test_every_published_row_has_a_reference_count() -> None:
    assert EXPECTED.keys() == {(row.config, row.part) for row in PUBLISHED}
    assert len(EXPECTED) == len(PUBLISHED)


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_equal_pytorchs_flop_counter(name: str) -> None:
    """It counts the attention's linear layers and the aggregation, a matrix product, but not the pooling."""
    config = load_any_config(name)
    with torch.device("meta"):
        model = build_classifier(config) if isinstance(config, ClassificationConfig) else build_pose_net(config)
    pooled = 0

    def add(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal pooled
        pooled += prod(inputs[0].shape)

    for layer in model.modules():
        if isinstance(layer, DynamicConv2d):
            layer.register_forward_pre_hook(add)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty((1, 3, *config.input.size_hw), device="meta"))

    assert bool(pooled) == ("dy" in name)
    assert counter.get_total_flops() == 2 * (counts(name)["backbone_madds"] + counts(name)["head_madds"] - pooled)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.config} {row.part}")
def test_every_difference_from_the_paper_has_a_note(row: Published) -> None:
    for quantity, paper, value in zip(("Parameters", "MAdds"), (row.params, row.madds), ours(row), strict=True):
        rounding = 0.05 if paper < 1000 else 5.0
        differs = abs(value - paper) > rounding + 0.01 * paper
        noted = any(note.startswith((quantity, "The paper")) for note in row.notes)
        assert noted or not differs, (quantity, value, paper)
        assert noted <= differs or OVERHEAD in row.notes, (quantity, "unnecessary note")


def test_attention_and_aggregation_cost_more_than_the_paper_prints() -> None:
    """The first note, for every pair of a static and a dynamic MobileNet."""
    rows = {(row.config, row.part): row for row in PUBLISHED}
    for (config, part), dynamic in rows.items():
        if "/dy_mobilenet" in config or "B_dy" in config:
            static = rows[config.replace("dy_", "static_", 1), part]
            assert ours(dynamic)[1] - ours(static)[1] > 1.15 * (dynamic.madds - static.madds)


def test_resnet_params_of_the_paper_fit_a_million_of_two_to_the_twenty() -> None:
    for row in PUBLISHED:
        if "resnet" in row.config and row.part == "classifier":
            assert abs(ours(row)[0] * 1e6 / 2**20 - row.params) <= 0.011 * row.params
