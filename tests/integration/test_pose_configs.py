"""Every pose config of the paper: its recipe, and its model built, trained for a step, saved, loaded and tested."""

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
"""Its other two rows, all static and all dynamic, are of Table 10 too."""

ALONE = DistContext(0, 1, torch.device("cpu"))
EMBEDDED = (
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
    folder = tmp_path_factory.mktemp("embedded") / "data"
    prepare_data(small(TABLE_10[0], folder))
    return folder


def small(name: str, root: Path) -> Config:
    """The config with two small images of the embedded data set; the model is the whole one."""
    return load_config(name, [f"data.root={root}", *EMBEDDED])


class LastLoss(EpochLog):
    """Keeps the loss of the last step."""

    def __init__(self) -> None:
        self.loss: float | None = None

    def next_batch(self, batches):
        return next(batches)

    def step(self, loss: float | None, learning_rate: float) -> None:
        self.loss, self.learning_rate = loss, learning_rate


def train_a_step(config: Config) -> TrainState:
    data = config.data
    persons = annotated_persons(data.root / data.train_annotations, data.root / data.train_images, config.keypoints)
    net = build_pose_net(config)
    state = make_state(net, adam(net, config.train, ALONE.device), config.train, ALONE)
    samples = TrainingSamples(persons, config.keypoints, config.input, config.augment, config.seed)
    loader = training_loader(samples, EpochSampler(len(persons), 2), 0, pin_memory=False)
    before = [parameter.clone() for parameter in net.parameters()]
    log = LastLoss()
    train_one_epoch(state, iter(loader), pose_loss(config.train, ALONE.device), 1, config.train, ALONE, log)
    assert log.loss is not None
    assert 0 < log.loss < 1
    moved = [not torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True)]
    assert sum(moved) / len(moved) > 0.9
    return state


@pytest.mark.parametrize("name", [*TABLE_10, *TABLE_11])
def test_a_config_is_built_trained_saved_loaded_and_tested(name: str, root: Path, tmp_path: Path) -> None:
    config = small(name, root)

    state = train_a_step(config)
    content = {"model": state.model.state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")
    net = load_weights_for(config, tmp_path / "best.pt")
    test_set = load_test_set(config, ground_truth=False)
    results = make_results(predict_persons(net.heatmaps, test_set.persons, config, ALONE, workers=0), test_set, config)

    assert results
    assert 0 <= score_results(results, test_set, config).AP <= 1
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(images), state.model.eval()(images))
    for part, is_dynamic in ((net.backbone, config.model.dynamic_backbone), (net.head, config.model.dynamic_head)):
        layers = [layer for layer in part.modules() if isinstance(layer, DynamicConv2d)]
        assert bool(layers) == is_dynamic
        assert {(layer.num_kernels, layer.attention.temperature.item()) for layer in layers} <= {(4, 30.0)}


@pytest.mark.parametrize("name", [*TABLE_10, *TABLE_11])
def test_the_recipe_is_that_of_section_6(name: str) -> None:
    config = load_config(name)
    assert config.train == TrainConfig()  # whose values test_config.py holds
    assert config.input == InputConfig()
    assert config.model.num_kernels == 4


def test_the_rows_are_sixteen() -> None:
    assert len({*TABLE_10, *TABLE_11}) == 16
