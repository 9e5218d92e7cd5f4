"""Check the categories of an annotation file: their keypoint names against the config, and which one is used."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pose.datasets.coco_json import CategoryRow
from pose.datasets.keypoint_set import difference, several_categories
from pose.datasets.validation.issues import Issue
from pose.skeleton import Skeleton


def category_issues(
    where: Path, categories: Sequence[CategoryRow], skeleton: Skeleton | None, category: str | None
) -> Iterator[Issue]:
    """Compare number, names and order of the keypoints with the skeleton; find categories that could be confused.

    Args:
        where: annotation file.
        categories: its category records.
        skeleton: keypoint set of the config, None if there is no config.
        category: name of the category that is used, None: the only one with the skeleton's keypoints.
    """
    if category is not None and not any(entry.name == category for entry in categories):
        names = [entry.name for entry in categories]
        yield Issue("error", where, f"no category '{category}' among {names}", "set data.category to one of them")
        return
    named = [entry for entry in categories if entry.keypoints and category in (None, entry.name)]
    for entry in named:
        repeated = sorted({name for name, count in Counter(entry.keypoints).items() if count > 1})
        if repeated:
            what = f"category '{entry.name}' lists keypoints twice: {', '.join(repeated)}"
            yield Issue("error", where, what, "give each keypoint a name of its own")
    if skeleton is None:
        for keypoints in {entry.keypoints for entry in named}:
            same = [entry for entry in named if entry.keypoints == keypoints]
            if len(same) > 1:
                yield Issue("warning", where, several_categories(same))
        return
    differences = [difference(entry.keypoints or (), skeleton) for entry in named]
    matching = [entry for entry, text in zip(named, differences, strict=True) if text is None]
    if len(matching) > 1:
        yield Issue("error", where, several_categories(matching))
    if not matching:
        for entry, text in zip(named, differences, strict=True):
            todo = "set 'skeleton' to the file's keypoints (skeleton: from_annotations), or correct the file"
            yield Issue("error", where, f"category '{entry.name}': {text}", todo)
