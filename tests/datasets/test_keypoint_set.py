"""The keypoint set of a run: from annotations, declared, described, and compared with files."""

import json
import logging

import pytest

from pose.config.data import DataConfig
from pose.config.pose import Config
from pose.config.skeleton import SkeletonConfig
from pose.datasets.coco import find_category
from pose.datasets.coco_json import read_annotations
from pose.datasets.keypoint_set import difference, log_keypoints, resolve_keypoints
from pose.datasets.validation.checks import check_annotations
from pose.errors import DataError
from pose.skeleton import COCO, make_skeleton

BEE = {"id": 3, "name": "bee", "keypoints": ["head", "wing_l", "wing_r"], "skeleton": [[1, 2], [1, 3]]}
FLOWER = {"id": 4, "name": "flower", "keypoints": ["stem", "petal"]}


@pytest.fixture
def config(tmp_path):
    """Return a function from categories and options to a config whose training annotations have these categories."""

    def make(*categories, skeleton="from_annotations", category=None):
        content = {"images": [], "annotations": [], "categories": list(categories)}
        (tmp_path / "train.json").write_text(json.dumps(content))
        data = DataConfig(root=tmp_path, train_annotations="train.json", category=category)
        return Config(skeleton=skeleton, data=data)

    return make


def messages(config, caplog):
    with caplog.at_level(logging.INFO):
        log_keypoints(config, resolve_keypoints(config).keypoints)
    return [record.getMessage() for record in caplog.records]


def test_names_limbs_and_flip_pairs_come_from_the_category(config):
    skeleton = resolve_keypoints(config(BEE, {"id": 9, "name": "tree"})).keypoints

    assert skeleton.names == ("head", "wing_l", "wing_r")
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.flip_pairs == ((1, 2),)


def test_options_that_are_set_replace_those_of_the_category(config):
    given = SkeletonConfig(flip_pairs=(("head", "wing_l"),), sigmas=(0.1, 0.2, 0.3), half_body=("wing_r",), limbs=())
    skeleton = resolve_keypoints(config(BEE, skeleton=given)).keypoints

    assert skeleton.names == ("head", "wing_l", "wing_r")
    assert skeleton.limbs == ()
    assert skeleton.flip_pairs == ((0, 1),)
    assert skeleton.sigmas == (0.1, 0.2, 0.3)
    assert skeleton.upper_body == (2,)


def test_a_resolved_config_needs_no_annotations(config, tmp_path):
    resolved = resolve_keypoints(config(BEE))
    (tmp_path / "train.json").unlink()

    loaded = Config.model_validate(resolved.model_dump(mode="json"))
    assert loaded.keypoints == resolved.keypoints
    assert resolve_keypoints(loaded) == loaded


def test_the_category_option_chooses_among_several(config):
    assert resolve_keypoints(config(BEE, FLOWER, category="flower")).keypoints.names == ("stem", "petal")
    with pytest.raises(DataError, match=r"2 categories have keypoints: bee, flower; set data\.category"):
        resolve_keypoints(config(BEE, FLOWER))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "bee"}], r"expected a category with 'keypoints' .* got the categories \['bee'\]"),
        ([{**BEE, "skeleton": [[0, 1]]}], "'skeleton': expected pairs of keypoint numbers in 1..3"),
        ([{**BEE, "skeleton": [1, 2]}], r"categories\[0\]\.skeleton\[0\] \(id 3\): expected a list, got 1"),
    ],
)
def test_categories_without_usable_keypoints_are_refused(config, categories, message):
    with pytest.raises(DataError, match=message) as caught:
        resolve_keypoints(config(*categories))
    assert "train.json" in str(caught.value)


def test_before_the_annotations_are_read_the_keypoints_are_unknown(config):
    with pytest.raises(DataError, match="come from the annotations"):
        _ = config(BEE).keypoints


def test_a_run_logs_its_flip_pairs_and_default_sigmas(config, caplog):
    pairs, sigmas = messages(config(BEE), caplog)

    assert pairs == "flip pairs: wing_l<->wing_r"
    assert sigmas.startswith("sigmas: head 0.05, wing_l 0.05, wing_r 0.05 (defaults: ")


def test_names_without_sides_are_warned_about_unless_declared(config, caplog):
    ants = {**BEE, "keypoints": ["head", "wing_1", "wing_2"]}

    warning = messages(config(ants), caplog)[1]
    assert warning.startswith("warning: no flip pairs, but augment.flip_probability and test.flip mirrors images")
    for pairs in ((), (("wing_1", "wing_2"),)):
        caplog.clear()
        declared = SkeletonConfig(flip_pairs=pairs)
        assert not any("warning" in text for text in messages(config(ants, skeleton=declared), caplog))


def test_a_side_without_partner_is_warned_about(config, caplog):
    lopsided = {**BEE, "keypoints": ["head", "wing_l", "wing_r", "left_leg"], "skeleton": []}

    assert "warning: no flip partner for left_leg: set skeleton.flip_pairs" in messages(config(lopsided), caplog)


def test_half_body_crops_without_a_group_are_warned_about(config, caplog):
    many = {**BEE, "keypoints": [f"p{index}" for index in range(9)], "skeleton": []}

    logged = messages(config(many, skeleton=SkeletonConfig(flip_pairs=())), caplog)
    assert any(text.startswith("half body: upper none; lower p0, ") for text in logged)
    assert any(text.startswith("warning: a half-body group has fewer than 3") for text in logged)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a", "b"], None),
        (["b", "a"], "keypoints in another order: number 1 is 'b', expected 'a'"),
        (["a"], r"1 keypoints, expected the 2 of the config's skeleton: lacks ['b']"),
        (["a", "c", "d"], "3 keypoints, expected the 2 of the config's skeleton: lacks ['b'] and has ['c', 'd']"),
    ],
)
def test_a_difference_names_number_order_and_keypoints(names, text):
    assert difference(names, make_skeleton(["a", "b"])) == text


def test_two_categories_with_equal_keypoints_are_refused_until_one_is_chosen(tiny_coco):
    dog = {"id": 2, "name": "dog", "keypoints": list(COCO.names)}
    tiny_coco.edit(lambda content: content["categories"].append(dog))
    categories = read_annotations(tiny_coco.annotations).categories

    with pytest.raises(DataError, match=r"2 categories have keypoints: person, dog; set data\.category"):
        find_category(categories, tiny_coco.annotations, COCO)
    assert find_category(categories, tiny_coco.annotations, COCO, "dog") == 2
    with pytest.raises(DataError, match="no category 'cat'"):
        find_category(categories, tiny_coco.annotations, COCO, "cat")


def found(tiny_coco, severity, **options):
    issues = check_annotations(tiny_coco.annotations, **options)
    return [issue.what for issue in issues if issue.severity == severity]


def test_check_data_sees_two_categories_with_equal_keypoints(tiny_coco):
    dog = {"id": 2, "name": "dog", "keypoints": list(COCO.names)}
    tiny_coco.edit(lambda content: content["categories"].append(dog))

    assert found(tiny_coco, "warning")[0].startswith("2 categories have keypoints: person, dog")
    assert found(tiny_coco, "error", skeleton=COCO)[0].startswith("2 categories have keypoints: person, dog")
    assert not any("categories" in what for what in found(tiny_coco, "error", skeleton=COCO, category="person"))


def test_check_data_compares_the_names_with_the_config(tiny_coco):
    (error,) = found(tiny_coco, "error", skeleton=make_skeleton([*COCO.names[:-2], COCO.names[-1], COCO.names[-2]]))

    assert error == ("category 'person': keypoints in another order: number 16 is 'left_ankle', expected 'right_ankle'")
    assert found(tiny_coco, "error", skeleton=COCO) == []
