"""Every classification config: build the model, train a step, save, load and test it; complexity of Table 8."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.classification import ClassificationConfig
from pose.config.loader import load_classification_config, packaged_names
from pose.datasets.imagenet import TrainingImages, load_training_images
from pose.datasets.loading import EpochSampler, training_loader
from pose.engine.classification_task import classification_loss, classify_images, sgd, with_classes
from pose.engine.distributed import DistContext
from pose.engine.metrics_log import EpochLog
from pose.engine.state import TrainState, make_state
from pose.engine.trainer import train_one_epoch
from pose.models import build_classifier
from pose.models.complexity import count_parts
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.weights import load_classifier_for, write_weights

NAMES = [name for name in packaged_names() if name.startswith("imagenet/")]
DIST = DistContext(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread_and_own_random_state():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)


ROWS_BY_OPTION = [
    "imagenet/dy_mobilenetv2 model.depth=0.7 model.num_kernels=2 train.temperature_final=null",
    "imagenet/static_mobilenetv2_w0.35 model.depth=0.5",
    "imagenet/dy_mobilenetv2_w0.75 model.num_kernels=8 train.temperature_final=null",
    "imagenet/dy_mobilenetv2_w0.35 model.dynamic_last=true",
    "imagenet/dy_mobilenetv3_small model.dynamic_last=true",
    "imagenet/dy_resnet10 model.dynamic_shortcuts=true",
    "imagenet/condconv_mobilenetv2 model.first_dynamic_block=12 model.dynamic_last=false",
]
"""Rows of Figures 6 and 7, of Tables 1 and 2 and of the literal reading that are options of a config."""


def load(name: str, root: Path) -> ClassificationConfig:
    """Load a config, and the overrides that follow its name, with 32x32 images and, for speed, a narrow MobileNetV2."""
    name, *overrides = name.split()
    config = load_classification_config(
        name,
        [*overrides, f"data.root={root}", "input.size=32", "input.resize=36", "train.batch_size=4", "train.workers=0"],
    )
    if config.model.backbone == "mobilenet_v2":
        width = 0.2 * config.model.width
        config = config.model_copy(update={"model": config.model.model_copy(update={"width": width})})
    return config


class FirstStepLog(EpochLog):
    """Stores loss and learning rate of the first step, then interrupts training."""

    def __init__(self) -> None:
        pass

    def next_batch(self, batches):
        return next(batches)

    def step(self, loss: float | None, learning_rate: float) -> None:
        self.loss, self.learning_rate = loss, learning_rate
        raise KeyboardInterrupt


def train_a_step(config: ClassificationConfig) -> TrainState:
    images, _ = load_training_images(config.data)
    model = build_classifier(config)
    state = make_state(model, sgd(model, config.train), config.train, DIST)
    samples = TrainingImages(images, config.input, config.augment, config.seed)
    loader = training_loader(samples, EpochSampler(len(images), 4), 0, pin_memory=False)
    loss_fn, log = classification_loss(config.train, len(images.classes), DIST.device), FirstStepLog()
    with pytest.raises(KeyboardInterrupt):
        train_one_epoch(state, iter(loader), loss_fn, 3, config.train, DIST, log)
    assert log.loss is not None
    assert 0 < log.loss < 20
    assert log.learning_rate == config.train.learning_rate
    return state


@pytest.mark.parametrize("name", [*NAMES, *ROWS_BY_OPTION])
def test_a_config_is_built_trained_saved_loaded_and_tested(name, class_folders, tmp_path):
    config = with_classes(load(name, class_folders), ("disc", "ring", "square"))

    state = train_a_step(config)
    content = {"model": state.model.state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")
    model, classes = load_classifier_for(load(name, class_folders), tmp_path / "best.pt")

    assert classes == ("disc", "ring", "square")
    validation = load_training_images(config.data)[1]
    assert classify_images(model, validation, config, DIST).images == 9
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), state.model.eval()(images))
    layers = [layer for layer in model.modules() if isinstance(layer, DynamicConv2d)]
    assert bool(layers) == config.model.dynamic_backbone
    assert {layer.attention.temperature.item() for layer in layers} <= {config.train.temperature}


@pytest.mark.parametrize(
    ("backbone", "static", "dynamic"),
    [
        ("mobilenetv2", (3.50, 300.8), (11.15, 316.8)),
        ("mobilenetv2_w0.75", (2.64, 209.1), (7.01, 220.2)),
        ("mobilenetv2_w0.5", (1.97, 97.1), (3.95, 103.1)),
        ("mobilenetv2_w0.35", (1.68, 59.3), (2.69, 63.3)),
        ("mobilenetv3_small", (3.11, 66.4), (4.78, 70.1)),
        ("resnet18", (11.69, 1814.1), (44.93, 1860.0)),
        ("resnet10", (5.42, 889.2), (19.69, 909.1)),
    ],
)
def test_parameters_and_multiply_adds_of_table_8(backbone, static, dynamic):
    for kind, expected in (("static", static), ("dy", dynamic)):
        config = load_classification_config(f"imagenet/{kind}_{backbone}")
        with torch.device("meta"):
            counts = count_parts(build_classifier(config), config.input.size_hw)
        params, madds = (counts[f"backbone_{unit}"] + counts[f"head_{unit}"] for unit in ("params", "madds"))
        assert (round(params / 1e6, 2), round(madds / 1e6, 1)) == expected


def test_num_kernels_of_the_ablations_of_table_5(class_folders):
    """C1, C2 and C3 are the expansion, the depthwise convolution and the projection of a block."""
    model = build_classifier(load("imagenet/ablation/layers_c1_c3", class_folders))

    kernels = {
        name.split(".")[-2]: getattr(layer, "num_kernels", 1)
        for name, layer in model.backbone.blocks.named_modules()
        if name.endswith(".conv")
    }

    assert {name: np.clip(count, 1, 4) for name, count in kernels.items()} == {
        "expand": 4,
        "depthwise": 1,
        "project": 4,
    }
