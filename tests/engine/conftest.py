"""Configs of training runs that take about a second: reduced synthetic data set, class folders and models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pose.config.classification import ClassificationConfig
from pose.config.loader import load_classification_config, load_config
from pose.config.pose import Config
from pose.datasets.synthetic.prepare import prepare_data
from pose.engine.distributed import DistContext

TINY = (
    "data.synthetic.train_images=10",
    "data.synthetic.val_images=5",
    "data.synthetic.image_wh=[160,120]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.batch_size=8",
    "train.epochs=2",
    "train.workers=0",
    "train.validate_every=1",
    "train.loss=cross_entropy",
    "train.warmup_steps=0",
    "train.ema_decay=0",
)


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Return a function from overrides to a pose config; its data set is generated once."""
    root: Path = tmp_path_factory.mktemp("synthetic") / "data"

    def make(*overrides: str) -> Config:
        return load_config("quickstart", [f"data.root={root}", *TINY, *overrides])

    prepare_data(make())
    return make


TINY_CLASSIFIER = (
    "input.size=32",
    "input.resize=36",
    "model.width=0.1",
    "model.depth=0.4",
    "train.batch_size=4",
    "train.epochs=2",
    "train.workers=0",
    "train.learning_rate=0.02",
)


@pytest.fixture
def tiny_classifier(class_folders: Path) -> Callable[..., ClassificationConfig]:
    """Return a function from overrides to a classification config with generated images and a reduced model."""

    def make(*overrides: str, cfg: str = "imagenet/dy_mobilenetv2_w0.5") -> ClassificationConfig:
        return load_classification_config(cfg, [f"data.root={class_folders}", *TINY_CLASSIFIER, *overrides])

    return make


@pytest.fixture(scope="session")
def dist() -> DistContext:
    """Return the context of a process without torchrun, on the CPU."""
    return DistContext(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: a second one slows models this small down, above all when tests run in parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    """Start each test with the same random state, and restore the state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
