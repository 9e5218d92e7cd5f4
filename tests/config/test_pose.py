"""Options of the pose config: documentation, defaults and validation."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pose.config import classification as config_classification
from pose.config import pose as config_module
from pose.config.pose import STRIDE, Config, InputConfig
from pose.config.skeleton import make_skeleton
from pose.errors import DataError
from pose.skeleton import COCO

SOURCE = Path(config_module.__file__)


def sections() -> list[type[BaseModel]]:
    members = {**vars(config_module), **vars(config_classification)}.values()
    return [v for v in members if isinstance(v, type) and issubclass(v, config_module.Section)]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_option_is_documented(section: type[BaseModel]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no docstring"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_an_unknown_option_is_refused(section: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        section.model_validate({"no_such_option": 1})


def test_a_config_is_immutable() -> None:
    with pytest.raises(ValidationError):
        Config().train.epochs = 3  # type: ignore[misc]


def test_defaults_follow_the_paper() -> None:
    config = Config()
    assert config.input.size_hw == (256, 192)
    assert config.input.size_wh == (192, 256)
    assert config.input.heatmap_wh == (48, 64)
    assert (config.train.epochs, config.train.milestones, config.train.learning_rate) == (210, (170, 200), 1e-3)
    assert (config.train.batch_size, config.train.schedule, config.train.decay) == (128, "steps", 0.1)
    assert (config.model.num_kernels, config.model.reduction, config.train.temperature) == (4, 4, 30)
    assert (config.test.nms_threshold, config.test.keypoint_threshold, config.test.flip_shift) == (0.9, 0.2, 1)
    assert config.keypoints is COCO


@given(st.integers(1, 40), st.integers(1, 40))
def test_derived_sizes_are_consistent(rows: int, columns: int) -> None:
    size = InputConfig(size_hw=(32 * rows, 32 * columns))
    assert size.heatmap_wh == (32 * columns // STRIDE, 32 * rows // STRIDE)
    assert size.aspect_ratio == pytest.approx(size.size_wh[0] / size.size_wh[1])


@given(st.integers(1, 2000).filter(lambda side: side % 32))
def test_sizes_that_are_not_multiples_of_32_are_refused(side: int) -> None:
    with pytest.raises(ValidationError, match="multiples of 32"):
        InputConfig(size_hw=(side, 192))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"head": "type_a", "dynamic_head": True}}, "type-A head has no dynamic form"),
        ({"model": {"dynamic_last": True}}, "needs dynamic_backbone"),
        (
            {"model": {"backbone": "resnet18", "dynamic_backbone": True, "dynamic_last": True}},
            "needs a MobileNet backbone, .*; got resnet18",
        ),
        ({"model": {"backbone": "resnet18", "dynamic_shortcuts": True}}, "dynamic_shortcuts needs dynamic_backbone"),
        ({"model": {"dynamic_backbone": True, "dynamic_shortcuts": True}}, "needs a ResNet .*; got mobilenet_v2"),
        (
            {
                "model": {
                    "backbone": "resnet18",
                    "dynamic_backbone": True,
                    "dynamic_shortcuts": True,
                    "num_kernels": [4, 1],
                }
            },
            "dynamic_shortcuts needs one num_kernels",
        ),
        ({"model": {"backbone": "resnet10", "width": 0.5}}, "width 0.5 needs backbone: mobilenet_v2, got resnet10"),
        ({"model": {"backbone": "mobilenet_v3_small", "depth": 2}}, "depth 2.0 needs .* got mobilenet_v3_small"),
        ({"model": {"early_stride": False}}, "early_stride False needs .* mobilenet_v3_small, got mobilenet_v2"),
        ({"model": {"backbone": "resnet18", "squeeze": False}}, "squeeze False needs"),
        ({"model": {"backbone": "resnet18", "first_strides": [1, 1]}}, "first_strides .* needs .* mobilenet_v2"),
        ({"model": {"first_strides": [1, 2]}}, r"first_strides must be \[2, 2\] in a pose model"),
        ({"train": {"attention_learning_rate": 1e-4}}, "attention_learning_rate needs a dynamic model"),
        ({"train": {"attention_learning_rate": -1}}, "greater than or equal to 0"),
        ({"model": {"backbone": "resnet18", "last_squeeze": False}}, "last_squeeze False needs"),
        ({"model": {"backbone": "resnet34"}}, "resnet18"),
        ({"model": {"num_kernels": 0}}, "greater than 0"),
        ({"model": {"num_kernels": [4, 0, 4]}}, "greater than 0"),
        ({"model": {"num_kernels": []}}, r"the 3 convolutions of a block of mobilenet_v2, got \[\]"),
        ({"model": {"num_kernels": [4, 4]}}, r"the 3 convolutions of a block of mobilenet_v2, got \[4, 4\]"),
        ({"model": {"backbone": "resnet18", "num_kernels": [4, 4, 4]}}, "the 2 convolutions of a block of resnet18"),
        ({"model": {"dynamic_head": True, "num_kernels": [4, 4, 4]}}, "dynamic_head needs one num_kernels"),
        (
            {"model": {"dynamic_backbone": True, "dynamic_last": True, "num_kernels": [4, 4, 4]}},
            "dynamic_last needs one num_kernels",
        ),
        ({"train": {"batch_size": 10, "accumulate": 3}}, "multiple of train.accumulate"),
        ({"train": {"learning_rate": float("nan")}}, "finite"),
        ({"train": {"learning_rate": -1}}, "greater than 0"),
        ({"augment": {"flip_probability": 1.5}}, "less than or equal to 1"),
        ({"skeleton": "people"}, "coco"),
    ],
)
def test_invalid_values_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(options)


@pytest.mark.parametrize(
    "model",
    [
        {"backbone": "mobilenet_v2", "width": 0.5, "depth": 0.5, "num_kernels": [1, 4, 1]},
        {"backbone": "mobilenet_v3_small", "early_stride": False, "squeeze": False, "num_kernels": [2, 4, 6]},
        {"backbone": "mobilenet_v3_small", "last_squeeze": False, "dynamic_backbone": True, "dynamic_last": True},
        {"backbone": "resnet18", "num_kernels": [4, 1], "early_stride": True, "width": 1},
        {"backbone": "resnet18", "dynamic_backbone": True, "dynamic_shortcuts": True},
        {"backbone": "resnet10", "dynamic_backbone": True, "dynamic_head": True, "num_kernels": 8},
    ],
)
def test_options_of_a_backbone_are_accepted(model: dict[str, object]) -> None:
    config = Config.model_validate({"model": model})
    assert config.model.model_dump(mode="json", include=set(model)) == model
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_custom_skeleton() -> None:
    config = Config.model_validate({"skeleton": {"names": ["head", "left_hand", "right_hand"], "limbs": [[0, 1]]}})
    assert config.keypoints.flip_pairs == ((1, 2),)
    assert config.keypoints.limbs == ((0, 1),)
    assert make_skeleton("coco") is COCO


def test_an_invalid_skeleton_is_refused_at_validation() -> None:
    with pytest.raises(DataError, match="limbs"):
        Config.model_validate({"skeleton": {"names": ["a", "b"], "limbs": [[0, 2]]}})


def test_every_option_is_read_by_the_code() -> None:
    """An option that no code reads has no effect."""
    root = SOURCE.parents[1]
    files = [*root.rglob("*.py"), *(root.parent / "tools").glob("*.py")]
    read = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Attribute)
    }
    options = {name for section in sections() for name in section.model_fields}
    # `task` is read as a key of the YAML file or checkpoint: it decides the class of the config.
    assert options - {"task"} <= read
