"""Classification's options, and its packaged configs against section 5.1 and the tables of the paper."""

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
from pose.errors import ConfigError

NAMES = [name for name in packaged_names() if name.startswith("imagenet/")]
TABLE_8 = [name for name in NAMES if name.count("/") == 1]
ABLATION = [name for name in NAMES if name.count("/") == 2]


def message(name: str | Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_classification_config(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the recipes


def test_every_row_of_table_8_has_a_config() -> None:
    models = [f"mobilenetv2{width}" for width in ("", "_w0.75", "_w0.5", "_w0.35")]
    models += ["mobilenetv3_small", "resnet18", "resnet10"]

    assert sorted(TABLE_8) == sorted(f"imagenet/{kind}_{net}" for net in models for kind in ("static", "dy"))


@pytest.mark.parametrize("name", NAMES)
def test_all_recipes_share_what_section_5_1_says_of_all(name: str) -> None:
    config = load_classification_config(name)
    train = config.train
    assert (train.momentum, train.batch_size, config.model.reduction) == (0.9, 256, 4)
    assert (config.input.size, config.data.root, config.num_classes) == (224, Path("data/imagenet"), 1000)
    if "/temperature_" not in name:
        assert (train.temperature, train.temperature_final, train.temperature_epochs) == (30, 1, 10)
    if name.count("/") == 1:
        assert config.model.num_kernels == 4


@pytest.mark.parametrize("name", TABLE_8)
def test_the_schedule_is_its_familys(name: str) -> None:
    train = load_classification_config(name).train
    if "resnet" in name:
        expected: tuple[object, ...] = (100, 0.1, "steps", (30, 60, 90), 0.1, 1e-4)
    elif "mobilenetv2" in name:
        expected = (300, 0.05, "cosine", (30, 60, 90), 0.1, 4e-5)
    else:
        expected = (300, 0.1, "cosine", (30, 60, 90), 0.1, 3e-5)
    found = (train.epochs, train.learning_rate, train.schedule, train.milestones, train.decay, train.weight_decay)
    assert found == expected


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
def test_what_is_regularised(kind: str, net: str, dropout: float, smooth: bool, mixup: bool) -> None:
    train = load_classification_config(f"imagenet/{kind}_{net}").train
    assert (train.dropout, train.label_smoothing > 0, train.mixup > 0) == (dropout, smooth, mixup)


def test_of_the_resnets_only_the_dynamic_18_drops_out() -> None:
    assert load_classification_config("imagenet/dy_resnet18").train.dropout == 0.1
    assert load_classification_config("imagenet/static_resnet18").train.dropout == 0


@pytest.mark.parametrize("name", TABLE_8)
def test_the_name_says_what_the_model_is(name: str) -> None:
    model = load_classification_config(name).model
    kind, _, net = name.removeprefix("imagenet/").partition("_")
    assert model.dynamic_backbone == (kind == "dy")
    assert not model.dynamic_last
    backbones = {"mobilenetv2": "mobilenet_v2", "mobilenetv3": "mobilenet_v3_small"}
    assert model.backbone == backbones.get(net.split("_")[0], net)
    assert model.width == (float(net.partition("_w")[2]) if "_w" in net else 1.0)


@pytest.mark.parametrize("net", [name.removeprefix("imagenet/static_") for name in TABLE_8 if "static" in name])
def test_static_and_dynamic_differ_in_the_model_alone(net: str) -> None:
    static, dynamic = (load_classification_config(f"imagenet/{kind}_{net}") for kind in ("static", "dy"))
    train = {"train": static.train} if net == "resnet18" else {}  # whose dropout differs
    model = static.model.model_copy(update={"dynamic_backbone": True})
    assert dynamic.model_copy(update={"name": static.name, **train}) == static.model_copy(update={"model": model})


# --- the ablations


@pytest.mark.parametrize("name", ABLATION)
def test_an_ablation_changes_one_thing(name: str) -> None:
    config = load_classification_config(name)
    net = "mobilenetv2_w0.5"
    if "squeeze" in name:
        net = "mobilenetv3_small"
    base = load_classification_config(f"imagenet/{'static' if name.endswith('static') else 'dy'}_{net}")
    allowed = {
        "layers": {"model.num_kernels"},
        "kernels": {"model.num_kernels"},
        "temperature": {"train.temperature", "train.temperature_final"},
        "squeeze": {"model.squeeze", "model.last_squeeze"},
    }[name.split("/")[2].split("_")[0]]
    changed = {
        f"{section}.{key}"
        for section in ("model", "train", "data", "input", "augment", "test")
        for key, value in getattr(config, section)
        if value != getattr(getattr(base, section), key)
    }
    assert changed <= allowed


def test_table_5_has_every_choice_of_the_three_convolutions() -> None:
    found = {load_classification_config(name).model.num_kernels for name in ABLATION if "layers_" in name}
    every = {(a, b, c) for a in (1, 4) for b in (1, 4) for c in (1, 4)}
    assert found == every - {(1, 1, 1), (4, 4, 4)}  # these two are the rows of Table 8
    assert load_classification_config("imagenet/ablation/layers_c1_c3").model.num_kernels == (4, 1, 4)


def test_table_6_has_five_constant_temperatures_and_the_annealed_one() -> None:
    trains = [load_classification_config(name).train for name in ABLATION if "temperature_" in name]
    found = {(train.temperature, train.temperature_final) for train in trains}
    assert found == {(tau, None) for tau in (1, 5, 10, 20, 30)} | {(30, 1)}


def test_tables_7_and_1() -> None:
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
    kernels = {load_classification_config(name).model.num_kernels for name in ABLATION if "kernels_" in name}
    assert kernels == {2, 4, 6, 8}


# --- two tasks, one way to read them


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_loads_back_equal(name: str, tmp_path: Path) -> None:
    config = load_classification_config(name, ["data.classes=[a, b]", "train.start=some/weights.pt"])
    (tmp_path / "dumped.yaml").write_text(dump(config), encoding="utf-8")
    assert load_classification_config(tmp_path / "dumped.yaml") == config


def test_the_task_decides_the_kind_of_config(tmp_path: Path) -> None:
    assert isinstance(load_any_config("quickstart"), Config)
    assert isinstance(load_any_config("imagenet/static_resnet10"), ClassificationConfig)
    (tmp_path / "mine.yaml").write_text("task: classification")
    assert load_any_config(tmp_path / "mine.yaml") == ClassificationConfig(name="mine")


def test_a_config_of_the_other_task_is_answered_by_its_tools() -> None:
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
        ("augment.crop_area=[0.5, 0.1]", "crop_area must be two shares of the area, the smaller first, got [0.5, 0.1]"),
        ("augment.crop_area=[0.5, 2]", "crop_area must be two shares"),
        ("data.classes=[a]", "data.classes: expected at least 2 items"),
        ("data.classes=[a, b, a]", "classes must be different, got ['a'] more than once"),
    ],
)
def test_a_mistake_is_explained(override: str, expected: str) -> None:
    text = message("imagenet/dy_mobilenetv2_w0.5", override)
    assert text.startswith("command line: ") or expected in text
    assert expected in text


def test_every_value_has_its_origin() -> None:
    rows = {key: (value, where) for key, value, where in config_with_origin("imagenet/dy_mobilenetv2_w0.75")}
    assert rows["train.dropout"] == (0.1, "configs/imagenet/static_mobilenetv2_w0.75.yaml:7")
    assert rows["train.momentum"][1].startswith("configs/_base_/imagenet.yaml:")
    assert rows["train.schedule"][1].startswith("configs/_base_/imagenet_mobilenetv2.yaml:")


def test_the_schema_is_the_tasks() -> None:
    assert "mixup" in json_schema("classification")["$defs"]["ClassifierTrainConfig"]["properties"]
    assert "mixup" not in str(json_schema())


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        ClassificationConfig().train.epochs = 3  # type: ignore[misc]
