"""Training and testing a classifier: loss, training compared with a plain loop, exact resume, accuracy."""

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
from pose.engine import classification_task, trainer
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
    """Read the rows of metrics.jsonl without measured times."""
    timings = ("seconds", "images_per_second", "data_wait_share")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in timings} for row in rows if row["kind"] == kind]


class FixedScores(nn.Module):
    """Returns the same scores for every batch, and stores the images."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images = images
        return self.scores


# --- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_classification_loss_is_cross_entropy_with_smoothed_targets(smoothing):
    batch, scores = make_batch(), make_scores()
    options = ClassifierTrainConfig(label_smoothing=smoothing)

    model = FixedScores(scores)
    loss, ids = classification_loss(options, 3, CPU)(model, batch)

    targets = (1 - smoothing) * functional.one_hot(batch.label, 3) + smoothing / 3
    expected = -(targets * scores.log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(model.images, normalize(batch.image))
    assert ids.tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixup_mixes_images_and_losses_with_the_same_lambda(smoothing):
    """Images become lambda x_i + (1 - lambda) x_j, and losses likewise (Zhang et al., ICLR 2018, equation 1)."""
    batch, scores = make_batch(), make_scores()
    options = ClassifierTrainConfig(mixup=0.2, label_smoothing=smoothing)
    loss_fn, model = classification_loss(options, 3, CPU), FixedScores(scores)
    images, lambdas = normalize(batch.image), []
    partners = torch.arange(4).roll(1)

    for _ in range(300):
        loss, _ = loss_fn(model, batch)
        difference, mixed_difference = images - images[partners], model.images - images[partners]
        lambda_ = ((difference * mixed_difference).sum() / difference.square().sum()).item()
        torch.testing.assert_close(model.images, lambda_ * images + (1 - lambda_) * images[partners])
        own, other = (
            functional.cross_entropy(scores, labels, label_smoothing=smoothing)
            for labels in (batch.label, batch.label[partners])
        )
        expected = lambda_ * own + (1 - lambda_) * other
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
        lambdas.append(lambda_)

    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert np.mean(lambdas) == pytest.approx(0.5, abs=0.08)
    assert np.var(lambdas) == pytest.approx(1 / (4 * 1.4), rel=0.15)


def test_without_mixup_no_random_number_is_drawn():
    before = torch.get_rng_state()

    classification_loss(ClassifierTrainConfig(), 3, CPU)(FixedScores(make_scores()), make_batch())

    assert torch.equal(torch.get_rng_state(), before)


def test_describe_names_the_images_of_a_batch(labeled, tiny_classifier):
    config = tiny_classifier()
    samples = TrainingImages(labeled, config.input, config.augment, 0)

    assert samples.describe([0, 5]) == (f"a batch with the images {labeled.path(0)}, {labeled.path(5)}; look at them")
    assert f"{labeled.path(3)}, ...; look" in samples.describe(list(range(12)))


# --- a run


class _PlainBackbone(nn.Sequential):
    """A backbone without batch norm, which would amplify rounding errors."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__(DynamicConv2d(3, 8, 4, stride=4), nn.ReLU())


def test_training_equals_a_plain_loop_with_sgd(tiny_classifier, dist, tmp_path, monkeypatch):
    """The setup of section 5.1: momentum, weight decay on all weights, cosine decay, label smoothing, annealing."""
    build = lambda config: Classifier(_PlainBackbone(), ClassifierHead(8, config.num_classes))  # noqa: E731
    monkeypatch.setattr("pose.models.build_classifier", build)
    config = tiny_classifier(
        "train.label_smoothing=0.1", "train.weight_decay=0.01", "train.temperature_epochs=2", "train.epochs=3",
        "train.learning_rate=0.1",
    )  # fmt: skip
    torch.manual_seed(config.seed)
    model = Classifier(_PlainBackbone(), ClassifierHead(8, 3))
    momentums = [torch.zeros_like(weight) for weight in model.parameters()]
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
                for weight, gradient, momentum in zip(model.parameters(), gradients, momentums, strict=True):
                    momentum.mul_(0.9).add_(gradient + 0.01 * weight)
                    weight -= rate * momentum
            losses.append(loss.item())

    train(config, tmp_path / "run", dist)

    rows = read_rows(tmp_path / "run", "train")
    assert [row["temperature"] for row in rows] == [30, 15.5, 1]
    assert [row["loss"] for row in rows] == pytest.approx(np.reshape(losses, (3, 3)).mean(1), rel=1e-5)
    trained = torch.load(tmp_path / "run/last.pt", weights_only=True)["model"]
    torch.testing.assert_close(dict(trained), dict(model.state_dict()), rtol=1e-4, atol=1e-6)


STATEFUL_OPTIONS = (
    "train.dropout=0.2",
    "train.mixup=0.2",
    "train.attention_learning_rate=0.005",
    "train.label_smoothing=0.1",
    "train.ema_decay=0.9",
    "train.epochs=3",
    "train.temperature_epochs=2",
    "train.checkpoint_minutes=1e-9",  # after every step
)
"""Options with random numbers, state or a schedule that a resumed run must continue."""


@pytest.mark.parametrize("saves", [1, 2, 5])  # inside the first epoch, and at and after its end
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(saves, tiny_classifier, dist, tmp_path):
    config = tiny_classifier(*STATEFUL_OPTIONS)
    train(config, tmp_path / "uninterrupted", dist)
    save, written = trainer.save_checkpoint, []

    def save_and_interrupt(state, config, path):
        save(state, config, path)
        written.append(path.name)
        if len(written) == saves:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "save_checkpoint", save_and_interrupt)
        train(config, tmp_path / "interrupted", dist)
    torch.manual_seed(1234)  # a new process
    train(config, tmp_path / "interrupted", dist, resume=tmp_path / "interrupted/last.pt")

    states = []
    for name in ("uninterrupted", "interrupted"):
        content = torch.load(tmp_path / name / "last.pt", weights_only=True)
        del content["progress"]["seconds"], content["config"]
        states.append(content)
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert (
        read_rows(tmp_path / "interrupted", "validation")[-1] == read_rows(tmp_path / "uninterrupted", "validation")[-1]
    )


def test_the_run_folder_stores_the_class_names(tiny_classifier, dist, tmp_path):
    config = tiny_classifier("train.epochs=1")

    best = train(config, tmp_path / "run", dist)

    saved = load_classification_config(tmp_path / "run/config.yaml")
    assert saved.data.classes == ("disc", "ring", "square")
    assert saved.model_copy(update={"data": config.data}) == config
    (row,) = read_rows(tmp_path / "run", "validation")
    assert row == {"kind": "validation", "samples": 12, "epoch": 1, "top1": best}
    assert torch.load(tmp_path / "run/best.pt", weights_only=True)["progress"]["best_score"] == best


def test_a_classifier_overfits_twelve_images_of_shapes(tiny_classifier, dist, tmp_path, caplog):
    """Trains and validates on the same twelve images."""
    config = tiny_classifier(
        "data.val_images=train", "train.epochs=30", "train.learning_rate=0.05", "train.validate_every=5",
        "augment.crop_area=[0.8, 1]", "input.size=64", "input.resize=64", "train.batch_size=6",
    )  # fmt: skip

    with caplog.at_level(logging.INFO):
        best = train(config, tmp_path / "run", dist)

    assert best >= 0.75
    assert "12 images of 3 classes, global batch 6 (1 processes x 1 parts x 6), 2 steps an epoch" in caplog.text
    assert "no top-5 below 5 classes of 12 images" in caplog.text


def test_a_classifier_is_initialized_from_one_with_other_classes(tiny_classifier, dist, tmp_path, caplog):
    train(tiny_classifier("train.epochs=1"), tmp_path / "before", dist)
    before = torch.load(tmp_path / "before/best.pt", weights_only=True)["model"]
    config = tiny_classifier(
        "data.classes=[ring, disc]", f"train.start={tmp_path / 'before'}", "train.learning_rate=1e-12"
    )

    with caplog.at_level(logging.INFO):
        train(config, tmp_path / "finetuned", dist)

    assert "except the last layer (other classes)" in caplog.text
    after = torch.load(tmp_path / "finetuned/last.pt", weights_only=True)["model"]
    weights = [name for name in before if name.startswith("backbone") and name.endswith("conv.weight")]
    for name in weights:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert after["head.3.weight"].shape == (2, 1280)


# --- user errors


def test_a_batch_larger_than_the_data_set_is_refused(tiny_classifier, dist, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.batch_size 64 is larger than the 12 training images"):
        train(tiny_classifier("train.batch_size=64"), tmp_path, dist)


def test_a_checkpoint_of_another_model_is_not_resumed(tiny_classifier, dist, tmp_path):
    train(tiny_classifier("train.epochs=1"), tmp_path, dist)

    for other in ("model.width=0.3", "data.classes=[ring, disc]", "model.dynamic_backbone=false"):
        with pytest.raises(CheckpointError, match=r"last\.pt: made for another model"):
            train(tiny_classifier(other), tmp_path, dist, resume=tmp_path / "last.pt")


def test_an_unreadable_training_image_is_named(tiny_classifier, class_folders, dist, tmp_path):
    (class_folders / "train/ring/2.JPEG").write_bytes(b"")

    with pytest.raises(DataError, match=r"train/ring/2\.JPEG: not an image"):
        train(tiny_classifier(), tmp_path, dist)


def test_a_loss_that_is_not_finite_names_the_images_and_writes_no_checkpoint(
    tiny_classifier, dist, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        classification_task.functional, "cross_entropy", lambda scores, *_, **__: scores.sum() * math.nan
    )

    with pytest.raises(TrainingError, match=r"not finite \(nan\) on a batch with the images .*/train/.*; look at th"):
        train(tiny_classifier(), tmp_path, dist)

    assert not list(tmp_path.glob("*.pt"))


# --- testing


class _BrightnessClassifier(nn.Module):
    """Classifies an image by its mean brightness: class i for brightness 10 i of 255."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.brightness = torch.arange(classes) * 10.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0].mean(dim=(1, 2)) * 0.229 * 255 + 0.485 * 255
        return -(value[:, None] - self.brightness).abs()


@pytest.fixture
def gray_images(tmp_path):
    """Six classes with two images each: one of the brightness of its class, one of the class two further on."""
    import cv2

    for number in range(6):
        folder = tmp_path / "gray/val" / f"class{number}"
        folder.mkdir(parents=True)
        for file, shift in (("a.png", 0), ("b.png", 2)):
            cv2.imwrite(str(folder / file), np.full((40, 40, 3), 10 * ((number + shift) % 6), dtype=np.uint8))
    return tmp_path / "gray"


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_accuracy_counts_every_image_once(world_size, gray_images, tiny_classifier, monkeypatch):
    from pose.datasets.imagenet import load_images

    labeled = load_images(gray_images / "val", tuple(f"class{number}" for number in range(6)))
    config = tiny_classifier("test.batch_size=3")
    rank_results = []
    # Collect the result of each rank, then return all of them as all_gather would.
    monkeypatch.setattr(classification_task, "all_gather", lambda item, dist: rank_results.append(item) or [item])
    for rank in range(world_size):
        classify_images(_BrightnessClassifier(6), labeled, config, DistContext(rank, world_size, CPU))
    monkeypatch.setattr(classification_task, "all_gather", lambda item, dist: rank_results)

    accuracy = classify_images(_BrightnessClassifier(6), labeled, config, DistContext(0, world_size, CPU))

    # For the image with the brightness of another class, the true class ranks 4th to 6th.
    assert (accuracy.images, accuracy.top1) == (12, 0.5)
    ranks = torch.cat(rank_results)
    assert (ranks == 0).sum() == 6
    assert accuracy.top5 == (ranks < 5).float().mean()


def test_protocol_line_states_images_crop_and_weights(tiny_classifier, labeled, tmp_path):
    line = protocol_line(tiny_classifier(), labeled, tmp_path / "best.pt")

    assert line == (
        f"dy_mobilenetv2_w0.5: 12 images of 3 classes in {labeled.folder}; shorter side to 36, center 32x32; "
        f"weights {tmp_path / 'best.pt'}"
    )


def test_accuracy_is_printed_in_percent():
    assert str(Accuracy(10, 0.5, None)) == "top-1 50.00 %, no top-5 below 5 classes"
