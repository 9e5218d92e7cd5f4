"""Samples from a crop cache are those from the images but for small differences of pixels; no stale cache is used."""

import os
import pickle
import zipfile
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache import build as crop_cache_build
from pose.datasets.crop_cache import file as crop_cache
from pose.datasets.crop_cache.build import build_crop_cache, cut_region
from pose.datasets.crop_cache.file import make_stamp, open_crop_cache, read_crop_cache
from pose.datasets.crop_cache.regions import Region
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.datasets.samples import TrainingSamples
from pose.errors import DataError, PoseError
from pose.geometry import compose, invert, transform_points
from pose.images import crop, decode
from pose.skeleton import COCO, make_skeleton

SMALL = InputConfig(size_hw=(128, 96))
TINY = InputConfig(size_hw=(32, 32))  # most persons are larger, and kept reduced
AUGMENT = AugmentConfig()


@pytest.fixture
def read_persons(tiny_coco):
    return partial(annotated_persons, tiny_coco.annotations, tiny_coco.images, COCO)


@pytest.fixture
def persons(read_persons):
    return read_persons()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fast disk/train.crops"


def build(persons, path, input_config=SMALL, augment=AUGMENT, **options):
    written = build_crop_cache(persons, COCO, input_config, augment, path, **options)
    return written, open_crop_cache(path, make_stamp(persons, COCO, input_config, augment))


def refused(call, *words):
    with pytest.raises(PoseError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def hidden_files(path):
    return [file.name for file in path.parent.iterdir() if file != path]


# The warp of an image skips pixels where it shrinks; a crop that is kept reduced averages them.
@pytest.mark.parametrize(("geometry", "bound"), [(SMALL, 3), (TINY, 5)], ids=["whole", "reduced"])
def test_samples_differ_from_those_of_the_images_in_their_pixels_only_and_little(persons, path, input_config, bound):
    augment = AugmentConfig(half_body_probability=0.5)
    _, crops = build(persons, path, input_config, augment)
    plain = TrainingSamples(persons, COCO, input_config, augment, seed=4)
    cached = TrainingSamples(persons, COCO, input_config, augment, seed=4, crops=crops)

    for key in ((epoch, row) for epoch in range(20) for row in range(len(persons))):
        ours, theirs = cached[key], plain[key]
        assert all(torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))
        difference = ours.image.int() - theirs.image.int()
        assert difference.abs().float().mean() < bound
        assert difference.float().mean().abs() < bound / 2


def test_a_preset_draws_the_same_random_numbers_from_a_cache(persons, path, monkeypatch):
    _, crops = build(persons, path)
    drawn = []
    for cache in (None, crops):
        samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=4, crops=cache)
        monkeypatch.setattr(samples, "_color_augment", lambda image, rng: drawn.append(rng.integers(1 << 62)) or image)
        for row in range(len(persons)):
            samples[1, row]

    assert drawn[: len(persons)] == drawn[len(persons) :]


def test_no_image_is_read(persons, path):
    _, crops = build(persons, path)
    cached = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=0, crops=crops)
    for row in range(len(persons)):
        persons.record(row).image_path.unlink(missing_ok=True)

    assert cached[0, 0].image.any()


SLOPES = np.array([0.7, -0.9])


@pytest.fixture
def ramps():
    y, x = np.indices((250, 330))
    return np.dstack([0 * x, 245 + SLOPES[1] * y, 10 + SLOPES[0] * x]).round().astype(np.uint8)


@pytest.mark.parametrize("pixels_per_input", [1, 1.3, 2.5, 4])
@pytest.mark.parametrize(("start", "end"), [((-30, 40), (200, 400)), ((101, 7), (280, 201)), ((-9, -9), (999, 999))])
def test_a_cut_lies_where_its_matrix_says(ramps, start, end, pixels_per_input):
    jpeg, to_image = cut_region(ramps, Region(start, end, pixels_per_input))

    cut = decode(jpeg, "cut")

    rows, columns = np.indices(cut.shape[:2])[:, 2:-2, 2:-2]
    in_image = transform_points(np.dstack([columns, rows]), to_image)
    shown_at = (cut[2:-2, 2:-2, [2, 1]] - np.array([10, 245])) / SLOPES
    np.testing.assert_allclose((shown_at - in_image).mean(axis=(0, 1)), 0, atol=0.2)
    visible = np.minimum(end, (330, 250)) - np.maximum(start, (0, 0))
    np.testing.assert_array_equal(cut.shape[1::-1], np.ceil(visible / pixels_per_input))
    corners = transform_points([[-0.5, -0.5], np.array(cut.shape[1::-1]) - 0.5], to_image) + 0.5
    np.testing.assert_allclose(corners, [np.maximum(start, (0, 0)), np.minimum(end, (330, 250))], atol=1e-9)


@pytest.mark.parametrize(("start", "end"), [((-90, -50), (-10, -5)), ((400, 300), (500, 390)), ((-20, 90), (0, 120))])
def test_a_region_outside_the_image_stays_black_in_every_crop(ramps, start, end):
    jpeg, to_image = cut_region(ramps, Region(start, end, 1.0))
    matrix = np.array([[1, 0, -start[0]], [0, 1, -start[1]]], dtype=float)
    size_wh = (end[0] - start[0], end[1] - start[1])

    assert crop(decode(jpeg, "cut"), compose(matrix, to_image), size_wh).sum() <= 255 * 3 * sum(size_wh)
    assert (
        crop(ramps, matrix, size_wh).sum() == crop(decode(jpeg, "cut"), compose(matrix, to_image), size_wh).sum() == 0
    )


def test_a_part_of_a_image_is_kept_without_a_shift(persons, path):
    record = persons.record(0)
    image = cv2.imread(str(record.image_path))
    _, crops = build(persons, path)
    to_image = crops.to_image[0]
    encoded = crops.content[crops.starts[0] : crops.starts[0] + crops.sizes[0]]

    cut = decode(encoded, "crop")

    height, width = cut.shape[:2]
    np.testing.assert_array_equal(to_image[:, :2], np.eye(2))
    x, y = to_image[:, 2].astype(int)
    assert np.abs(cut.astype(int) - image[y : y + height, x : x + width]).mean() < 3
    np.testing.assert_allclose(invert(to_image)[:, 2], [-x, -y])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_changes_no_batch(persons, path, workers):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=0, crops=crops)
    sampler = EpochSampler(len(samples), 2)

    found = list(batches(training_loader(samples, sampler, workers, pin_memory=False)))

    rows = [key for part in sampler for key in part]
    assert len(rows) == 4
    for key, image in zip(rows, torch.cat([batch.image for batch in found]), strict=True):
        assert torch.equal(image, samples[key].image)


def test_the_number_of_threads_changes_no_crop(persons, path):
    _, alone = build(persons, path)
    _, helped = build(persons, path.with_name("other.crops"), threads=3)

    for row in range(len(persons)):
        one, other = (cache.content[cache.starts[row] :][: cache.sizes[row]] for cache in (alone, helped))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone.to_image, helped.to_image)


def test_a_process_that_is_started_afresh_opens_the_file_itself(persons, path):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=0, crops=crops)

    assert len(pickle.dumps(crops)) < 2000
    again = pickle.loads(pickle.dumps(samples))

    assert torch.equal(again[3, 2].image, samples[3, 2].image)


def test_what_is_up_to_date_is_not_written_again(persons, path):
    assert build(persons, path)[0]
    before = path.stat()

    assert not build(persons, path)[0]
    assert path.stat() == before


UNCHANGED = {
    "flip_probability": 0,
    "rotation_std_deg": 3,
    "scale_std": 0.1,
    "half_body_upper_probability": 0.1,
    "photometric": "light",
}


@pytest.mark.parametrize(("name", "value"), UNCHANGED.items())
def test_options_that_show_no_other_part_of_a_image_keep_the_cache(persons, path, name, value):
    build(persons, path)

    open_crop_cache(path, make_stamp(persons, COCO, SMALL, AugmentConfig(**{name: value})))


CHANGED = {
    "scale_limits": (0.65, 1.4),
    "rotation_limit_deg": 46,
    "rotation_probability": 0,
    "half_body_min_keypoints": 7,
    "half_body_probability": 0,
}
SAID_AS = {"rotation_probability": "rotation_limit_deg", "half_body_probability": "half_body_min_keypoints"}


@pytest.mark.parametrize(("name", "value"), CHANGED.items())
def test_a_cache_of_other_views_is_refused_by_the_options_name(persons, path, name, value):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL, AugmentConfig(**{name: value}))

    refused(partial(open_crop_cache, path, stamp), str(path), f"augment.{SAID_AS.get(name, name)} was", "build_cache")


@pytest.mark.parametrize(("name", "value"), [("size_hw", (64, 64)), ("padding", 1.3)])
def test_a_cache_for_another_input_is_refused(persons, path, name, value):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL.model_copy(update={name: value}), AUGMENT)

    refused(partial(open_crop_cache, path, stamp), f"input.{name} was")


def test_a_cache_for_another_skeleton_or_version_is_refused(persons, path, monkeypatch):
    build(persons, path)
    renamed = make_skeleton([name.replace("hip", "hip_hand") for name in COCO.names])
    refused(lambda: open_crop_cache(path, make_stamp(persons, renamed, SMALL, AUGMENT)), "upper body was")

    monkeypatch.setattr(crop_cache, "VERSION", 99)
    refused(lambda: open_crop_cache(path, make_stamp(persons, COCO, SMALL, AUGMENT)), "version was 1 and is 99")


@pytest.mark.parametrize("key", ["bbox", "keypoints", "file_name"])
def test_a_cache_of_other_annotations_is_refused(persons, read_persons, tiny_coco, path, key):
    build(persons, path)

    def change(content):
        if key == "file_name":
            first, second = content["images"][:2]
            first[key], second[key] = second[key], first[key]
        else:
            content["annotations"][0][key][0] += 1

    tiny_coco.edit(change)
    refused(lambda: open_crop_cache(path, make_stamp(read_persons(), COCO, SMALL, AUGMENT)), "the annotated persons")


def test_annotations_that_say_the_same_keep_the_cache(persons, read_persons, tiny_coco, path):
    build(persons, path)
    tiny_coco.edit(lambda content: content.update(info={"year": 2026}))

    open_crop_cache(path, make_stamp(read_persons(), COCO, SMALL, AUGMENT))


@pytest.mark.parametrize("change", ["touched", "longer"])
def test_a_cache_of_other_images_is_refused(persons, path, change):
    build(persons, path)
    picture = persons.record(3).image_path
    before = picture.stat()
    if change == "longer":
        picture.write_bytes(picture.read_bytes() + b"x")
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "touched")))
    stamp = make_stamp(persons, COCO, SMALL, AUGMENT)

    refused(partial(open_crop_cache, path, stamp), "stale", "the images have changed")
    assert build_crop_cache(persons, COCO, SMALL, AUGMENT, path)
    open_crop_cache(path, stamp)


def test_a_image_that_is_gone_is_named(persons, path):
    build(persons, path)
    persons.record(4).image_path.unlink()

    refused(lambda: make_stamp(persons, COCO, SMALL, AUGMENT), "more/3.png", "cannot read the image")


def test_all_differences_are_said_at_once(persons, path):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL.model_copy(update={"padding": 1.5}), AugmentConfig(rotation_limit_deg=10))

    refused(
        partial(open_crop_cache, path, stamp),
        "input.padding was 1.25 and is 1.5, augment.rotation_limit_deg was 45.0 and is 10.0;",
    )


@pytest.mark.parametrize("keep", [0, 1, 23, 24, 1000, -1, -100])
def test_a_part_of_a_file_is_not_taken_for_the_whole(persons, path, keep):
    build(persons, path)
    path.write_bytes(path.read_bytes()[:keep])

    refused(lambda: read_crop_cache(path), str(path), "not a whole crop cache", "build_cache")
    refused(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "remove it")


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 1], ids=["index", "index too", "index again", "footer"])
def test_a_damaged_index_or_footer_is_refused(persons, path, part):
    _, crops = build(persons, path)
    content = bytearray(path.read_bytes())
    start = int((crops.starts + crops.sizes).max())
    content[start + int(part * (len(content) - 1 - start))] ^= 0xFF
    path.write_bytes(content)

    refused(lambda: read_crop_cache(path), str(path), "not a whole crop cache")


def test_a_damaged_crop_is_named(persons, path):
    _, crops = build(persons, path)
    content = bytearray(path.read_bytes())
    content[crops.starts[2] : crops.starts[2] + 2] = b"??"
    path.write_bytes(content)
    damaged = TrainingSamples(persons, COCO, SMALL, AUGMENT, 0, read_crop_cache(path))

    assert damaged[0, 1].image.any()
    refused(lambda: damaged[0, 2], f"{path} (row 2)", "not an image")


def test_no_code_is_run_from_an_index(path, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    path.parent.mkdir()
    with path.open("wb") as file:
        np.savez(file, stamp=np.array([Payload()], dtype=object), starts=0, sizes=0, to_image=0)
        file.write(crop_cache.FOOTER.pack(0, crop_cache.MAGIC))

    refused(lambda: read_crop_cache(path), "not a whole crop cache")
    assert not (tmp_path / "run").exists()
    assert zipfile.is_zipfile(path)  # it was the payload that was refused


@pytest.mark.parametrize("kind", ["nothing", "folder"])
def test_what_is_no_file_is_refused(path, kind):
    if kind == "folder":
        path.mkdir(parents=True)

    refused(lambda: read_crop_cache(path), str(path), "crop cache", "data/build_cache.py")


def test_a_file_that_is_not_ours_is_left_alone(persons, path):
    path.parent.mkdir()
    path.write_text("precious, and longer than a footer")

    refused(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "something else")
    assert path.read_text().startswith("precious")


@pytest.mark.parametrize("first", [True, False], ids=["nothing before", "a cache before"])
def test_an_interrupted_build_leaves_what_was_there(persons, path, first):
    path.parent.mkdir()
    if not first:
        build(persons, path)
    before = None if first else path.read_bytes()
    persons.record(4).image_path.write_bytes(b"torn")

    refused(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), "3.png: not an image")

    assert (path.read_bytes() if path.exists() else None) == before
    assert hidden_files(path) == []


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(persons, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crop_cache_build, "write_index", full)

    refused(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "No space left", "free the disk")
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(persons, path):
    path.parent.write_text("a file where the folder should be")

    refused(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "cannot write")


def test_training_goes_on_from_the_file_it_opened_when_another_takes_its_place(persons, path):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, 0, crops)
    before, packed = samples[0, 1].image, pickle.dumps(crops)
    wider = AugmentConfig(scale_limits=(0.5, 2))

    assert build(persons, path, SMALL, wider)[0]

    assert torch.equal(samples[0, 1].image, before)
    refused(lambda: pickle.loads(packed), "stale", "augment.scale_limits")


def test_a_cache_is_as_long_as_its_persons(persons, path):
    _, crops = build(persons.take(np.array([3, 0, 2])), path)

    assert len(crops) == 3
    assert isinstance(crops.stamp["version"], int)
    with pytest.raises(DataError):
        open_crop_cache(path, make_stamp(persons, COCO, SMALL, AUGMENT))
    assert replace(crops, path=path.with_name("x")).path.name == "x"
