"""Every pose config of the paper: check the recipe, build the model, train a step, save, load and test it."""

from pathlib import Path

import pytest
import torch

from pose.config.loader import load_config
from pose.config.pose import Config, InputConfig, TrainConfig
from pose.datasets.coco import annotated_persons
from pose.datasets.loading import EpochSampler, training_loader
from pose.datasets.samples import TrainingSamples
from pose.datasets.synthetic.prepare import prepare_data
from pose.engine.distributed import DistContext
from pose.engine.evaluate import load_test_set, make_results, predict_persons, score_results
from pose.engine.metrics_log import EpochLog
from pose.engine.pose_task import adam, pose_loss
from pose.engine.state import TrainState, make_state
from pose.engine.trainer import train_one_epoch
from pose.models import build_pose_net
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.weights import load_weights_for, write_weights

BACKBONES = ["mobilenetv2", "mobilenetv2_w0.5", "mobilenetv3_small", "resnet18"]
TABLE_10 = [
    *(f"pose/A_{kind}_{backbone}_256x192" for backbone in BACKBONES for kind in ("static", "dybackbone")),
    *(f"pose/B_{kind}_{backbone}_256x192" for backbone in BACKBONES[:3] for kind in ("static", "dy")),
]
TABLE_11 = [f"pose/B_{kind}_mobilenetv2_w0.5_256x192" for kind in ("dybackbone", "dyhead")]
"""The other two rows of the table, all static and all dynamic, are also in Table 10."""

DIST = DistContext(0, 1, torch.device("cpu"))
SYNTHETIC = (
    "data.synthetic.train_images=2",
    "data.synthetic.val_images=2",
    "data.synthetic.image_wh=[160,120]",
    "data.train_annotations=annotations/person_keypoints_train.json",
    "data.train_images=train",
    "data.val_annotations=annotations/person_keypoints_val.json",
    "data.val_images=val",
    "data.val_detections=annotations/person_detections_val.json",
    "input.size_hw=[64,64]",
    "train.batch_size=2",
    "train.workers=0",
)


@pytest.fixture(autouse=True)
def _one_thread_and_own_random_state():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    prepare_data(load_small(TABLE_10[0], folder))
    return folder


def load_small(name: str, root: Path) -> Config:
    """Load a config with two small images of the synthetic data set; the model is not reduced."""
    return load_config(name, [f"data.root={root}", *SYNTHETIC])


class LastStepLog(EpochLog):
    """Stores loss and learning rate of the last step."""

    def __init__(self) -> None:
        self.loss: float | None = None

    def next_batch(self, batches):
        return next(batches)

    def step(self, loss: float | None, learning_rate: float) -> None:
        self.loss, self.learning_rate = loss, learning_rate


def train_a_step(config: Config) -> TrainState:
    data = config.data
    persons = annotated_persons(data.root / data.train_annotations, data.root / data.train_images, config.keypoints)
    model = build_pose_net(config)
    state = make_state(model, adam(model, config.train, DIST.device), config.train, DIST)
    samples = TrainingSamples(persons, config.keypoints, config.input, config.augment, config.seed)
    loader = training_loader(samples, EpochSampler(len(persons), 2), 0, pin_memory=False)
    before = [parameter.clone() for parameter in model.parameters()]
    log = LastStepLog()
    train_one_epoch(state, iter(loader), pose_loss(config.train, DIST.device), 1, config.train, DIST, log)
    assert log.loss is not None
    assert 0 < log.loss < 1
    changed = [not torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True)]
    assert sum(changed) / len(changed) > 0.9
    return state


@pytest.mark.parametrize("name", [*TABLE_10, *TABLE_11])
def test_a_config_is_built_trained_saved_loaded_and_tested(name: str, root: Path, tmp_path: Path) -> None:
    config = load_small(name, root)

    state = train_a_step(config)
    content = {"model": state.model.state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")
    model = load_weights_for(config, tmp_path / "best.pt")
    test_set = load_test_set(config, ground_truth=False)
    results = make_results(predict_persons(model.heatmaps, test_set.persons, config, DIST, workers=0), test_set, config)

    assert results
    assert 0 <= score_results(results, test_set, config).AP <= 1
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), state.model.eval()(images))
    for part, is_dynamic in ((model.backbone, config.model.dynamic_backbone), (model.head, config.model.dynamic_head)):
        layers = [layer for layer in part.modules() if isinstance(layer, DynamicConv2d)]
        assert bool(layers) == is_dynamic
        assert {(layer.num_kernels, layer.attention.temperature.item()) for layer in layers} <= {(4, 30.0)}


@pytest.mark.parametrize("name", [*TABLE_10, *TABLE_11])
def test_the_recipe_is_the_setup_of_section_6(name: str) -> None:
    config = load_config(name)
    assert config.train == TrainConfig()  # defaults, tested in tests/config
    assert config.input == InputConfig()
    assert config.model.num_kernels == 4


def test_tables_10_and_11_have_sixteen_different_rows() -> None:
    assert len({*TABLE_10, *TABLE_11}) == 16
