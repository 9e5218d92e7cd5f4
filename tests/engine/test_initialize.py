"""Weight initialization: pretrained weights, inflation and calibration, alone and at the start of training."""

import logging
from copy import deepcopy

import pytest
import torch
import torchvision
from torch import nn

from pose.config.skeleton import SkeletonConfig
from pose.engine import initialize, trainer
from pose.engine.calibration import calibrate_attention, calibrate_batch_norm
from pose.engine.initialize import load_pretrained
from pose.errors import CheckpointError
from pose.models import build_classifier, build_pose_net
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear
from pose.models.inflate import inflate
from pose.models.kernel_attention import KernelAttention, set_temperature
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net, write_weights
from pose.skeleton import COCO
from pose.tools.train import train_pose as train

STATIC = ("model.dynamic_backbone=false", "model.dynamic_head=false")
DYNAMIC = ("model.dynamic_backbone=true", "model.dynamic_head=true")
CONDCONV_LAYERS = ((DynamicConv2d, (3,)), (DynamicLinear, ()))


def randomize(model):
    """Draw weights like a trained model's: activations of similar scale in all layers, random batch-norm statistics."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def batch_norms(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}


@torch.no_grad()
def assert_same_outputs(one, other):
    """Compare outputs in double precision; a deep random model amplifies the rounding of float32 weights."""
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    expected = deepcopy(other).double().eval()(images)
    assert expected.std() > 0
    actual = deepcopy(one).double().eval()(images)
    assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


def named_attentions(model):
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, KernelAttention)]


def attentions(model):
    return [layer for _, layer in named_attentions(model)]


def assert_same_state(actual, expected):
    torch.testing.assert_close(dict(actual), dict(expected), rtol=0, atol=0)


# --- calibrate_batch_norm


@pytest.fixture(params=[STATIC, DYNAMIC], ids=["static", "dynamic"])
def model(request, tiny_config):
    model = randomize(build_pose_net(tiny_config(*request.param))).double()
    for layer in model.modules():
        if isinstance(layer, DynamicConv2d):
            nn.init.normal_(layer.attention.fc2.weight, std=10)
    return model


@torch.no_grad()
def test_calibrate_batch_norm_keeps_the_outputs_and_makes_both_modes_agree(model):
    calibration_images = torch.randn(6, 3, 64, 64, dtype=torch.double) * 2 + 1
    other_images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    train_outputs = deepcopy(model).train()(calibration_images)
    model.eval()
    expected, expected_other = model(calibration_images), model(other_images)
    assert (train_outputs - expected).abs().max() > 0.1 * expected.abs().max()  # the modes differ before calibration

    calibrate_batch_norm(model, calibration_images)

    torch.testing.assert_close(model(calibration_images), expected)
    torch.testing.assert_close(model(other_images), expected_other)
    torch.testing.assert_close(model.train()(calibration_images), expected)


@torch.no_grad()
def test_calibrate_batch_norm_sets_the_statistics_of_the_inputs(model):
    images = torch.randn(6, 3, 64, 64, dtype=torch.double)
    inputs = {}
    hooks = [
        layer.register_forward_hook(lambda _, arguments, __, name=name: inputs.update({name: arguments[0]}))
        for name, layer in batch_norms(model).items()
    ]
    model.eval()(images)
    for hook in hooks:
        hook.remove()

    calibrate_batch_norm(model, images)

    for name, layer in batch_norms(model).items():
        per_channel = inputs[name].transpose(0, 1).flatten(1)
        torch.testing.assert_close(layer.running_mean, per_channel.mean(1))
        torch.testing.assert_close(layer.running_var, per_channel.var(1, correction=0))


@pytest.mark.parametrize("training", [True, False])
def test_calibrate_batch_norm_restores_the_mode_and_removes_its_hooks(training, model):
    images = torch.randn(4, 3, 64, 64, dtype=torch.double)
    model.train(training)

    calibrate_batch_norm(model, images)
    assert model.training == training
    with pytest.raises(RuntimeError):
        calibrate_batch_norm(model, images[:, :2])
    assert model.training == training
    state = deepcopy(model.state_dict())
    model.eval()(images + 5)

    assert_same_state(model.state_dict(), state)
    assert all(parameter.grad_fn is None and parameter.requires_grad for parameter in model.parameters())


# --- calibrate_attention


def static_and_inflated(tiny_config, *overrides):
    """Return a static model, and the dynamic model inflated from it."""
    static = randomize(build_pose_net(tiny_config(*STATIC)))
    model = build_pose_net(tiny_config(*DYNAMIC, *overrides))
    model.load_state_dict(inflate(static.state_dict(), model))
    return static.double().eval(), model.double().eval()


@torch.no_grad()
def module_inputs(model, modules, images):
    """Return the input of each module in a forward pass."""
    inputs = []
    hooks = [module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0])) for module in modules]
    model(images)
    for hook in hooks:
        hook.remove()
    return inputs


@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_calibrate_attention_standardizes_the_logits_and_keeps_the_outputs(temperature, tiny_config):
    static, model = static_and_inflated(tiny_config)
    set_temperature(model, temperature)
    images = torch.randn(16, 3, 64, 64, dtype=torch.double) + torch.randn(16, 3, 1, 1, dtype=torch.double)

    calibrate_attention(model, attentions(model), images)

    assert_same_outputs(model, static)
    for layer, x in zip(attentions(model), module_inputs(model, attentions(model), images), strict=True):
        logits = layer.fc2(layer.fc1(x.mean((2, 3))).clamp(min=0)) / temperature
        varying = logits.std(0) > 0.5  # a logit that hardly varied is not amplified to deviation 1
        assert varying.any()
        torch.testing.assert_close(logits.mean(0), torch.zeros_like(logits[0]), rtol=0, atol=1e-6)
        torch.testing.assert_close(logits.std(0)[varying], torch.ones_like(logits[0])[varying], rtol=0, atol=1e-6)


def test_calibrate_attention_standardizes_the_inputs_of_the_first_layer(tiny_config):
    _, model = static_and_inflated(tiny_config)
    before = deepcopy(model)
    images = torch.randn(16, 3, 64, 64, dtype=torch.double)

    calibrate_attention(model, attentions(model), images)

    for new, old, x in zip(
        attentions(model), attentions(before), module_inputs(model, attentions(model), images), strict=True
    ):
        means = x.mean((2, 3))
        deviation = means.std(0).clamp(min=0.1 * means.std(0).mean())
        torch.testing.assert_close(new.fc1(means), old.fc1((means - means.mean(0)) / deviation))


def test_calibrate_attention_standardizes_the_logits_of_condconv():
    """Its linear layer, in a convolution and in a classifier."""
    conv, linear = (kind(6, 5, *size, num_kernels=8, attention="sigmoid") for kind, size in CONDCONV_LAYERS)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), linear).double()
    images = torch.randn(16, 6, 9, 9, dtype=torch.double) + torch.randn(16, 6, 1, 1, dtype=torch.double)

    calibrate_attention(model, attentions(model), images)

    for layer, x in zip(attentions(model), module_inputs(model, attentions(model), images), strict=True):
        logits = layer.fc2(x if x.dim() == 2 else x.mean((2, 3)))
        torch.testing.assert_close(logits.mean(0), torch.zeros_like(logits[0]), rtol=0, atol=1e-6)
        torch.testing.assert_close(logits.std(0), torch.ones_like(logits[0]), rtol=0, atol=1e-6)


def test_calibrate_attention_with_constant_inputs_stays_finite(tiny_config):
    _, model = static_and_inflated(tiny_config)

    calibrate_attention(model, attentions(model), torch.zeros(4, 3, 64, 64, dtype=torch.double))

    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_calibrate_attention_changes_only_the_given_attentions(tiny_config):
    _, model = static_and_inflated(tiny_config)
    before = deepcopy(model.state_dict())
    (name, attention), *_ = named_attentions(model)

    calibrate_attention(model, [attention], torch.randn(4, 3, 64, 64, dtype=torch.double))

    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"{name}.{weight}" for weight in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}


def test_training_calibrates_inflated_attention(tiny_config, dist, tmp_path):
    write_trained(tiny_config(*STATIC), tmp_path / "before")
    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'before'}")
    inflated = load_into_new(config, tmp_path / "before")[1]

    model = before_first_step(config, tmp_path / "run", dist).model

    for calibrated, before in zip(attentions(model), attentions(inflated), strict=True):
        assert calibrated.fc2.weight.std() > before.fc2.weight.std()


# --- load_pretrained


def write_trained(config, folder, **more):
    """Write a run folder with a randomized model, and return the model."""
    model = randomize(build_pose_net(config))
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json"), **more}, folder / "best.pt")
    return model


def load_into_new(config, path):
    """Return a newly initialized model, the model after `load_pretrained`, and its `Uncalibrated`."""
    model = build_pose_net(config)
    initialized = deepcopy(model)
    backbone = MobileNetV2(config.model.width, config.model.depth)
    return initialized, model, load_pretrained(model, path, backbone, config.keypoints.names)


def last_layer(head):
    return [name for name in head.state_dict() if name.startswith(f"{len(head) - 1}.")]


@pytest.mark.parametrize("path", ["", "best.pt"], ids=["folder", "file"])
def test_load_pretrained_loads_all_weights_of_the_same_model(path, tiny_config, tmp_path, caplog):
    expected = write_trained(tiny_config(*STATIC), tmp_path)

    with caplog.at_level(logging.INFO):
        _, model, uncalibrated = load_into_new(tiny_config(*STATIC), tmp_path / path)

    assert not uncalibrated.batch_norm
    assert not uncalibrated.attentions
    assert_same_state(model.state_dict(), expected.state_dict())
    assert caplog.text.count("weights loaded from") == 2
    assert "random initialization" not in caplog.text


def test_load_pretrained_loads_the_moving_average(tiny_config, tmp_path):
    average = randomize(build_pose_net(tiny_config(*STATIC)))
    write_trained(tiny_config(*STATIC), tmp_path, ema=average.state_dict())

    _, model, _ = load_into_new(tiny_config(*STATIC), tmp_path)

    assert_same_state(model.state_dict(), average.state_dict())


@pytest.mark.parametrize("before", [STATIC, DYNAMIC[:1], DYNAMIC[1:]], ids=["static", "backbone", "head"])
def test_an_inflated_model_has_the_outputs_of_its_source(before, tiny_config, tmp_path):
    expected = write_trained(tiny_config(*STATIC, *before), tmp_path)

    _, model, uncalibrated = load_into_new(tiny_config(*DYNAMIC), tmp_path)

    assert_same_outputs(model, expected)
    loaded_names = [name for name, _ in named_attentions(expected)]
    assert uncalibrated.attentions == [layer for name, layer in named_attentions(model) if name not in loaded_names]


def test_dynamic_weights_are_loaded_into_a_dynamic_model_unchanged(tiny_config, tmp_path):
    expected = write_trained(tiny_config(*DYNAMIC), tmp_path)

    _, model, uncalibrated = load_into_new(tiny_config(*DYNAMIC), tmp_path)

    assert_same_state(model.state_dict(), expected.state_dict())
    assert not uncalibrated.attentions


@pytest.mark.parametrize("head", ["type_a", "type_b"])
@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_with_other_keypoints_only_the_last_layer_keeps_its_initialization(form, head, tiny_config, tmp_path, caplog):
    form = form if head == "type_b" else form[:1]
    before = tiny_config(*STATIC, f"model.head={head}")
    config = tiny_config(*STATIC, *form, f"model.head={head}")
    config = config.model_copy(update={"skeleton": SkeletonConfig(names=("head", "tail"))})
    old = write_trained(before, tmp_path)

    with caplog.at_level(logging.INFO):
        initialized, model, _ = load_into_new(config, tmp_path)

    assert "except the last layer (other keypoints)" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for name in last_layer(model.head):
        assert torch.equal(model.head.state_dict()[name], initialized.head.state_dict()[name])
    assert len(last_layer(model.head)) == 2
    old.head[-1], model.head[-1] = nn.Identity(), nn.Identity()
    assert_same_outputs(model, old)


@pytest.mark.parametrize("count", [4, 17], ids=["other number", "same number"])
def test_rows_of_the_last_layer_are_loaded_by_keypoint_name(count, tiny_config, tmp_path, caplog):
    names = ("tail", "RightEye", "nose", "left_fin", *(f"fin_{index}" for index in range(count - 4)))
    config = tiny_config(*STATIC).model_copy(update={"skeleton": SkeletonConfig(names=names)})
    old = write_trained(tiny_config(*STATIC), tmp_path)

    with caplog.at_level(logging.INFO):
        initialized, model, _ = load_into_new(config, tmp_path)

    assert f"except {count - 2} of {count} rows of the last layer (other keypoints)" in caplog.text
    new, first, saved = model.head[-1], initialized.head[-1], old.head[-1]
    for row, source in {1: COCO.names.index("right_eye"), 2: COCO.names.index("nose")}.items():
        assert torch.equal(new.weight[row], saved.weight[source])
        assert torch.equal(new.bias[row], saved.bias[source])
    for row in (0, *range(3, count)):
        assert torch.equal(new.weight[row], first.weight[row])


@pytest.mark.parametrize("other", ["model.head=type_a", "model.head_width=0.5"])
def test_another_head_keeps_its_initialization_with_a_warning(other, tiny_config, tmp_path, caplog):
    old = write_trained(tiny_config(*STATIC), tmp_path)

    initialized, model, _ = load_into_new(tiny_config(*STATIC, other), tmp_path)

    assert_same_state(model.backbone.state_dict(), old.backbone.state_dict())
    assert_same_state(model.head.state_dict(), initialized.head.state_dict())
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "the head keeps its random initialization" in warning.getMessage()
    assert str(tmp_path) in warning.getMessage()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (STATIC, (*STATIC, "model.width=0.5")),
        (STATIC, (*STATIC, "model.depth=1")),
        (DYNAMIC, STATIC),
        (DYNAMIC, (*DYNAMIC, "model.num_kernels=2")),
    ],
    ids=["width", "depth", "dynamic to static", "kernels"],
)
def test_another_backbone_is_refused(before, after, tiny_config, tmp_path):
    write_trained(tiny_config(*before), tmp_path)

    with pytest.raises(CheckpointError, match=r"made for another model: .*differences\)") as caught:
        load_into_new(tiny_config(*after), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_torchvision_weights_are_loaded_into_the_backbone_only(form, tiny_config, tmp_path):
    source = randomize(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35)).eval()
    torch.save(source.state_dict(), tmp_path / "model.pth")

    initialized, model, uncalibrated = load_into_new(tiny_config(*form, "model.depth=1"), tmp_path / "model.pth")

    assert not uncalibrated.batch_norm
    assert uncalibrated.attentions == attentions(model.backbone)
    assert_same_outputs(model.backbone, source.features)
    assert_same_state(model.head.state_dict(), initialized.head.state_dict())


FAMILIES = {
    "mobilenet_v3_small": ("model.early_stride=false", "model.last_squeeze=false"),
    "resnet18": (),
}


@pytest.mark.parametrize(
    ("backbone", "form"),
    [
        ("mobilenet_v3_small", STATIC),
        ("mobilenet_v3_small", DYNAMIC),
        ("mobilenet_v3_small", (*DYNAMIC[:1], STATIC[1], "model.num_kernels=[4,1,2]")),
        ("resnet18", STATIC),
        ("resnet18", DYNAMIC),
        ("resnet18", (*DYNAMIC, "model.dynamic_shortcuts=true")),
        ("resnet18", (*DYNAMIC[:1], STATIC[1], "model.num_kernels=[1,4]")),
    ],
)
def test_training_starts_with_torchvision_weights_of_mobilenet_v3_and_resnet(
    backbone, form, tiny_config, dist, tmp_path
):
    source = randomize(getattr(torchvision.models, backbone)(weights=None))
    torch.save(source.state_dict(), tmp_path / "model.pth")

    options = (f"model.backbone={backbone}", "model.width=1", "model.depth=1", *FAMILIES[backbone], *form)
    state = before_first_step(tiny_config(*options, f"train.start={tmp_path / 'model.pth'}"), tmp_path, dist)

    features = source.features if hasattr(source, "features") else nn.Sequential(*list(source.children())[:-2])
    assert_same_outputs(state.model.backbone, features)


def test_torchvision_mobilenet_v3_weights_need_its_layer_options(tiny_config, dist, tmp_path):
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / "model.pth")
    config = tiny_config(
        "model.backbone=mobilenet_v3_small", "model.width=1", "model.depth=1", f"train.start={tmp_path / 'model.pth'}"
    )
    with pytest.raises(CheckpointError, match=r"model\.last_squeeze=false and model\.early_stride=false"):
        train(config, tmp_path, dist)


@pytest.mark.parametrize("name", ["none.pt", "none.pth", "none.onnx"])
def test_a_missing_file_is_named(name, tiny_config, tmp_path):
    if name.endswith("onnx"):
        pytest.importorskip("onnx", reason="needs onnx to read the file")
    with pytest.raises(CheckpointError, match=f"{name}: no such weight file"):
        load_into_new(tiny_config(*STATIC), tmp_path / name)


def test_an_empty_folder_is_named(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"neither best\.pt nor last\.pt"):
        load_into_new(tiny_config(*STATIC), tmp_path)


# --- weights of a classifier


@pytest.fixture
def classifier(tiny_classifier, tmp_path):
    """Return a function that writes a run folder with a randomized classifier and returns the model."""

    def make(*overrides):
        config = tiny_classifier("data.classes=[disc, ring, square]", *overrides)
        model = randomize(build_classifier(config))
        write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "best.pt")
        return model

    return make


SAME_BACKBONE = ("model.width=0.35", "model.depth=0.4")


@pytest.mark.parametrize(
    ("before", "after"),
    [(False, STATIC), (True, DYNAMIC), (False, DYNAMIC), (False, (*DYNAMIC, "model.num_kernels=2"))],
    ids=["static", "dynamic", "inflated", "inflated to two"],
)
def test_a_pose_net_loads_the_backbone_of_a_classifier(before, after, classifier, tiny_config, tmp_path, caplog):
    old = classifier(*SAME_BACKBONE, f"model.dynamic_backbone={before}")

    with caplog.at_level(logging.INFO):
        initialized, model, uncalibrated = load_into_new(tiny_config(*after), tmp_path)

    assert not uncalibrated.batch_norm
    assert_same_outputs(model.backbone, old.backbone)
    assert_same_state(model.head.state_dict(), initialized.head.state_dict())
    assert "the head keeps its random initialization: " in caplog.text
    assert "is of a classification model" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_training_starts_with_the_backbone_of_a_classifier(classifier, tiny_config, dist, tmp_path):
    old = classifier(*SAME_BACKBONE, "model.dynamic_backbone=false")

    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'best.pt'}")
    state = before_first_step(config, tmp_path / "run", dist)

    assert_same_outputs(state.model.backbone, old.backbone)


@pytest.mark.parametrize(("temperature", "warns"), [(1, False), (30, True)])
def test_attention_trained_at_another_temperature_logs_a_warning(
    temperature, warns, classifier, tiny_config, dist, tmp_path, caplog
):
    """The ImageNet recipe ends at temperature 1, the COCO recipe uses 30: other attention, so other features."""
    old = classifier(*SAME_BACKBONE)
    for layer in old.modules():
        if isinstance(layer, DynamicConv2d):
            nn.init.normal_(layer.attention.fc2.weight, std=2)
    set_temperature(old, 1)
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    write_weights({**content, "model": old.state_dict()}, tmp_path / "best.pt")

    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'best.pt'}", f"train.temperature={temperature}")
    state = before_first_step(config, tmp_path / "run", dist)

    text = "its attention was trained at temperature 1; train.temperature=1 keeps its features"
    assert (text in caplog.text) == warns
    if warns:
        with pytest.raises(AssertionError):
            assert_same_outputs(state.model.backbone, old.backbone)
    else:
        assert_same_outputs(state.model.backbone, old.backbone)


def test_a_classifier_of_another_width_is_refused(classifier, tiny_config, tmp_path):
    classifier("model.width=0.5", "model.depth=0.4", "model.dynamic_backbone=false")

    with pytest.raises(CheckpointError, match="made for another model"):
        load_into_new(tiny_config(*STATIC), tmp_path)


def test_a_classifier_loads_the_backbone_of_a_pose_net(tiny_classifier, tiny_config, tmp_path, caplog):
    old = write_trained(tiny_config(*STATIC), tmp_path)
    model = build_classifier(tiny_classifier(*SAME_BACKBONE))

    with caplog.at_level(logging.INFO):
        load_pretrained(model, tmp_path, MobileNetV2(0.35, 0.4))

    assert_same_outputs(model.backbone, old.backbone)
    assert "is of a pose model" in caplog.text


CONDCONV = (
    "model.dynamic_classifier=true", "model.dynamic_last=true", "model.attention=sigmoid", "model.num_kernels=8"
)  # fmt: skip


@pytest.mark.parametrize("classes", ["[disc, ring, square]", "[a, b]"], ids=["same classes", "other classes"])
def test_a_static_classifier_is_inflated_into_condconv(classes, classifier, tiny_classifier, tmp_path, caplog):
    old = classifier(*SAME_BACKBONE, "model.dynamic_backbone=false")
    model = build_classifier(tiny_classifier(*SAME_BACKBONE, *CONDCONV, f"data.classes={classes}"))
    own_classifier = deepcopy(model.head[-1])

    with caplog.at_level(logging.INFO):
        uncalibrated = load_pretrained(model, tmp_path, MobileNetV2(0.35, 0.4))

    assert isinstance(model.head[-1], DynamicLinear)
    assert_same_outputs(model.backbone, old.backbone)
    if classes == "[a, b]":
        assert "except the last layer (other classes)" in caplog.text
        assert_same_state(model.head[-1].state_dict(), own_classifier.state_dict())
        assert uncalibrated.attentions == attentions(model.backbone)
    else:
        assert_same_outputs(model, old)
        assert uncalibrated.attentions == attentions(model)


def test_a_dynamic_classifier_is_not_loaded_into_a_static_one(classifier, tiny_classifier, tmp_path, caplog):
    static_backbone = (*SAME_BACKBONE, "model.dynamic_backbone=false")
    old = classifier(*static_backbone, "model.dynamic_classifier=true")
    model = build_classifier(tiny_classifier(*static_backbone, "data.classes=[disc, ring, square]"))
    own_classifier = deepcopy(model.head[-1])

    with caplog.at_level(logging.INFO):
        load_pretrained(model, tmp_path, MobileNetV2(0.35, 0.4))

    assert_same_outputs(model.backbone, old.backbone)
    assert_same_state(model.head[-1].state_dict(), own_classifier.state_dict())
    assert "except the last layer" in caplog.text


def test_a_classifier_loads_the_backbone_of_torchvision(tiny_classifier, tmp_path):
    source = randomize(torchvision.models.mobilenet_v2())
    torch.save(source.state_dict(), tmp_path / "mobilenet_v2.pth")
    model = build_classifier(tiny_classifier("model.width=1", "model.depth=1", "model.dynamic_backbone=false"))

    load_pretrained(model, tmp_path / "mobilenet_v2.pth", MobileNetV2())

    assert_same_outputs(model.backbone, source.features)


# --- train.start and train.backbone_learning_rate in a run


def before_first_step(config, folder, dist, resume=None):
    """Return the training state before the first step of a run."""
    states = []

    def interrupt(state, *_):
        states.append(state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "train_one_epoch", interrupt)
        train(config, folder, dist, resume)
    return states[0]


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_training_starts_with_the_outputs_of_the_pretrained_model(form, tiny_config, dist, tmp_path):
    config = tiny_config(*STATIC, "train.ema_decay=0.9")
    expected = write_trained(config, tmp_path / "before")

    config = tiny_config(*form, "train.ema_decay=0.9", f"train.start={tmp_path / 'before'}")
    state = before_first_step(config, tmp_path / "run", dist)

    assert_same_outputs(state.model, expected)
    assert_same_outputs(state.best_model, expected)
    assert state.progress.global_step == 0
    assert all(parameter.requires_grad for parameter in state.model.parameters())


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_training_starts_with_torchvision_weights_of_mobilenet_v2(form, tiny_config, dist, tmp_path):
    source = randomize(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35))
    torch.save(source.state_dict(), tmp_path / "model.pth")

    config = tiny_config(*form, "model.depth=1", f"train.start={tmp_path / 'model.pth'}")
    state = before_first_step(config, tmp_path, dist)

    assert_same_outputs(state.model.backbone, source.features)


def test_train_start_default_loads_the_packaged_model(tiny_config, dist, tmp_path):
    config = tiny_config(*STATIC, "model.width=1", "model.depth=1", "model.head_width=1", "train.start=default")

    model = before_first_step(config, tmp_path, dist).model

    packaged, _ = load_pose_net(DEFAULT_WEIGHTS)
    assert_same_state(model.backbone.state_dict(), packaged.backbone.state_dict())


def test_without_train_start_the_seed_determines_the_weights(tiny_config, dist, tmp_path):
    config = tiny_config(*DYNAMIC)
    torch.manual_seed(config.seed)
    expected = build_pose_net(config)

    assert_same_state(before_first_step(config, tmp_path, dist).model.state_dict(), expected.state_dict())


def test_a_resumed_run_does_not_load_train_start(tiny_config, dist, tmp_path):
    write_trained(tiny_config(*STATIC), tmp_path / "before")
    config = tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", "train.epochs=1")
    train(config, tmp_path / "run", dist)
    (tmp_path / "before/best.pt").unlink()

    longer = tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", "train.epochs=2")
    state = before_first_step(longer, tmp_path / "run", dist, resume=tmp_path / "run/last.pt")

    saved = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert_same_state(state.model.state_dict(), saved["model"])
    assert state.progress.epoch == 1


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_backbone_with_fused_batch_norm_is_calibrated_but_a_new_head_is_not(
    form, tiny_config, dist, tmp_path, monkeypatch
):
    """A model with placeholder statistics replaces MoveNet's file, as `from_movenet` returns it."""
    backbone = randomize(MobileNetV2())
    for layer in batch_norms(backbone).values():
        layer.reset_running_stats()
    monkeypatch.setattr(initialize, "from_movenet", lambda path: deepcopy(backbone.state_dict()))
    config = tiny_config(*form, "model.width=1", "model.depth=1", f"train.start={tmp_path / 'model.onnx'}")
    torch.manual_seed(config.seed)
    initialized = build_pose_net(config)

    model = before_first_step(config, tmp_path, dist).model

    assert_same_outputs(model.backbone, backbone)
    calibrated, placeholder = batch_norms(model.backbone), batch_norms(backbone)
    assert all(
        not torch.allclose(calibrated[name].running_mean, placeholder[name].running_mean) for name in placeholder
    )
    assert all(layer.num_batches_tracked == 0 for layer in calibrated.values())
    # With calibrated batch norm, a new head would keep its small activations and hardly learn.
    assert_same_state(model.head.state_dict(), initialized.head.state_dict())


def test_backbone_and_head_are_trained_with_separate_learning_rates(tiny_config, dist, tmp_path):
    rates = ("train.learning_rate=0.01", "train.backbone_learning_rate=1e-9", "train.epochs=1", "train.schedule=steps")
    old = write_trained(tiny_config(*STATIC), tmp_path / "before")

    train(tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", *rates), tmp_path / "run", dist)

    groups = torch.load(tmp_path / "run/last.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-9, 0.01])
    sizes = [len(list(part.parameters())) for part in (old.backbone, old.head)]
    assert [len(group["params"]) for group in groups] == sizes
    model, _ = load_pose_net(tmp_path / "run/last.pt")
    for part, low, high in (("backbone", 0, 1e-6), ("head", 1e-3, 1)):
        pairs = zip(model.get_submodule(part).parameters(), old.get_submodule(part).parameters(), strict=True)
        change = max((one - other).abs().max().item() for one, other in pairs)
        assert low <= change <= high, part


def test_a_checkpoint_with_other_parameter_groups_is_refused_with_advice(tiny_config, dist, tmp_path):
    """A checkpoint whose optimizer has one parameter group for all weights."""
    config, path = tiny_config(*STATIC, "train.epochs=1"), tmp_path / "last.pt"
    train(config, tmp_path, dist)
    content = torch.load(path, weights_only=True)
    backbone, head = content["optimizer"]["param_groups"]
    content["optimizer"]["param_groups"] = [backbone | {"params": backbone["params"] + head["params"]}]
    write_weights(content, path)

    with pytest.raises(CheckpointError, match=r"last\.pt: its optimizer state .* train\.start=.*last\.pt") as caught:
        train(tiny_config(*STATIC, "train.epochs=2"), tmp_path, dist, resume=path)
    assert "\n" not in str(caught.value)
    state = before_first_step(tiny_config(*STATIC, f"train.start={path}"), tmp_path / "new", dist)
    assert_same_state(state.model.state_dict(), content["model"])
