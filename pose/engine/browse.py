"""HTML page of training samples: keypoint set, labels per keypoint, persons as annotated and as augmented."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np

from pose.config.pose import Config
from pose.datasets.keypoint_set import keypoint_notes
from pose.datasets.samples import TrainingSamples
from pose.engine.sample_images import draw_annotation, draw_sample
from pose.images import Image
from pose.inference.visualize import tile_images
from pose.skeleton import Skeleton

EPOCHS = 3
"""Epochs whose augmentation is shown."""
JPEG_QUALITY = 85
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .9rem .2rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr { border-bottom: 1px solid #ddd; }
.warning { color: #a33c00; font-weight: 600; }
.samples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 4px; }
figcaption { color: #555; font-size: .85rem; overflow-wrap: anywhere; }
"""


def browse_page(given: Config, config: Config, dataset: TrainingSamples, samples: int) -> str:
    """Return the page as HTML without links to other files.

    Args:
        given: the config as the user wrote it, for the notes on its keypoint set.
        config: the config with its whole keypoint set.
        dataset: its training set.
        samples: number of persons, evenly spread over the training set.
    """
    persons, skeleton = dataset.persons, config.keypoints
    rows = np.unique(np.linspace(0, len(persons) - 1, min(samples, len(persons))).astype(int))
    num_images = len(np.unique(persons.image_ids))
    notes = "".join(
        f'<p class="{"warning" if is_warning else "note"}">{escape(text)}</p>'
        for is_warning, text in keypoint_notes(given, skeleton)
    )
    title = escape(f"{config.name}: training samples")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f"<p>{len(persons)} annotations with keypoints in {num_images} images of "
        f"{escape(str(config.data.root / config.data.train_annotations))}</p>\n"
        f"<h2>Keypoints</h2>\n{notes}\n{_keypoint_table(dataset, skeleton)}\n"
        f"<h2>Samples</h2>\n<p>Each row: as annotated, then as the model gets it in {EPOCHS} epochs, with its target "
        "heatmaps (magenta). Left is blue, right is orange.</p>\n"
        f'<div class="samples">\n{"".join(_figures(dataset, config, rows.tolist()))}</div>\n</body></html>\n'
    )


def _keypoint_table(dataset: TrainingSamples, skeleton: Skeleton) -> str:
    """Return a table of name, flip partner, sigma, and the share of persons with the keypoint labeled and visible."""
    visibility = dataset.persons.visibility
    partner = {a: skeleton.names[b] for left, right in skeleton.flip_pairs for a, b in ((left, right), (right, left))}
    cells = [
        (
            str(index),
            escape(name),
            escape(partner.get(index, "-")),
            f"{skeleton.sigmas[index]:g}",
            f"{(visibility[:, index] > 0).mean():.0%}",
            f"{(visibility[:, index] == 1).mean():.0%}",
        )
        for index, name in enumerate(skeleton.names)
    ]
    head = "".join(f"<th>{name}</th>" for name in ("", "name", "flip partner", "sigma", "labeled", "hidden"))
    body = "".join(
        "<tr>"
        + "".join(f"<td{'' if column in (1, 2) else ' class=number'}>{cell}</td>" for column, cell in enumerate(row))
        + "</tr>"
        for row in cells
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _figures(dataset: TrainingSamples, config: Config, rows: Sequence[int]) -> Iterable[str]:
    for row in rows:
        record = dataset.persons.record(row)
        drawn = [draw_sample(dataset[epoch, row], config.keypoints) for epoch in range(EPOCHS)]
        image = tile_images([draw_annotation(record, config.keypoints, config.input), *drawn], EPOCHS + 1, gap=3)
        caption = escape(f"annotation {record.id}, {dataset.persons.file_names[row]}")
        yield f'<figure><img alt="" src="{_data_url(image)}"><figcaption>{caption}</figcaption></figure>\n'


def _data_url(image: Image) -> str:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
