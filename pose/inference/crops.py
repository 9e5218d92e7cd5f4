"""Crops of persons in batches. Only one batch is in memory: 10,000 crops of the default size take 1.5 GB."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from pose.config.pose import InputConfig
from pose.geometry import Array, Float32
from pose.images import Image, person_crop


def crop_batches(
    images: Sequence[Image], boxes: Sequence[Float32], input_config: InputConfig, batch_size: int
) -> Iterator[tuple[Image, Array]]:
    """Yield the crops of all boxes in order, cut when they are needed; images share batches.

    Args:
        images: (H, W, 3) uint8 BGR each.
        boxes: for each image (N_i, 4) xywh in its pixels.
        input_config: size and padding of the crops.
        batch_size: maximum number of crops in a batch.

    Yields:
        crops (B, h, w, 3) uint8 RGB, and the matrices heatmap_to_image (B, 2, 3).
    """
    crops = (
        person_crop(image, bbox_xywh, input_config)
        for image, image_boxes in zip(images, boxes, strict=True)
        for bbox_xywh in image_boxes
    )
    while batch := list(islice(crops, batch_size)):
        yield np.stack([crop for crop, _, _ in batch]), np.stack([matrix for _, matrix, _ in batch])
