"""The teacher's heatmaps of all training persons, computed once and kept in a file next to the data."""

import logging
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from pose.config.pose import Config
from pose.datasets.coco import Persons
from pose.datasets.crop_cache.file import digest, image_sizes_and_times
from pose.datasets.distillation import TeacherHeatmaps
from pose.datasets.loading import test_loader
from pose.datasets.samples import TestCrop, TestCrops
from pose.errors import ConfigError
from pose.files import replacing, writing
from pose.inference.teacher import Teacher
from pose.progress import ProgressLine

logger = logging.getLogger(__name__)

BATCH = 32


def open_teacher_heatmaps(config: Config, persons: Persons) -> TeacherHeatmaps:
    """Open the heatmaps of ``config.train.teacher``; compute and write them first if the file does not exist.

    The teacher sees crops of its own input size, which may differ from the student's. The file is
    ``teacher_<digest>.npy`` in ``data.root``, 1 byte a pixel (52 KB a person at 256x192). The digest covers
    all that the heatmaps depend on: teacher file, persons, their images, input, flip averaging.

    Args:
        config: its ``train.teacher`` is set.
        persons: the training persons.

    Raises:
        ConfigError: the teacher is missing or does not fit.
        DataError: an image cannot be read.
        MediaError: the file cannot be written.
    """
    options = config.train
    if options.teacher is None or not options.teacher.is_file():
        raise ConfigError(f"train.teacher {options.teacher}: no such file; expected the ONNX file of a pose model")
    teacher = Teacher(options.teacher, config.keypoints, config.input, flip=options.teacher_flip)
    path = config.data.root / f"teacher_{_digest(options.teacher, teacher, persons)}.npy"
    if not path.exists():
        logger.info("%s: computing the heatmaps of %s, once", path, options.teacher)
        _write(path, teacher, persons, options.workers)
    maps = np.load(path, mmap_mode="r", allow_pickle=False)
    return TeacherHeatmaps(maps, teacher.input_config, options.teacher_weight, options.teacher_threshold)


def _write(path: Path, teacher: Teacher, persons: Persons, workers: int) -> None:
    loader: DataLoader[TestCrop] = test_loader(TestCrops(persons, teacher.input_config), BATCH, workers)
    width, height = teacher.input_config.heatmap_wh
    shape = (len(persons), teacher.skeleton.num_keypoints, height, width)
    with replacing(path) as temporary, ProgressLine("teacher", len(persons), "persons") as progress:
        with writing(path):
            maps = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        row = 0
        for batch in loader:
            heatmaps = (teacher.heatmaps(batch.image).clamp(0, 1) * 255).round().byte()
            maps[row : row + len(heatmaps)] = heatmaps.numpy()
            row += len(heatmaps)
            progress.advance(len(heatmaps))
        maps.flush()


def _digest(file: Path, teacher: Teacher, persons: Persons) -> str:
    options = [*teacher.input_config.size_hw, teacher.input_config.padding, teacher.flip]
    return digest(
        np.frombuffer(file.read_bytes(), np.uint8),
        np.array(options, np.float64),
        np.array(teacher.skeleton.names),
        persons.file_names,
        persons.bboxes_xywh,
        image_sizes_and_times(persons),
    )[:16]
