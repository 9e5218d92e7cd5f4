"""From person boxes to predictions and AP: the same rooms for `tools/test.py` and for validation while training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pose.config.pose import Config
from pose.datasets.coco import Persons, annotated_persons, detected_persons, find_category
from pose.datasets.coco_json import read_annotations
from pose.datasets.loading import batches, test_loader
from pose.datasets.samples import TestCrops
from pose.engine.distributed import DistContext, gather
from pose.errors import CheckpointError
from pose.evaluation.coco_ap import Metrics, evaluate
from pose.evaluation.coco_results import Predictions, Result, to_results
from pose.inference.backends import open_exported
from pose.inference.metadata import HEATMAPS, read_metadata
from pose.inference.pytorch import HeatmapFn, keypoints_in_image, predict_heatmaps
from pose.progress import ProgressLine


@dataclass(frozen=True)
class TestSet:
    """Persons to predict.

    Attributes:
        persons: whose boxes to look in.
        annotations: the file that names the images.
        category_id: of the persons in it.
        annotated: whether it has annotations to measure against.
        boxes: in words, whose boxes these are.
    """

    persons: Persons
    annotations: Path
    category_id: int
    annotated: bool
    boxes: str


def load_test_set(config: Config, ground_truth: bool, detections: Path | None = None) -> TestSet:
    """Read the validation persons of a config.

    Args:
        config: names the data.
        ground_truth: take the annotated boxes instead of a detector's.
        detections: boxes to take instead of the config's.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    data, skeleton = config.data, config.keypoints
    annotations, images = data.root / data.val_annotations, data.root / data.val_images
    content = read_annotations(annotations)
    category_id = find_category(content, annotations, skeleton)
    if ground_truth:
        persons, words = annotated_persons(annotations, images, skeleton), "ground-truth boxes"
    else:
        boxes = detections or data.root / data.val_detections
        persons = detected_persons(boxes, annotations, images, skeleton, config.test.box_threshold)
        words = f"detector boxes of {boxes.name}"
    return TestSet(persons, annotations, category_id, bool(content["annotations"]), words)


def predict_persons(
    heatmap_fn: HeatmapFn,
    persons: Persons,
    config: Config,
    processes: DistContext,
    workers: int,
) -> Predictions:
    """Predict every person; processes share the work, without padding, and all get the whole.

    Args:
        heatmap_fn: `PoseNet.heatmaps` of a model in evaluation mode on this process's device.
        persons: whose boxes to look in.
        config: its input and test sections hold.
        processes: this process among its equals.
        workers: data loading processes.
    """
    pairs = config.keypoints.flip_pairs if config.test.flip else None
    heatmap_fn = partial(predict_heatmaps, heatmap_fn, flip_pairs=pairs, shift=config.test.flip_shift)
    return predict_crops(heatmap_fn, persons, config, processes, workers)


def predict_crops(
    heatmap_fn: Callable[[torch.Tensor], torch.Tensor],
    persons: Persons,
    config: Config,
    processes: DistContext,
    workers: int,
) -> Predictions:
    """Do the same with whatever makes (B, K, h / 4, w / 4) heatmaps of (B, h, w, 3) uint8 RGB crops on the device."""
    by_image = np.argsort(persons.image_ids, kind="stable")  # neighbours share the decoded image
    mine = np.array_split(by_image, processes.count)[processes.rank]
    loader = test_loader(TestCrops(persons.take(mine), config.input), config.test.batch_size, workers)
    count = config.keypoints.num_keypoints
    keypoints = np.zeros((len(mine), count, 2), dtype=np.float32)
    scores = np.zeros((len(mine), count), dtype=np.float32)
    areas = np.zeros(len(mine))
    with ProgressLine("test", len(mine), "persons") as progress:
        for batch in batches(loader):
            heatmaps = heatmap_fn(batch.image.to(processes.device))
            rows = batch.row.numpy()
            keypoints[rows], scores[rows] = keypoints_in_image(heatmaps, batch.heatmap_to_image.numpy())
            areas[rows] = batch.area.numpy()
            progress.advance(len(rows))
    parts = gather((mine, keypoints, scores, areas), processes)
    rows, keypoints, scores, areas = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows)
    return Predictions(persons.image_ids, keypoints[order], scores[order], persons.scores, areas[order])


def make_results(predictions: Predictions, test_set: TestSet, config: Config) -> list[Result]:
    """Rescore and suppress predictions, as the COCO server takes them."""
    options, sigmas = config.test, config.keypoints.sigmas
    return to_results(
        predictions, sigmas, options.keypoint_threshold, options.nms_threshold, category_id=test_set.category_id
    )


def score_results(results: list[Result], test_set: TestSet, config: Config) -> Metrics:
    """Evaluate results against the annotations."""
    return evaluate(test_set.annotations, results, config.keypoints.sigmas, category_id=test_set.category_id)


def load_for_eval(config: Config, path: Path) -> tuple[Callable[[torch.Tensor], torch.Tensor], Config]:
    """Open an exported model, on as many threads as PyTorch has.

    Returns:
        what `pose.engine.evaluate.predict_crops` takes, and the config with the flip average that the file does.

    Raises:
        PoseError: its engine is not installed.
        CheckpointError: it is missing, damaged, or made for other crops or keypoints than the config's.
    """
    model = open_exported(path, torch.get_num_threads())
    card = read_metadata(model.metadata, path)
    for key, theirs, ours in (
        ("input", card.input_config, config.input),
        ("skeleton", card.skeleton, config.keypoints),
    ):
        if theirs != ours:
            raise CheckpointError(
                f"{path}: exported with another {key} than the config's; use the config that it was trained with"
            )
    averages = {"flip": card.flip_shift is not None, "flip_shift": card.flip_shift or 0}
    test = config.test.model_copy(update=averages)

    def heatmap_fn(crops_rgb: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(model.run(crops_rgb.numpy())[HEATMAPS])

    return heatmap_fn, config.model_copy(update={"test": test})
