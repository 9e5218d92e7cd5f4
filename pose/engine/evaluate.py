"""Evaluation of a pose model for validation and testing: person boxes to predictions, COCO results and AP."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pose.config.pose import Config
from pose.config.skeleton import reads_annotations, resolved
from pose.datasets.coco import Persons, annotated_persons, detected_persons, find_category
from pose.datasets.coco_json import read_annotations
from pose.datasets.loading import batches, test_loader
from pose.datasets.samples import TestCrops
from pose.engine.distributed import DistContext, all_gather
from pose.errors import CheckpointError
from pose.evaluation.coco_ap import Metrics, evaluate
from pose.evaluation.coco_results import Predictions, Result, to_results
from pose.inference.backends import is_exported
from pose.inference.exported import ExportedPredictor
from pose.inference.pytorch import HeatmapFn, in_bf16, keypoints_in_image, predict_heatmaps
from pose.models.weights import load_weights_for, take_keypoints
from pose.progress import ProgressLine
from pose.runtime.exports import cached_export
from pose.runtime.pose_predictor import Runtime, usable_runtimes

PredictFn = Callable[[Persons, Config, DistContext, int], Predictions]
"""Predicts the keypoints of persons, with a config, the context of the process and a number of loading workers."""


@dataclass(frozen=True)
class TestSet:
    """Person boxes of a validation or test set.

    Attributes:
        persons: persons with their boxes.
        annotations: annotation (or image-info) file of the images.
        category_id: category id of the persons in that file.
        annotated: whether the file has annotations to evaluate against.
        boxes: description of the source of the boxes.
    """

    persons: Persons
    annotations: Path
    category_id: int
    annotated: bool
    boxes: str


def load_test_set(config: Config, ground_truth: bool, detections: Path | None = None) -> TestSet:
    """Load the validation persons of a config.

    Args:
        config: its data, skeleton and test sections are used.
        ground_truth: use the annotated boxes instead of detector boxes.
        detections: file of detector boxes that replaces the config's.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    data, skeleton = config.data, config.keypoints
    annotations, images = data.root / data.val_annotations, data.root / data.val_images
    content = read_annotations(annotations)
    category_id = find_category(content.categories, annotations, skeleton, data.category)
    if ground_truth:
        persons = annotated_persons(annotations, images, skeleton, data.category)
        description = "ground-truth boxes"
    else:
        boxes = detections or data.root / data.val_detections
        persons = detected_persons(boxes, annotations, images, skeleton, config.test.box_threshold, data.category)
        description = f"detector boxes of {boxes.name}"
    return TestSet(persons, annotations, category_id, bool(content.annotations), description)


def predict_persons(
    heatmap_fn: HeatmapFn,
    persons: Persons,
    config: Config,
    dist: DistContext,
    workers: int,
) -> Predictions:
    """Predict the keypoints of every person with the flip average of the config; see `predict_crops`.

    ``heatmap_fn`` is `PoseNet.heatmaps` of a model in evaluation mode, on this rank's device.
    """
    pairs = config.keypoints.flip_pairs if config.test.flip else None
    crops_to_heatmaps = partial(predict_heatmaps, heatmap_fn, flip_pairs=pairs, shift=config.test.flip_shift)
    return predict_crops(crops_to_heatmaps, persons, config, dist, workers)


def predict_crops(
    crops_to_heatmaps: Callable[[torch.Tensor], torch.Tensor],
    persons: Persons,
    config: Config,
    dist: DistContext,
    workers: int,
) -> Predictions:
    """Predict the keypoints of every person; ranks share the persons without padding, and all get the result.

    Args:
        crops_to_heatmaps: maps (B, h, w, 3) uint8 RGB crops on this rank's device to (B, K, h / 4, w / 4) heatmaps.
        persons: persons with their boxes.
        config: its input and test sections are used.
        dist: rank, world size and device.
        workers: number of data loading processes.
    """
    by_image = np.argsort(persons.image_ids, kind="stable")  # so that an image with several persons is decoded once
    own = np.array_split(by_image, dist.world_size)[dist.rank]
    loader = test_loader(TestCrops(persons.take(own), config.input), config.test.batch_size, workers)
    num_keypoints = config.keypoints.num_keypoints
    keypoints = np.zeros((len(own), num_keypoints, 2), dtype=np.float32)
    scores = np.zeros((len(own), num_keypoints), dtype=np.float32)
    areas = np.zeros(len(own))
    with ProgressLine("test", len(own), "persons") as progress:
        for batch in batches(loader):
            heatmaps = crops_to_heatmaps(batch.image.to(dist.device))
            rows = batch.row.numpy()
            keypoints[rows], scores[rows] = keypoints_in_image(
                heatmaps, batch.heatmap_to_image.numpy(), config.test.decode, config.input.sigma
            )
            areas[rows] = batch.area.numpy()
            progress.advance(len(rows))
    parts = all_gather((own, keypoints, scores, areas), dist)
    rows, keypoints, scores, areas = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows)
    return Predictions(persons.image_ids, keypoints[order], scores[order], persons.scores, areas[order])


def make_results(predictions: Predictions, test_set: TestSet, config: Config) -> list[Result]:
    """Rescore predictions, remove duplicates by OKS-NMS, and return COCO results."""
    options, sigmas = config.test, config.keypoints.sigmas
    return to_results(
        predictions, sigmas, options.keypoint_threshold, options.nms_threshold, category_id=test_set.category_id
    )


def score_results(results: list[Result], test_set: TestSet, config: Config) -> Metrics:
    """Return the COCO keypoint metrics of results."""
    return evaluate(test_set.annotations, results, config.keypoints.sigmas, category_id=test_set.category_id)


def load_predict_fn(
    config: Config, weights: Path, device: torch.device, bf16: bool = False, runtime: Runtime = "pytorch"
) -> tuple[PredictFn, Config]:
    """Load a weight file or an exported model.

    Args:
        config: of the model and the test.
        weights: file of either kind.
        device: for a weight file; exported models use the CPU.
        bf16: compute in bfloat16; of exported models only OpenVINO's can.
        runtime: runs a weight file's model, see `pose.PosePredictor`.

    Returns:
        `predict_persons` or `predict_crops` with the model, and the config with the flip average that is computed, and
        with the keypoint set of the weights if the config leaves it to the annotations.

    Raises:
        PoseError: the weights cannot be used, or an exported model's backend is not installed.
    """
    if is_exported(weights):
        crops_to_heatmaps, config = load_for_eval(config, weights, bf16=bf16)
        return partial(predict_crops, crops_to_heatmaps), config
    if runtimes := usable_runtimes(runtime, device, bf16):
        export = cached_export(weights, runtimes)
        crops_to_heatmaps, config = load_for_eval(config, export, flip=config.test.flip, bf16=bf16)
        return partial(predict_crops, crops_to_heatmaps), config
    config = take_keypoints(config, weights)
    model = load_weights_for(config, weights).to(device)
    return partial(predict_persons, in_bf16(model.heatmaps, device) if bf16 else model.heatmaps), config


def load_for_eval(
    config: Config, path: Path, *, flip: bool = False, bf16: bool = False
) -> tuple[Callable[[torch.Tensor], torch.Tensor], Config]:
    """Load an exported model for evaluation, with as many threads as PyTorch uses.

    Args:
        config: of the model and the test.
        path: of the exported model.
        flip: average with the mirrored crops, also if the file does not.
        bf16: compute in bfloat16, in OpenVINO.

    Returns:
        crops_to_heatmaps for `predict_crops`, and the config with the flip average that the exported model computes,
        and with its keypoint set if the config leaves it to the annotations.

    Raises:
        PoseError: its backend is not installed.
        CheckpointError: the file is missing or damaged, or has another input or skeleton than the config.
    """
    predictor = ExportedPredictor(path, flip=flip, bf16=bf16, threads=torch.get_num_threads())
    metadata = predictor.metadata
    if reads_annotations(config.skeleton):
        config = config.model_copy(update={"skeleton": resolved(metadata.skeleton)})
    for key, exported, configured in (
        ("input", metadata.input_config, config.input),
        ("skeleton", metadata.skeleton, config.keypoints),
    ):
        if exported != configured:
            raise CheckpointError(
                f"{path}: exported with another {key} than the config's; use the config that it was trained with"
            )
    shift = metadata.test_flip_shift if predictor.flip else metadata.flip_shift
    test = config.test.model_copy(update={"flip": shift is not None, "flip_shift": shift or 0})

    def crops_to_heatmaps(crops_rgb: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(predictor.heatmaps(crops_rgb.numpy()))

    return crops_to_heatmaps, config.model_copy(update={"test": test})
