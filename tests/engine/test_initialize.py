"""A run that starts from trained weights: it begins as the model that it was given, and says what it could not take."""

import logging
from copy import deepcopy

import pytest
import torch
import torchvision
from torch import nn

from pose.config.pose import SkeletonConfig
from pose.engine import initialize as start_module
from pose.engine import trainer as run_module
from pose.engine.calibration import calibrate_attention, calibrate_batch_norm
from pose.engine.initialize import load_pretrained
from pose.errors import CheckpointError
from pose.models import build_classifier, build_pose_net
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.inflate import inflate
from pose.models.kernel_attention import KernelAttention, set_temperature
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net, write_weights
from pose.tools.train import train_pose as train

STATIC = ("model.dynamic_backbone=false", "model.dynamic_head=false")
DYNAMIC = ("model.dynamic_backbone=true", "model.dynamic_head=true")


def lively(net):
    """As after training: signals of one size throughout, and a batch norm that does something in evaluation."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net


def batch_norms(net):
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d)}


@torch.no_grad()
def assert_same_outputs(one, other):
    """In double precision; weights of single precision differ by rounding, which so deep a random model magnifies."""
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    expected = deepcopy(other).double().eval()(images)
    assert expected.std() > 0
    found = deepcopy(one).double().eval()(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def named_attentions(net):
    return [(name, layer) for name, layer in net.named_modules() if isinstance(layer, KernelAttention)]


def attentions(net):
    return [layer for _, layer in named_attentions(net)]


def assert_same_state(found, expected):
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)


# --- calibrate_batch_norm


@pytest.fixture(params=[STATIC, DYNAMIC], ids=["static", "dynamic"])
def net(request, tiny_config):
    made = lively(build_pose_net(tiny_config(*request.param))).double()
    for layer in made.modules():
        if isinstance(layer, DynamicConv2d):
            nn.init.normal_(layer.attention.fc2.weight, std=10)
    return made


@torch.no_grad()
def test_calibration_leaves_the_outputs_and_makes_both_modes_agree(net):
    seen = torch.randn(6, 3, 64, 64, dtype=torch.double) * 2 + 1
    others = torch.randn(3, 3, 64, 64, dtype=torch.double)
    in_training = deepcopy(net).train()(seen)
    net.eval()
    before_seen, before_others = net(seen), net(others)
    assert (in_training - before_seen).abs().max() > 0.1 * before_seen.abs().max()  # they did not agree

    calibrate_batch_norm(net, seen)

    torch.testing.assert_close(net(seen), before_seen)
    torch.testing.assert_close(net(others), before_others)
    torch.testing.assert_close(net.train()(seen), before_seen)


@torch.no_grad()
def test_the_statistics_are_those_of_the_inputs(net):
    seen = torch.randn(6, 3, 64, 64, dtype=torch.double)
    inputs = {}
    hooks = [
        layer.register_forward_hook(lambda _, arguments, __, name=name: inputs.update({name: arguments[0]}))
        for name, layer in batch_norms(net).items()
    ]
    net.eval()(seen)
    for hook in hooks:
        hook.remove()

    calibrate_batch_norm(net, seen)

    for name, layer in batch_norms(net).items():
        per_channel = inputs[name].transpose(0, 1).flatten(1)
        torch.testing.assert_close(layer.running_mean, per_channel.mean(1))
        torch.testing.assert_close(layer.running_var, per_channel.var(1, correction=0))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_in_its_mode_and_keeps_nothing_of_the_calibration(training, net):
    seen = torch.randn(4, 3, 64, 64, dtype=torch.double)
    net.train(training)

    calibrate_batch_norm(net, seen)
    assert net.training == training
    with pytest.raises(RuntimeError):
        calibrate_batch_norm(net, seen[:, :2])
    assert net.training == training
    state = deepcopy(net.state_dict())
    net.eval()(seen + 5)

    assert_same_state(net.state_dict(), state)
    assert all(parameter.grad_fn is None and parameter.requires_grad for parameter in net.parameters())


# --- calibrate_attention


def dynamic_twin(tiny_config, *overrides):
    """A static model, and the same inflated."""
    static = lively(build_pose_net(tiny_config(*STATIC)))
    net = build_pose_net(tiny_config(*DYNAMIC, *overrides))
    net.load_state_dict(inflate(static.state_dict(), net))
    return static.double().eval(), net.double().eval()


@torch.no_grad()
def entering(net, modules, images):
    """What enters each module."""
    found = []
    hooks = [module.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0])) for module in modules]
    net(images)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_calibrated_attention_weighs_inputs_differently_and_the_outputs_stay(temperature, tiny_config):
    static, net = dynamic_twin(tiny_config)
    set_temperature(net, temperature)
    seen = torch.randn(16, 3, 64, 64, dtype=torch.double) + torch.randn(16, 3, 1, 1, dtype=torch.double)

    calibrate_attention(net, attentions(net), seen)

    assert_same_outputs(net, static)
    for layer, x in zip(attentions(net), entering(net, attentions(net), seen), strict=True):
        logits = layer.fc2(layer.fc1(x.mean((2, 3))).clamp(min=0)) / temperature
        live = logits.std(0) > 0.5  # a kernel whose logit hardly varied is not blown up to full size
        assert live.any()
        torch.testing.assert_close(logits.mean(0), torch.zeros_like(logits[0]), rtol=0, atol=1e-6)
        torch.testing.assert_close(logits.std(0)[live], torch.ones_like(logits[0])[live], rtol=0, atol=1e-6)


def test_the_hidden_units_see_inputs_of_deviation_one(tiny_config):
    _, net = dynamic_twin(tiny_config)
    before = deepcopy(net)
    seen = torch.randn(16, 3, 64, 64, dtype=torch.double)

    calibrate_attention(net, attentions(net), seen)

    for new, old, x in zip(attentions(net), attentions(before), entering(net, attentions(net), seen), strict=True):
        means = x.mean((2, 3))
        deviation = means.std(0).clamp(min=0.1 * means.std(0).mean())
        torch.testing.assert_close(new.fc1(means), old.fc1((means - means.mean(0)) / deviation))


def test_inputs_that_are_all_alike_leave_the_attention_finite(tiny_config):
    _, net = dynamic_twin(tiny_config)

    calibrate_attention(net, attentions(net), torch.zeros(4, 3, 64, 64, dtype=torch.double))

    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_only_the_attentions_that_are_given_change(tiny_config):
    _, net = dynamic_twin(tiny_config)
    before = deepcopy(net.state_dict())
    chosen, *_ = named_attentions(net)

    calibrate_attention(net, [chosen[1]], torch.randn(4, 3, 64, 64, dtype=torch.double))

    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{chosen[0]}.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}


def test_a_run_calibrates_what_it_inflates(tiny_config, alone, tmp_path):
    trained(tiny_config(*STATIC), tmp_path / "before")
    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'before'}")
    drawn = start(config, tmp_path / "before")[1]

    net = before_first_step(config, tmp_path / "now", alone).model

    for ours, theirs in zip(attentions(net), attentions(drawn), strict=True):
        assert ours.fc2.weight.std() > theirs.fc2.weight.std()


# --- load_start


def trained(config, folder, **more):
    """A run folder with a model that is as if trained, and the model."""
    net = lively(build_pose_net(config))
    write_weights({"model": net.state_dict(), "config": config.model_dump(mode="json"), **more}, folder / "best.pt")
    return net


def start(config, path):
    """A new model, as it was drawn and as it starts."""
    net = build_pose_net(config)
    drawn = deepcopy(net)
    return drawn, net, load_pretrained(net, path, MobileNetV2(config.model.width, config.model.depth))


def last_layer(head):
    return [name for name in head.state_dict() if name.startswith(f"{len(head) - 1}.")]


@pytest.mark.parametrize("path", ["", "best.pt"], ids=["folder", "file"])
def test_all_of_our_own_model_is_taken(path, tiny_config, tmp_path, caplog):
    expected = trained(tiny_config(*STATIC), tmp_path)

    with caplog.at_level(logging.INFO):
        _, net, wanting = start(tiny_config(*STATIC), tmp_path / path)

    assert not wanting.batch_norm
    assert not wanting.attentions
    assert_same_state(net.state_dict(), expected.state_dict())
    assert caplog.text.count("weights loaded from") == 2
    assert "anew" not in caplog.text


def test_the_moving_average_is_what_a_run_starts_from(tiny_config, tmp_path):
    average = lively(build_pose_net(tiny_config(*STATIC)))
    trained(tiny_config(*STATIC), tmp_path, ema=average.state_dict())

    _, net, _ = start(tiny_config(*STATIC), tmp_path)

    assert_same_state(net.state_dict(), average.state_dict())


@pytest.mark.parametrize("before", [STATIC, DYNAMIC[:1], DYNAMIC[1:]], ids=["static", "backbone", "head"])
def test_a_dynamic_model_starts_with_the_outputs_of_a_less_dynamic_one(before, tiny_config, tmp_path):
    expected = trained(tiny_config(*STATIC, *before), tmp_path)

    _, net, wanting = start(tiny_config(*DYNAMIC), tmp_path)

    assert_same_outputs(net, expected)
    trained_ones = [name for name, _ in named_attentions(expected)]
    assert wanting.attentions == [layer for name, layer in named_attentions(net) if name not in trained_ones]


def test_a_dynamic_model_goes_on_from_a_dynamic_one(tiny_config, tmp_path):
    expected = trained(tiny_config(*DYNAMIC), tmp_path)

    _, net, wanting = start(tiny_config(*DYNAMIC), tmp_path)

    assert_same_state(net.state_dict(), expected.state_dict())
    assert not wanting.attentions


@pytest.mark.parametrize("head", ["type_a", "type_b"])
@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_for_other_keypoints_only_the_last_layer_is_new(form, head, tiny_config, tmp_path, caplog):
    form = form if head == "type_b" else form[:1]
    before = tiny_config(*STATIC, f"model.head={head}")
    config = tiny_config(*STATIC, *form, f"model.head={head}")
    config = config.model_copy(update={"skeleton": SkeletonConfig(names=("head", "tail"))})
    old = trained(before, tmp_path)

    with caplog.at_level(logging.INFO):
        drawn, net, _ = start(config, tmp_path)

    assert "except the last layer (other keypoints)" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for name in last_layer(net.head):
        assert torch.equal(net.head.state_dict()[name], drawn.head.state_dict()[name])
    assert len(last_layer(net.head)) == 2
    old.head[-1], net.head[-1] = nn.Identity(), nn.Identity()
    assert_same_outputs(net, old)


@pytest.mark.parametrize("other", ["model.head=type_a", "model.head_width=0.5"])
def test_another_head_starts_anew_with_a_warning(other, tiny_config, tmp_path, caplog):
    old = trained(tiny_config(*STATIC), tmp_path)

    drawn, net, _ = start(tiny_config(*STATIC, other), tmp_path)

    assert_same_state(net.backbone.state_dict(), old.backbone.state_dict())
    assert_same_state(net.head.state_dict(), drawn.head.state_dict())
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
    trained(tiny_config(*before), tmp_path)

    with pytest.raises(CheckpointError, match=r"made for another model: .*differences\)") as caught:
        start(tiny_config(*after), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_torchvisions_weights_go_into_the_backbone_alone(form, tiny_config, tmp_path):
    theirs = lively(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35)).eval()
    torch.save(theirs.state_dict(), tmp_path / "model.pth")

    drawn, net, wanting = start(tiny_config(*form, "model.depth=1"), tmp_path / "model.pth")

    assert not wanting.batch_norm
    assert wanting.attentions == attentions(net.backbone)
    assert_same_outputs(net.backbone, theirs.features)
    assert_same_state(net.head.state_dict(), drawn.head.state_dict())


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
        ("resnet18", (*DYNAMIC[:1], STATIC[1], "model.num_kernels=[1,4]")),
    ],
)
def test_a_run_begins_with_the_features_of_torchvisions_other_families(backbone, form, tiny_config, alone, tmp_path):
    theirs = lively(getattr(torchvision.models, backbone)(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "model.pth")

    options = (f"model.backbone={backbone}", "model.width=1", "model.depth=1", *FAMILIES[backbone], *form)
    state = before_first_step(tiny_config(*options, f"train.start={tmp_path / 'model.pth'}"), tmp_path, alone)

    features = theirs.features if hasattr(theirs, "features") else nn.Sequential(*list(theirs.children())[:-2])
    assert_same_outputs(state.model.backbone, features)


def test_torchvisions_mobilenet_v3_wants_its_form(tiny_config, alone, tmp_path):
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / "model.pth")
    config = tiny_config(
        "model.backbone=mobilenet_v3_small", "model.width=1", "model.depth=1", f"train.start={tmp_path / 'model.pth'}"
    )
    with pytest.raises(CheckpointError, match=r"model\.last_squeeze=false and model\.early_stride=false"):
        train(config, tmp_path, alone)


@pytest.mark.parametrize("name", ["none.pt", "none.pth", "none.onnx"])
def test_a_file_that_is_not_there_is_named(name, tiny_config, tmp_path):
    if name.endswith("onnx"):
        pytest.importorskip("onnx", reason="needs onnx to look for the file")
    with pytest.raises(CheckpointError, match=f"{name}: no such weight file"):
        start(tiny_config(*STATIC), tmp_path / name)


def test_an_empty_folder_is_named(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"neither best\.pt nor last\.pt"):
        start(tiny_config(*STATIC), tmp_path)


# --- a classifier's weights


@pytest.fixture
def classifier(tiny_classifier, tmp_path):
    """Make a run folder of a classifier that is as if trained, and return the model."""

    def make(*overrides, task="classification"):
        config = tiny_classifier("data.classes=[disc, ring, square]", *overrides)
        net = lively(build_classifier(config))
        write_weights({"model": net.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "best.pt")
        return net

    return make


SAME_BACKBONE = ("model.width=0.35", "model.depth=0.4")


@pytest.mark.parametrize(
    ("before", "after"),
    [(False, STATIC), (True, DYNAMIC), (False, DYNAMIC), (False, (*DYNAMIC, "model.num_kernels=2"))],
    ids=["static", "dynamic", "inflated", "inflated to two"],
)
def test_a_pose_net_starts_with_the_features_of_a_classifier(before, after, classifier, tiny_config, tmp_path, caplog):
    old = classifier(*SAME_BACKBONE, f"model.dynamic_backbone={before}")

    with caplog.at_level(logging.INFO):
        drawn, net, wanting = start(tiny_config(*after), tmp_path)

    assert not wanting.batch_norm
    assert_same_outputs(net.backbone, old.backbone)
    assert_same_state(net.head.state_dict(), drawn.head.state_dict())
    assert "the head keeps its random initialization: " in caplog.text
    assert "is of a classification model" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_run_begins_with_a_classifiers_features(classifier, tiny_config, alone, tmp_path):
    old = classifier(*SAME_BACKBONE, "model.dynamic_backbone=false")

    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'best.pt'}")
    state = before_first_step(config, tmp_path / "now", alone)

    assert_same_outputs(state.model.backbone, old.backbone)


@pytest.mark.parametrize(("temperature", "warns"), [(1, False), (30, True)])
def test_attention_trained_at_another_temperature_is_pointed_out(
    temperature, warns, classifier, tiny_config, alone, tmp_path, caplog
):
    """ImageNet's recipe ends at 1, COCO's stays at 30: another attention, other features."""
    old = classifier(*SAME_BACKBONE)
    for layer in old.modules():
        if isinstance(layer, DynamicConv2d):
            nn.init.normal_(layer.attention.fc2.weight, std=2)
    set_temperature(old, 1)
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    write_weights({**content, "model": old.state_dict()}, tmp_path / "best.pt")

    config = tiny_config(*DYNAMIC, f"train.start={tmp_path / 'best.pt'}", f"train.temperature={temperature}")
    state = before_first_step(config, tmp_path / "now", alone)

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
        start(tiny_config(*STATIC), tmp_path)


def test_a_classifier_starts_from_a_pose_net(tiny_classifier, tiny_config, tmp_path, caplog):
    old = trained(tiny_config(*STATIC), tmp_path)
    net = build_classifier(tiny_classifier(*SAME_BACKBONE))

    with caplog.at_level(logging.INFO):
        load_pretrained(net, tmp_path, MobileNetV2(0.35, 0.4))

    assert_same_outputs(net.backbone, old.backbone)
    assert "is of a pose model" in caplog.text


def test_a_classifier_starts_from_torchvisions(tiny_classifier, tmp_path):
    theirs = lively(torchvision.models.mobilenet_v2())
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v2.pth")
    net = build_classifier(tiny_classifier("model.width=1", "model.depth=1", "model.dynamic_backbone=false"))

    load_pretrained(net, tmp_path / "mobilenet_v2.pth", MobileNetV2())

    assert_same_outputs(net.backbone, theirs.features)


# --- train.start and train.backbone_learning_rate in a run


def before_first_step(config, folder, alone, resume=None):
    """What the first step of a run finds."""
    found = []

    def stop(state, *_):
        found.append(state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "train_one_epoch", stop)
        train(config, folder, alone, resume)
    return found[0]


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_run_begins_as_the_model_that_it_starts_from(form, tiny_config, alone, tmp_path):
    config = tiny_config(*STATIC, "train.ema_decay=0.9")
    expected = trained(config, tmp_path / "before")

    config = tiny_config(*form, "train.ema_decay=0.9", f"train.start={tmp_path / 'before'}")
    state = before_first_step(config, tmp_path / "now", alone)

    assert_same_outputs(state.model, expected)
    assert_same_outputs(state.best_model, expected)
    assert state.progress.global_step == 0
    assert all(parameter.requires_grad for parameter in state.model.parameters())


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_run_begins_with_torchvisions_features(form, tiny_config, alone, tmp_path):
    theirs = lively(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35))
    torch.save(theirs.state_dict(), tmp_path / "model.pth")

    config = tiny_config(*form, "model.depth=1", f"train.start={tmp_path / 'model.pth'}")
    state = before_first_step(config, tmp_path, alone)

    assert_same_outputs(state.model.backbone, theirs.features)


def test_the_packaged_model_starts_a_run_by_the_name_default(tiny_config, alone, tmp_path):
    config = tiny_config(*STATIC, "model.width=1", "model.depth=1", "model.head_width=1", "train.start=default")

    net = before_first_step(config, tmp_path, alone).model

    packaged, _ = load_pose_net(DEFAULT_WEIGHTS)
    assert_same_state(net.backbone.state_dict(), packaged.backbone.state_dict())


def test_a_run_without_a_start_is_as_it_was(tiny_config, alone, tmp_path):
    """The weights that a seed draws stay the same."""
    config = tiny_config(*DYNAMIC)
    torch.manual_seed(config.seed)
    expected = build_pose_net(config)

    assert_same_state(before_first_step(config, tmp_path, alone).model.state_dict(), expected.state_dict())


def test_a_resumed_run_does_not_load_its_start_again(tiny_config, alone, tmp_path):
    trained(tiny_config(*STATIC), tmp_path / "before")
    config = tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", "train.epochs=1")
    train(config, tmp_path / "run", alone)
    (tmp_path / "before/best.pt").unlink()

    longer = tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", "train.epochs=2")
    state = before_first_step(longer, tmp_path / "run", alone, resume=tmp_path / "run/last.pt")

    saved = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert_same_state(state.model.state_dict(), saved["model"])
    assert state.progress.epoch == 1


@pytest.mark.parametrize("form", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_backbone_with_folded_batch_norm_is_calibrated_and_a_new_head_left_as_drawn(
    form, tiny_config, alone, tmp_path, monkeypatch
):
    """MoveNet's file is stood in for by a model whose statistics say nothing, as `from_movenet` returns it."""
    backbone = lively(MobileNetV2())
    for layer in batch_norms(backbone).values():
        layer.reset_running_stats()
    monkeypatch.setattr(start_module, "from_movenet", lambda path: deepcopy(backbone.state_dict()))
    config = tiny_config(*form, "model.width=1", "model.depth=1", f"train.start={tmp_path / 'model.onnx'}")
    torch.manual_seed(config.seed)
    drawn = build_pose_net(config)

    net = before_first_step(config, tmp_path, alone).model

    assert_same_outputs(net.backbone, backbone)
    found, made_up = batch_norms(net.backbone), batch_norms(backbone)
    assert all(not torch.allclose(found[name].running_mean, made_up[name].running_mean) for name in made_up)
    assert all(layer.num_batches_tracked == 0 for layer in found.values())
    # A head whose batch norm leaves its small signals as they are would hardly learn.
    assert_same_state(net.head.state_dict(), drawn.head.state_dict())


def test_backbone_and_head_are_groups_with_rates_of_their_own(tiny_config, alone, tmp_path):
    rates = ("train.learning_rate=0.01", "train.backbone_learning_rate=1e-9", "train.epochs=1", "train.schedule=steps")
    old = trained(tiny_config(*STATIC), tmp_path / "before")

    train(tiny_config(*STATIC, f"train.start={tmp_path / 'before'}", *rates), tmp_path / "run", alone)

    groups = torch.load(tmp_path / "run/last.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-9, 0.01])
    sizes = [len(list(part.parameters())) for part in (old.backbone, old.head)]
    assert [len(group["params"]) for group in groups] == sizes
    net, _ = load_pose_net(tmp_path / "run/last.pt")
    for part, low, high in (("backbone", 0, 1e-6), ("head", 1e-3, 1)):
        pairs = zip(net.get_submodule(part).parameters(), old.get_submodule(part).parameters(), strict=True)
        moved = max((one - other).abs().max().item() for one, other in pairs)
        assert low <= moved <= high, part


def test_a_checkpoint_with_other_groups_is_refused_with_what_to_do(tiny_config, alone, tmp_path):
    """As runs left them when all weights had one rate."""
    config, path = tiny_config(*STATIC, "train.epochs=1"), tmp_path / "last.pt"
    train(config, tmp_path, alone)
    content = torch.load(path, weights_only=True)
    backbone, head = content["optimizer"]["param_groups"]
    content["optimizer"]["param_groups"] = [backbone | {"params": backbone["params"] + head["params"]}]
    write_weights(content, path)

    with pytest.raises(CheckpointError, match=r"last\.pt: its optimizer state .* train\.start=.*last\.pt") as caught:
        train(tiny_config(*STATIC, "train.epochs=2"), tmp_path, alone, resume=path)
    assert "\n" not in str(caught.value)
    state = before_first_step(tiny_config(*STATIC, f"train.start={path}"), tmp_path / "new", alone)
    assert_same_state(state.model.state_dict(), content["model"])
