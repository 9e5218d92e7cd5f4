"""The annotated persons of a validation set, and which prediction is closest to each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.config.pose import Config
from pose.datasets.coco import Persons, annotated_persons
from pose.evaluation.coco_results import Predictions
from pose.evaluation.oks import oks
from pose.geometry import Array


@dataclass(frozen=True)
class Truth:
    """N annotated persons.

    Attributes:
        persons: with labeled keypoints; no crowds.
        areas: (N,) annotated areas in square pixels, the scale of OKS.
    """

    persons: Persons
    areas: Array


@dataclass(frozen=True)
class Closest:
    """The closest prediction of each of N annotated persons.

    Attributes:
        rows: (N,) row of the prediction with the highest OKS on the same image; -1 if the image has none.
        oks: (N,) its OKS over the labeled keypoints, as COCO computes it; 0 if the image has none.
    """

    rows: NDArray[np.intp]
    oks: Array


def load_truth(config: Config) -> Truth:
    """Load the annotated validation persons of a config.

    Raises:
        DataError: as `pose.datasets.coco.annotated_persons`.
    """
    data = config.data
    path = data.root / data.val_annotations
    persons = annotated_persons(path, data.root / data.val_images, config.keypoints, data.category)
    return Truth(persons, persons.areas)


def find_closest(predictions: Predictions, truth: Truth, sigmas: tuple[float, ...]) -> Closest:
    """Return the closest prediction of each annotated person; one prediction may be the closest of several."""
    persons, all_sigmas = truth.persons, np.array(sigmas)
    order = np.argsort(predictions.image_ids, kind="stable")
    image_ids = np.asarray(predictions.image_ids)[order]
    first, end = (np.searchsorted(image_ids, persons.image_ids, side=side) for side in ("left", "right"))
    rows, values = np.full(len(persons), -1, dtype=np.intp), np.zeros(len(persons))
    for person in range(len(persons)):
        candidates = order[first[person] : end[person]]
        if len(candidates):
            labeled = persons.visibility[person] > 0
            areas = np.full(len(candidates), truth.areas[person])
            similarity = oks(
                persons.keypoints_image[person, labeled],
                truth.areas[person],
                predictions.keypoints_image[candidates][:, labeled],
                areas,
                all_sigmas[labeled],
            )
            best = int(similarity.argmax())
            rows[person], values[person] = candidates[best], similarity[best]
    return Closest(rows, values)
