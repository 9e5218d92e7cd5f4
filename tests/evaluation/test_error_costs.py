"""AP that planted errors cost, which follows from COCO's definition."""

import numpy as np
import pytest

from pose.evaluation.error_classes import classify_keypoints
from pose.evaluation.error_costs import Evaluation, corrections_in_turn, error_costs, format_costs
from pose.skeleton import COCO

HALF = 51 / 101
"""AP of two persons if one is found first, and the other never: precision 1 at the recall levels 0 to .5."""


def evaluate(scene):
    evaluation = Evaluation(scene.ground_truth(), scene.results, COCO.sigmas, 1)
    match = evaluation.match(scene.results)
    return evaluation, match, classify_keypoints(match, COCO.sigmas)


def costs(scene):
    return {row["error"]: row for row in error_costs(*evaluate(scene))}


def plant(scene, error, jittered):
    """Put one perfect person into image 1, and one with ten wrong keypoints of 17 into image 2, of OKS 7/17."""
    scene.result(scene.person())
    truth, other = scene.person(image_id=2), scene.person(image_id=2, left=2000, labeled=range(17))
    keypoints = truth.copy()
    if error == "jitter":
        keypoints = jittered(truth, 0.72)
    elif error == "inversion":
        keypoints[5:15] = keypoints[[6, 5, 8, 7, 10, 9, 12, 11, 14, 13]]
    elif error == "swap":
        keypoints[5:15] = other[5:15]
    else:
        keypoints[5:15] -= [700, 700]
    scene.result(keypoints, 0.5, image_id=2)
    scene.result(other, 0.95, image_id=2)


@pytest.mark.parametrize(("error", "count"), [("jitter", 17), ("inversion", 10), ("swap", 10), ("miss", 10)])
def test_each_planted_class_costs_what_its_person_is_worth_and_no_other_class_costs_anything(
    error, count, scene, jittered
):
    plant(scene, error, jittered)

    rows = costs(scene)

    # Three persons, the third found not at all (OKS 7/17), or by jitter only at the five thresholds up to .7.
    two_thirds = 67 / 101
    as_given = (5 + 5 * two_thirds) / 10 if error == "jitter" else two_thirds
    for name in ("jitter", "inversion", "swap", "miss"):
        assert rows[name]["count"] == (count if name == error else 0)
        assert rows[name]["AP"] == pytest.approx(1 if name == error else as_given, abs=1e-4)
        assert rows[name]["gain"] == pytest.approx(1 - as_given if name == error else 0, abs=1e-4)
        assert rows[name]["of"] == 51


def test_optimal_scores_gain_what_a_worse_result_with_a_higher_score_costs(scene, jittered):
    keypoints = scene.person()
    scene.result(keypoints, score=0.3)
    scene.result(jittered(keypoints, 0.72), score=0.9)

    row = costs(scene)["score"]

    # Up to OKS .7 the higher score is right; above, the wrong one comes first: precision 1/2 at every recall.
    assert row["AP"] == 1
    assert row["gain"] == pytest.approx(0.25)
    assert (row["count"], row["of"]) == (1, 1)


def test_false_positives_and_false_negatives_gain_what_they_cost(scene):
    keypoints = scene.person()
    scene.result(keypoints, score=0.5)
    scene.result(keypoints + 3000, score=0.9)

    row = costs(scene)["false positive"]
    assert (row["count"], row["of"], row["AP"], row["gain"]) == (1, 2, 1, 0.5)

    scene.results.pop()
    scene.person(left=2000)

    row = costs(scene)["false negative"]
    assert (row["count"], row["of"], row["AP"]) == (1, 2, 1)
    assert row["gain"] == pytest.approx(1 - HALF, abs=1e-4)


def test_all_corrections_together_give_ap_1_and_each_adds_its_part(scene, jittered):
    plant(scene, "miss", jittered)
    truth = scene.person(image_id=3)
    scene.result(truth - 3000, 0.99, image_id=3)

    steps = corrections_in_turn(*evaluate(scene))

    assert [step["step"] for step in steps] == [
        "as given", "miss", "swap", "inversion", "jitter", "score", "false positive", "false negative",
    ]  # fmt: skip
    values = [step["AP"] for step in steps]
    assert np.all(np.diff(values) >= 0)
    assert values[-1] == 1
    assert values[1] > values[0]
    assert values[5] > values[4]  # the false positive has the highest score
    assert values[7] > values[6]


def test_no_results_have_no_errors_but_false_negatives(scene):
    scene.person()

    rows = costs(scene)

    assert {name for name, row in rows.items() if row["count"]} == {"false negative"}
    assert rows["miss"]["AP"] == 0
    assert rows["miss"]["share"] is None
    assert rows["false negative"]["AP"] is None  # nobody is left to evaluate


def test_the_table_shows_counts_shares_and_gains_in_percent(scene):
    scene.person()
    figures = {"metrics": {"AP": 0.535}, "AP_interval": (0.5, 0.57), "errors": list(costs(scene).values())}

    table = format_costs(figures)

    assert table.startswith("AP 53.5 (95 % interval 50.0 to 57.0)\n")
    assert table.splitlines()[-1].split() == ["false", "negative", "1", "1", "100.0", "-", "-"]
