"""Classification options, and the packaged configs compared with section 5.1 and the tables of the paper."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pose.config.classification import ClassificationConfig
from pose.config.loader import (
    config_with_origin,
    dump,
    json_schema,
    load_any_config,
    load_classification_config,
    load_config,
    packaged_names,
)
from pose.config.pose import Config
from pose.datasets.cifar10 import CLASSES as CIFAR10_CLASSES
from pose.errors import ConfigError

NAMES = [name for name in packaged_names() if name.startswith("imagenet/")]
CONDCONV = [name for name in NAMES if "/condconv_" in name]
TABLE_8 = [name for name in NAMES if name.count("/") == 1 and name not in CONDCONV]
ABLATION = [name for name in NAMES if name.count("/") == 2]
LAYERS = [name for name in ABLATION if "/layers_" in name and not name.endswith("temperature_1")]


def message(name: str | Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_classification_config(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- packaged configs


def test_every_row_of_table_8_has_a_config() -> None:
    models = [f"mobilenetv2{width}" for width in ("", "_w0.75", "_w0.5", "_w0.35")]
    models += ["mobilenetv3_small", "resnet18", "resnet10"]

    assert sorted(TABLE_8) == sorted(f"imagenet/{kind}_{model}" for model in models for kind in ("static", "dy"))


@pytest.mark.parametrize("name", NAMES)
def test_all_configs_have_the_common_settings_of_section_5_1(name: str) -> None:
    config = load_classification_config(name)
    train = config.train
    assert (train.momentum, train.batch_size, config.model.reduction) == (0.9, 256, 4)
    assert (config.input.size, config.data.root, config.num_classes) == (224, Path("data/imagenet"), 1000)
    annealed = name in TABLE_8 or "squeeze_off" in name or name.endswith("_static")
    assert train.temperature_final == (1 if annealed else None)
    assert train.temperature_epochs == 10
    if "temperature_" not in name:
        assert train.temperature == 30
    if name in TABLE_8:
        assert config.model.num_kernels == 4


@pytest.mark.parametrize("name", TABLE_8)
def test_the_schedule_follows_the_backbone_family(name: str) -> None:
    train = load_classification_config(name).train
    if "resnet" in name:
        expected: tuple[object, ...] = (100, 0.1, "steps", (30, 60, 90), 0.1, 1e-4)
    elif "mobilenetv2" in name:
        expected = (300, 0.05, "cosine", (30, 60, 90), 0.1, 4e-5)
    else:
        expected = (300, 0.1, "cosine", (30, 60, 90), 0.1, 3e-5)
    actual = (train.epochs, train.learning_rate, train.schedule, train.milestones, train.decay, train.weight_decay)
    assert actual == expected


@pytest.mark.parametrize(
    ("model", "dropout", "smooth", "mixup"),
    [
        ("mobilenetv2", 0.2, True, True),
        ("mobilenetv2_w0.75", 0.1, True, False),
        ("mobilenetv2_w0.5", 0, False, False),
        ("mobilenetv2_w0.35", 0, False, False),
        ("mobilenetv3_small", 0.2, False, False),
        ("resnet10", 0, False, False),
    ],
)
@pytest.mark.parametrize("kind", ["static", "dy"])
def test_regularization_follows_the_model_size(
    kind: str, model: str, dropout: float, smooth: bool, mixup: bool
) -> None:
    train = load_classification_config(f"imagenet/{kind}_{model}").train
    assert (train.dropout, train.label_smoothing > 0, train.mixup > 0) == (dropout, smooth, mixup)


def test_only_the_dynamic_resnet18_has_dropout_among_resnets() -> None:
    assert load_classification_config("imagenet/dy_resnet18").train.dropout == 0.1
    assert load_classification_config("imagenet/static_resnet18").train.dropout == 0


@pytest.mark.parametrize("name", TABLE_8)
def test_the_config_name_matches_the_model(name: str) -> None:
    model = load_classification_config(name).model
    kind, _, model_name = name.removeprefix("imagenet/").partition("_")
    assert model.dynamic_backbone == (kind == "dy")
    assert not model.dynamic_last
    backbones = {"mobilenetv2": "mobilenet_v2", "mobilenetv3": "mobilenet_v3_small"}
    assert model.backbone == backbones.get(model_name.split("_")[0], model_name)
    assert model.width == (float(model_name.partition("_w")[2]) if "_w" in model_name else 1.0)


@pytest.mark.parametrize("model_name", [name.removeprefix("imagenet/static_") for name in TABLE_8 if "static" in name])
def test_static_and_dynamic_configs_differ_only_in_the_model(model_name: str) -> None:
    static, dynamic = (load_classification_config(f"imagenet/{kind}_{model_name}") for kind in ("static", "dy"))
    train = {"train": static.train} if model_name == "resnet18" else {}  # its dropout differs
    model = static.model.model_copy(update={"dynamic_backbone": True})
    assert dynamic.model_copy(update={"name": static.name, **train}) == static.model_copy(update={"model": model})


@pytest.mark.parametrize("width", ["", "_w0.5"])
def test_condconv_configs_differ_from_the_static_ones_only_in_the_model(width: str) -> None:
    """Table 2: K = 8, sigmoid attention, blocks 7 to 17, the last 1x1 convolution and the classifier."""
    name = f"imagenet/condconv_mobilenetv2{width}"
    model = load_classification_config(name).model

    assert sorted(CONDCONV) == ["imagenet/condconv_mobilenetv2", "imagenet/condconv_mobilenetv2_w0.5"]
    assert (model.attention, model.num_kernels, model.first_dynamic_block) == ("sigmoid", 8, 7)
    assert changed_options(name, f"imagenet/static_mobilenetv2{width}") == {
        "model.dynamic_backbone", "model.first_dynamic_block", "model.dynamic_last", "model.dynamic_classifier",
        "model.num_kernels", "model.attention", "train.temperature_final",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("model.attention=sigmoid", "model.reduction=8"), "reduction 8 needs attention: softmax"),
        (("model.first_dynamic_block=7",), "first_dynamic_block needs dynamic_backbone: true"),
        (("model.dynamic_backbone=true", "model.first_dynamic_block=7", "model.depth=0.5"), "and depth: 1"),
        (("model.dynamic_backbone=true", "model.first_dynamic_block=18"), "17"),
        (("model.dynamic_backbone=true", "model.first_dynamic_block=0"), "1"),
        (
            ("model.dynamic_classifier=true", "model.dynamic_backbone=true", "model.num_kernels=[1,4,4]"),
            "dynamic_class",
        ),
        (("model.backbone=resnet10", "model.dynamic_backbone=true", "model.first_dynamic_block=2"), "mobilenet_v2"),
    ],
)
def test_options_of_condconv_that_contradict_others_are_refused(overrides: tuple[str, ...], expected: str) -> None:
    assert expected in message("imagenet/static_mobilenetv2", *overrides)


def test_a_pose_model_has_no_dynamic_classifier() -> None:
    with pytest.raises(ConfigError, match="dynamic_classifier"):
        load_config("quickstart", ["model.dynamic_classifier=true"])


@pytest.mark.parametrize("name", [name for name in packaged_names() if name.startswith("cifar10/")])
def test_cifar10_models_have_stride_8_and_the_classes_of_the_data_set(name: str) -> None:
    config = load_classification_config(name)

    assert (config.input.size, config.model.first_strides, config.data.classes) == (32, (1, 1), CIFAR10_CLASSES)


def test_static_and_dynamic_cifar10_configs_differ_only_in_the_model() -> None:
    assert changed_options("cifar10/dy_w0.35", "cifar10/static_w0.35") == {"model.dynamic_backbone"}


# --- ablations


@pytest.mark.parametrize("name", ABLATION)
def test_an_ablation_changes_only_its_own_options(name: str) -> None:
    kind = name.split("/")[2].split("_")[0]
    base, options = {
        "layers": ("ablation/temperature_30", {"model.num_kernels"}),
        "kernels": ("ablation/temperature_30", {"model.num_kernels"}),
        "temperature": ("dy_mobilenetv2_w0.5", {"train.temperature", "train.temperature_final"}),
        "depth": ("ablation/temperature_30", {"model.depth"}),
        "squeeze": ("dy_mobilenetv3_small", {"model.squeeze", "model.last_squeeze"}),
    }[kind]
    if name.endswith("_static"):
        base = "static_mobilenetv3_small" if kind == "squeeze" else "static_mobilenetv2_w0.5"
    elif name.endswith("layers_c3_temperature_1"):
        base, options = "ablation/layers_c3", {"train.temperature"}
    elif name.endswith("temperature_30"):
        options = {"train.temperature_final"}
    assert changed_options(name, f"imagenet/{base}") == options


def changed_options(name: str, other: str) -> set[str]:
    """Return the options of ``name`` that differ from ``other``."""
    first, second = load_classification_config(name), load_classification_config(other)
    return {
        f"{section}.{key}"
        for section in ("model", "train", "data", "input", "augment", "test")
        for key, value in getattr(first, section)
        if value != getattr(getattr(second, section), key)
    }


def test_no_two_configs_are_the_same_experiment() -> None:
    configs = [load_classification_config(name).model_copy(update={"name": ""}) for name in NAMES]
    repeated = [(a, b) for i, a in enumerate(NAMES) for j, b in enumerate(NAMES[:i]) if configs[i] == configs[j]]
    assert repeated == []


def test_table_5_has_every_combination_of_the_three_convolutions() -> None:
    num_kernels = {load_classification_config(name).model.num_kernels for name in LAYERS}
    combinations = {(a, b, c) for a in (1, 4) for b in (1, 4) for c in (1, 4)}
    assert num_kernels == combinations - {(1, 1, 1), (4, 4, 4)}  # static_mobilenetv2_w0.5 and temperature_30
    assert len(num_kernels) == len(LAYERS)
    for name in [*LAYERS, "imagenet/ablation/temperature_30"]:
        train = load_classification_config(name).train
        assert (train.temperature, train.temperature_final) == (30, None)
    assert load_classification_config("imagenet/ablation/layers_c1_c3").model.num_kernels == (4, 1, 4)


def test_table_6_has_six_constant_temperatures_and_the_annealed_one_of_table_8() -> None:
    rows = [name for name in ABLATION if "/temperature_" in name]
    trains = [load_classification_config(name).train for name in [*rows, "imagenet/dy_mobilenetv2_w0.5"]]
    temperatures = {(train.temperature, train.temperature_final) for train in trains}
    assert temperatures == {(tau, None) for tau in (1, 5, 10, 20, 30, 40)} | {(30, 1)}


def test_figure_5_compares_two_temperatures_with_all_layers_and_with_the_last_of_each_block() -> None:
    figure = {
        (4, 1): "temperature_1",
        (4, 30): "temperature_30",
        ((1, 1, 4), 1): "layers_c3_temperature_1",
        ((1, 1, 4), 30): "layers_c3",
    }
    for (num_kernels, temperature), name in figure.items():
        config = load_classification_config(f"imagenet/ablation/{name}")
        assert (config.model.num_kernels, config.train.temperature) == (num_kernels, temperature)
        assert config.train.temperature_final is None


def test_figures_6_and_7_have_three_depths() -> None:
    for kind in ("static", "dy"):
        for depth in (0.7, 0.5):
            config = load_classification_config(f"imagenet/ablation/depth_{depth}_{kind}")
            assert (config.model.depth, config.model.dynamic_backbone) == (depth, kind == "dy")


def test_tables_7_and_1_have_the_options_of_their_rows() -> None:
    for kind in ("static", "dy"):
        with_se, without = (
            load_classification_config(f"imagenet/{name}").model
            for name in (f"{kind}_mobilenetv3_small", f"ablation/squeeze_off_{kind}")
        )
        assert with_se.squeeze
        assert with_se.last_squeeze
        assert with_se.early_stride
        assert not without.squeeze
        assert not without.last_squeeze
    rows = [name for name in ABLATION if "/kernels_" in name]
    kernels = {
        load_classification_config(name).model.num_kernels for name in [*rows, "imagenet/ablation/temperature_30"]
    }
    assert kernels == {2, 4, 6, 8}


# --- loading


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_loads_to_an_equal_config(name: str, tmp_path: Path) -> None:
    config = load_classification_config(name, ["data.classes=[a, b]", "train.start=some/weights.pt"])
    (tmp_path / "dumped.yaml").write_text(dump(config), encoding="utf-8")
    assert load_classification_config(tmp_path / "dumped.yaml") == config


def test_the_task_selects_the_config_class(tmp_path: Path) -> None:
    assert isinstance(load_any_config("quickstart"), Config)
    assert isinstance(load_any_config("imagenet/static_resnet10"), ClassificationConfig)
    (tmp_path / "mine.yaml").write_text("task: classification")
    assert load_any_config(tmp_path / "mine.yaml") == ClassificationConfig(name="mine")


def test_a_config_of_the_other_task_is_refused_with_the_names_of_its_tools() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("imagenet/static_resnet10", ["model.head=type_a"])
    assert "imagenet.yaml:2: expected a config of the task pose, got classification" in str(caught.value)
    assert "train_imagenet" in str(caught.value)
    assert "expected a config of the task classification, got pose, which the tools train and test take" in message(
        "quickstart", "train.mixup=1"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.mixupp=0.2", "unknown key 'train.mixupp'; did you mean 'train.mixup'?"),
        ("model.head=type_a", "unknown key 'model.head'"),
        ("model.head_width=0.5", "unknown key 'model.head_width'"),
        ("train.loss=mse", "unknown key 'train.loss'"),
        ("input.size_hw=[1,2]", "unknown key 'input.size_hw'; did you mean 'input.size'?"),
        ("task=clasification", "task: expected 'pose' or 'classification', got 'clasification'; did you mean 'class"),
        ("task=[pose]", "task: expected 'pose' or 'classification', got ['pose']"),
        ("task={a: 1}", "task: expected 'pose' or 'classification', got {'a': 1}"),
        ("train.momentum=1", "train.momentum: expected less than 1"),
        ("train.label_smoothing=1", "train.label_smoothing: expected less than 1"),
        ("train.dropout=-0.1", "train.dropout: expected greater than or equal to 0"),
        ("train.accumulate=3", "train.batch_size 256 must be a multiple of train.accumulate 3"),
        ("input.resize=200", "resize 200 must be at least size 224"),
        ("augment.crop_area=[0.5, 0.1]", "crop_area must be [minimum, maximum] with maximum <= 1, got [0.5, 0.1]"),
        ("augment.crop_area=[0.5, 2]", "crop_area must be [minimum, maximum]"),
        ("data.classes=[a]", "data.classes: expected at least 2 items"),
        ("data.classes=[a, b, a]", "classes must be unique, got ['a'] more than once"),
    ],
)
def test_an_error_names_key_and_expected_value(override: str, expected: str) -> None:
    text = message("imagenet/dy_mobilenetv2_w0.5", override)
    assert text.startswith("command line: ") or expected in text
    assert expected in text


def test_every_value_has_its_origin() -> None:
    rows = {key: (value, where) for key, value, where in config_with_origin("imagenet/dy_mobilenetv2_w0.75")}
    assert rows["train.dropout"] == (0.1, "configs/imagenet/static_mobilenetv2_w0.75.yaml:7")
    assert rows["train.momentum"][1].startswith("configs/_base_/imagenet.yaml:")
    assert rows["train.schedule"][1].startswith("configs/_base_/imagenet_mobilenetv2.yaml:")


def test_json_schema_contains_the_options_of_the_task() -> None:
    assert "mixup" in json_schema("classification")["$defs"]["ClassifierTrainConfig"]["properties"]
    assert "mixup" not in str(json_schema())


def test_a_config_is_immutable() -> None:
    with pytest.raises(ValidationError):
        ClassificationConfig().train.epochs = 3  # type: ignore[misc]
