"""Training and testing a classifier: the loss against algebra, steps against a plain loop, runs against each other."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pose.config.classification import ClassifierTrainConfig
from pose.config.loader import load_classification_config
from pose.datasets.imagenet import ImageSample, TrainingImages, load_training_images
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.engine import classification_task as classify_module
from pose.engine import trainer as run_module
from pose.engine.classification_task import classification_loss, classify_images, protocol_line
from pose.engine.distributed import DistContext
from pose.errors import CheckpointError, ConfigError, DataError, TrainingError
from pose.evaluation.accuracy import Accuracy
from pose.inference.pytorch import normalize
from pose.models.classifier import Classifier, ClassifierHead
from pose.models.dynamic_conv import DynamicConv2d
from pose.tools.train_imagenet import train_classifier as train

CPU = torch.device("cpu")


@pytest.fixture
def labeled(tiny_classifier):
    return load_training_images(tiny_classifier().data)[0]


def make_batch(size: int = 4) -> ImageSample:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (size, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return ImageSample(images, torch.arange(size) % 3, 10 + torch.arange(size))


def make_scores(size: int = 4) -> torch.Tensor:
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(4))


def read_rows(folder, kind):
    """Rows of metrics.jsonl without what the clock says."""
    clock = ("seconds", "images_per_second", "data_wait_share")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in clock} for row in rows if row["kind"] == kind]


class Remembering(nn.Module):
    """Gives the same scores for all images, and keeps the images."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images = images
        return self.scores


# --- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_loss_is_cross_entropy_with_smoothed_targets(smoothing):
    batch, scores = make_batch(), make_scores()
    options = ClassifierTrainConfig(label_smoothing=smoothing)

    model = Remembering(scores)
    loss, ids = classification_loss(options, 3, CPU)(model, batch)

    targets = (1 - smoothing) * functional.one_hot(batch.label, 3) + smoothing / 3
    expected = -(targets * scores.log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(model.images, normalize(batch.image))
    assert ids.tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixup_mixes_images_and_losses_in_one_proportion(smoothing):
    """Lambda x_i + (1 - lambda) x_j, and the same of their losses (Zhang et al., ICLR 2018, equation 1)."""
    batch, scores = make_batch(), make_scores()
    options = ClassifierTrainConfig(mixup=0.2, label_smoothing=smoothing)
    loss_fn, model = classification_loss(options, 3, CPU), Remembering(scores)
    images, proportions = normalize(batch.image), []
    partners = torch.arange(4).roll(1)

    for _ in range(300):
        loss, _ = loss_fn(model, batch)
        rest, change = images - images[partners], model.images - images[partners]
        proportion = ((rest * change).sum() / rest.square().sum()).item()
        torch.testing.assert_close(model.images, proportion * images + (1 - proportion) * images[partners])
        own, other = (
            functional.cross_entropy(scores, labels, label_smoothing=smoothing)
            for labels in (batch.label, batch.label[partners])
        )
        expected = proportion * own + (1 - proportion) * other
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
        proportions.append(proportion)

    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert np.mean(proportions) == pytest.approx(0.5, abs=0.08)
    assert np.var(proportions) == pytest.approx(1 / (4 * 1.4), rel=0.15)


def test_without_mixup_nothing_is_drawn():
    before = torch.get_rng_state()

    classification_loss(ClassifierTrainConfig(), 3, CPU)(Remembering(make_scores()), make_batch())

    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_whose_loss_is_not_finite_is_named_by_its_images(labeled, tiny_classifier):
    config = tiny_classifier()
    samples = TrainingImages(labeled, config.input, config.augment, 0)

    assert samples.describe([0, 5]) == (f"a batch with the images {labeled.path(0)}, {labeled.path(5)}; look at them")
    assert f"{labeled.path(3)}, ...; look" in samples.describe(list(range(12)))


# --- a run


class _Plain(nn.Sequential):
    """A backbone without batch norm, which would make chaos of rounding."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__(DynamicConv2d(3, 8, 4, stride=4), nn.ReLU())


def test_a_run_follows_a_plain_loop_of_gradient_descent(tiny_classifier, alone, tmp_path, monkeypatch):
    """All of section 5.1: momentum, weight decay on all weights, a cosine, label smoothing, a falling temperature."""
    build = lambda config: Classifier(_Plain(), ClassifierHead(8, config.num_classes))  # noqa: E731
    monkeypatch.setattr("pose.models.build_classifier", build)
    config = tiny_classifier(
        "train.label_smoothing=0.1", "train.weight_decay=0.01", "train.temperature_epochs=2", "train.epochs=3",
        "train.learning_rate=0.1",
    )  # fmt: skip
    torch.manual_seed(config.seed)
    model = Classifier(_Plain(), ClassifierHead(8, 3))
    velocity = [torch.zeros_like(weight) for weight in model.parameters()]
    sampler = EpochSampler(12, 4, seed=config.seed)
    samples = TrainingImages(load_training_images(config.data)[0], config.input, config.augment, config.seed)
    losses = []
    for epoch in range(3):
        model.backbone[0].attention.temperature.fill_((30.0, 15.5, 1.0)[epoch])
        sampler.start(epoch)
        for step, batch in enumerate(batches(training_loader(samples, sampler, 0, False))):
            rate = 0.1 * 0.5 * (1 + math.cos(math.pi * (epoch + step / 3) / 3))
            loss = functional.cross_entropy(model(normalize(batch.image)), batch.label, label_smoothing=0.1)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for weight, gradient, speed in zip(model.parameters(), gradients, velocity, strict=True):
                    speed.mul_(0.9).add_(gradient + 0.01 * weight)
                    weight -= rate * speed
            losses.append(loss.item())

    train(config, tmp_path / "run", alone)

    rows = read_rows(tmp_path / "run", "train")
    assert [row["temperature"] for row in rows] == [30, 15.5, 1]
    assert [row["loss"] for row in rows] == pytest.approx(np.reshape(losses, (3, 3)).mean(1), rel=1e-5)
    found = torch.load(tmp_path / "run/last.pt", weights_only=True)["model"]
    torch.testing.assert_close(dict(found), dict(model.state_dict()), rtol=1e-4, atol=1e-6)


FORGETFUL = (
    "train.dropout=0.2",
    "train.mixup=0.2",
    "train.label_smoothing=0.1",
    "train.ema_decay=0.9",
    "train.epochs=3",
    "train.temperature_epochs=2",
    "train.checkpoint_minutes=1e-9",  # after every step
)
"""Everything that draws random numbers or could forget where it was."""


@pytest.mark.parametrize("saves", [1, 2, 5])  # inside the first epoch, and at and after its end
def test_a_run_stopped_anywhere_and_resumed_ends_as_if_it_had_not(saves, tiny_classifier, alone, tmp_path):
    config = tiny_classifier(*FORGETFUL)
    train(config, tmp_path / "straight", alone)
    save, written = run_module.save_checkpoint, []

    def save_and_stop(state, config, path):
        save(state, config, path)
        written.append(path.name)
        if len(written) == saves:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "save_checkpoint", save_and_stop)
        train(config, tmp_path / "stopped", alone)
    torch.manual_seed(1234)  # a new process
    train(config, tmp_path / "stopped", alone, resume=tmp_path / "stopped/last.pt")

    states = []
    for name in ("straight", "stopped"):
        content = torch.load(tmp_path / name / "last.pt", weights_only=True)
        del content["progress"]["seconds"], content["config"]
        states.append(content)
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert read_rows(tmp_path / "stopped", "validation")[-1] == read_rows(tmp_path / "straight", "validation")[-1]


def test_the_run_folder_names_the_classes(tiny_classifier, alone, tmp_path):
    config = tiny_classifier("train.epochs=1")

    best = train(config, tmp_path / "run", alone)

    saved = load_classification_config(tmp_path / "run/config.yaml")
    assert saved.data.classes == ("disc", "ring", "square")
    assert saved.model_copy(update={"data": config.data}) == config
    (row,) = read_rows(tmp_path / "run", "validation")
    assert row == {"kind": "validation", "samples": 12, "epoch": 1, "top1": best}
    assert torch.load(tmp_path / "run/best.pt", weights_only=True)["progress"]["best_score"] == best


def test_a_model_learns_to_tell_drawn_shapes_by_heart(tiny_classifier, alone, tmp_path, caplog):
    """Twelve images, which also are the ones to validate on."""
    config = tiny_classifier(
        "data.val_images=train", "train.epochs=30", "train.learning_rate=0.05", "train.validate_every=5",
        "augment.crop_area=[0.8, 1]", "input.size=64", "input.resize=64", "train.batch_size=6",
    )  # fmt: skip

    with caplog.at_level(logging.INFO):
        best = train(config, tmp_path / "run", alone)

    assert best >= 0.75
    assert "12 images of 3 classes, global batch 6 (1 processes x 1 parts x 6), 2 steps an epoch" in caplog.text
    assert "no top-5 below 5 classes of 12 images" in caplog.text


def test_a_run_starts_from_a_classifier_of_other_classes(tiny_classifier, alone, tmp_path, caplog):
    train(tiny_classifier("train.epochs=1"), tmp_path / "before", alone)
    before = torch.load(tmp_path / "before/best.pt", weights_only=True)["model"]
    config = tiny_classifier(
        "data.classes=[ring, disc]", f"train.start={tmp_path / 'before'}", "train.learning_rate=1e-12"
    )

    with caplog.at_level(logging.INFO):
        train(config, tmp_path / "now", alone)

    assert "except the last layer (other classes)" in caplog.text
    now = torch.load(tmp_path / "now/last.pt", weights_only=True)["model"]
    weights = [name for name in before if name.startswith("backbone") and name.endswith("conv.weight")]
    for name in weights:
        torch.testing.assert_close(now[name], before[name], rtol=0, atol=1e-6)
    assert now["head.3.weight"].shape == (2, 1280)


# --- mistakes


def test_a_batch_larger_than_the_data_is_the_users_mistake(tiny_classifier, alone, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.batch_size 64 is larger than the 12 training images"):
        train(tiny_classifier("train.batch_size=64"), tmp_path, alone)


def test_a_checkpoint_of_another_model_is_not_resumed(tiny_classifier, alone, tmp_path):
    train(tiny_classifier("train.epochs=1"), tmp_path, alone)

    for other in ("model.width=0.3", "data.classes=[ring, disc]", "model.dynamic_backbone=false"):
        with pytest.raises(CheckpointError, match=r"last\.pt: made for another model"):
            train(tiny_classifier(other), tmp_path, alone, resume=tmp_path / "last.pt")


def test_an_unreadable_image_ends_the_run_with_its_name(tiny_classifier, class_folders, alone, tmp_path):
    (class_folders / "train/ring/2.JPEG").write_bytes(b"")

    with pytest.raises(DataError, match=r"train/ring/2\.JPEG: not an image"):
        train(tiny_classifier(), tmp_path, alone)


def test_a_loss_that_is_not_finite_names_images_and_leaves_no_checkpoint(tiny_classifier, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(classify_module.functional, "cross_entropy", lambda scores, *_, **__: scores.sum() * math.nan)

    with pytest.raises(TrainingError, match=r"not finite \(nan\) on a batch with the images .*/train/.*; look at th"):
        train(tiny_classifier(), tmp_path, alone)

    assert not list(tmp_path.glob("*.pt"))


# --- testing


class _Counter(nn.Module):
    """Says of an image the class whose brightness it has: of 0, 10, 20, ... of 255."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.brightness = torch.arange(classes) * 10.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0].mean(dim=(1, 2)) * 0.229 * 255 + 0.485 * 255
        return -(value[:, None] - self.brightness).abs()


@pytest.fixture
def brightness(tmp_path):
    """Six classes of two images: of their own brightness, and of that two classes further on."""
    import cv2

    for number in range(6):
        folder = tmp_path / "grey/val" / f"class{number}"
        folder.mkdir(parents=True)
        for file, shift in (("a.png", 0), ("b.png", 2)):
            cv2.imwrite(str(folder / file), np.full((40, 40, 3), 10 * ((number + shift) % 6), dtype=np.uint8))
    return tmp_path / "grey"


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_accuracy_counts_every_image_once(processes, brightness, tiny_classifier, monkeypatch):
    from pose.datasets.imagenet import load_images

    labeled = load_images(brightness / "val", tuple(f"class{number}" for number in range(6)))
    config = tiny_classifier("test.batch_size=3")
    shares = []
    # Each process's share is gathered by hand.
    monkeypatch.setattr(classify_module, "all_gather", lambda item, dist: shares.append(item) or [item])
    for rank in range(processes):
        classify_images(_Counter(6), labeled, config, DistContext(rank, processes, CPU))
    monkeypatch.setattr(classify_module, "all_gather", lambda item, dist: shares)

    found = classify_images(_Counter(6), labeled, config, DistContext(0, processes, CPU))

    # The image of another class's brightness ranks its own class 4th to 6th: classes 0 and 5 lie at the ends.
    assert (found.images, found.top1) == (12, 0.5)
    ranks = torch.cat(shares)
    assert (ranks == 0).sum() == 6
    assert found.top5 == (ranks < 5).float().mean()


def test_the_protocol_says_how_it_was_measured(tiny_classifier, labeled, tmp_path):
    line = protocol_line(tiny_classifier(), labeled, tmp_path / "best.pt")

    assert line == (
        f"dy_mobilenetv2_w0.5: 12 images of 3 classes in {labeled.folder}; shorter side to 36, center 32x32; "
        f"weights {tmp_path / 'best.pt'}"
    )


def test_accuracy_reads_in_percent():
    assert str(Accuracy(10, 0.5, None)) == "top-1 50.00 %, no top-5 below 5 classes"
