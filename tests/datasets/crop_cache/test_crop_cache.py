"""Crop cache: samples equal those of the images up to small pixel differences, and stale files are rejected."""

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
from pose.datasets.crop_cache.build import build_crop_cache, crop_region
from pose.datasets.crop_cache.file import make_stamp, open_crop_cache, read_crop_cache
from pose.datasets.crop_cache.regions import Region
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.datasets.samples import TrainingSamples
from pose.errors import DataError, PoseError
from pose.geometry import compose, invert, transform_points
from pose.images import crop, decode
from pose.skeleton import COCO, make_skeleton

SMALL = InputConfig(size_hw=(128, 96))
TINY = InputConfig(size_hw=(32, 32))  # most persons are larger and stored at reduced size
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


def assert_rejected(call, *parts):
    with pytest.raises(PoseError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def hidden_files(path):
    return [file.name for file in path.parent.iterdir() if file != path]


# A warp that reduces an image skips pixels; a crop that is stored at reduced size averages them.
@pytest.mark.parametrize(("input_config", "bound"), [(SMALL, 3), (TINY, 5)], ids=["full size", "reduced"])
def test_cached_samples_differ_only_slightly_and_only_in_their_pixels(persons, path, input_config, bound):
    augment = AugmentConfig(half_body_probability=0.5)
    _, crops = build(persons, path, input_config, augment)
    plain = TrainingSamples(persons, COCO, input_config, augment, seed=4)
    cached = TrainingSamples(persons, COCO, input_config, augment, seed=4, crops=crops)

    for key in ((epoch, row) for epoch in range(20) for row in range(len(persons))):
        sample, expected = cached[key], plain[key]
        assert all(torch.equal(a, b) for a, b in zip(sample[1:], expected[1:], strict=True))
        difference = sample.image.int() - expected.image.int()
        assert difference.abs().float().mean() < bound
        assert difference.float().mean().abs() < bound / 2


def test_color_augmentation_gets_the_same_random_numbers_with_a_cache(persons, path, monkeypatch):
    _, crops = build(persons, path)
    drawn = []
    for cache in (None, crops):
        samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=4, crops=cache)
        monkeypatch.setattr(samples, "_color_augment", lambda image, rng: drawn.append(rng.integers(1 << 62)) or image)
        for row in range(len(persons)):
            samples[1, row]

    assert drawn[: len(persons)] == drawn[len(persons) :]


def test_no_image_is_read_with_a_cache(persons, path):
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
def test_a_cropped_region_matches_its_matrix(ramps, start, end, pixels_per_input):
    jpeg, crop_to_image = crop_region(ramps, Region(start, end, pixels_per_input))

    cropped = decode(jpeg, "crop")

    rows, columns = np.indices(cropped.shape[:2])[:, 2:-2, 2:-2]
    expected_xy = transform_points(np.dstack([columns, rows]), crop_to_image)
    color_xy = (cropped[2:-2, 2:-2, [2, 1]] - np.array([10, 245])) / SLOPES
    np.testing.assert_allclose((color_xy - expected_xy).mean(axis=(0, 1)), 0, atol=0.2)
    visible = np.minimum(end, (330, 250)) - np.maximum(start, (0, 0))
    np.testing.assert_array_equal(cropped.shape[1::-1], np.ceil(visible / pixels_per_input))
    corners = transform_points([[-0.5, -0.5], np.array(cropped.shape[1::-1]) - 0.5], crop_to_image) + 0.5
    np.testing.assert_allclose(corners, [np.maximum(start, (0, 0)), np.minimum(end, (330, 250))], atol=1e-9)


@pytest.mark.parametrize(("start", "end"), [((-90, -50), (-10, -5)), ((400, 300), (500, 390)), ((-20, 90), (0, 120))])
def test_a_region_outside_the_image_is_black_in_every_crop(ramps, start, end):
    jpeg, crop_to_image = crop_region(ramps, Region(start, end, 1.0))
    image_to_input = np.array([[1, 0, -start[0]], [0, 1, -start[1]]], dtype=float)
    size_wh = (end[0] - start[0], end[1] - start[1])

    cropped = crop(decode(jpeg, "crop"), compose(image_to_input, crop_to_image), size_wh)

    assert cropped.sum() <= 255 * 3 * sum(size_wh)
    assert crop(ramps, image_to_input, size_wh).sum() == cropped.sum() == 0


def test_a_region_is_stored_without_a_shift(persons, path):
    record = persons.record(0)
    image = cv2.imread(str(record.image_path))
    _, crops = build(persons, path)
    crop_to_image = crops.crop_to_image[0]
    encoded = crops.content[crops.starts[0] : crops.starts[0] + crops.sizes[0]]

    cropped = decode(encoded, "crop")

    height, width = cropped.shape[:2]
    np.testing.assert_array_equal(crop_to_image[:, :2], np.eye(2))
    x, y = crop_to_image[:, 2].astype(int)
    assert np.abs(cropped.astype(int) - image[y : y + height, x : x + width]).mean() < 3
    np.testing.assert_allclose(invert(crop_to_image)[:, 2], [-x, -y])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_does_not_change_the_batches(persons, path, workers):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=0, crops=crops)
    sampler = EpochSampler(len(samples), 2)

    loaded = list(batches(training_loader(samples, sampler, workers, pin_memory=False)))

    keys = [key for part in sampler for key in part]
    assert len(keys) == 4
    for key, image in zip(keys, torch.cat([batch.image for batch in loaded]), strict=True):
        assert torch.equal(image, samples[key].image)


def test_the_number_of_threads_does_not_change_the_crops(persons, path):
    _, single = build(persons, path)
    _, threaded = build(persons, path.with_name("other.crops"), threads=3)

    for row in range(len(persons)):
        one, other = (cache.content[cache.starts[row] :][: cache.sizes[row]] for cache in (single, threaded))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(single.crop_to_image, threaded.crop_to_image)


def test_a_spawned_process_opens_the_file_itself(persons, path):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, seed=0, crops=crops)

    assert len(pickle.dumps(crops)) < 2000
    again = pickle.loads(pickle.dumps(samples))

    assert torch.equal(again[3, 2].image, samples[3, 2].image)


def test_an_up_to_date_cache_is_not_written_again(persons, path):
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
def test_options_that_do_not_change_the_regions_keep_the_cache(persons, path, name, value):
    build(persons, path)

    open_crop_cache(path, make_stamp(persons, COCO, SMALL, AugmentConfig(**{name: value})))


CHANGED = {
    "scale_limits": (0.65, 1.4),
    "rotation_limit_deg": 46,
    "rotation_probability": 0,
    "half_body_min_keypoints": 7,
    "half_body_probability": 0,
}
REPORTED_OPTION = {"rotation_probability": "rotation_limit_deg", "half_body_probability": "half_body_min_keypoints"}


@pytest.mark.parametrize(("name", "value"), CHANGED.items())
def test_the_error_of_a_stale_cache_names_the_augmentation_option(persons, path, name, value):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL, AugmentConfig(**{name: value}))

    assert_rejected(
        partial(open_crop_cache, path, stamp),
        path.name,
        f"augment.{REPORTED_OPTION.get(name, name)} was",
        "build-cache",
    )


@pytest.mark.parametrize(("name", "value"), [("size_hw", (64, 64)), ("padding", 1.3)])
def test_a_cache_for_another_input_is_rejected(persons, path, name, value):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL.model_copy(update={name: value}), AUGMENT)

    assert_rejected(partial(open_crop_cache, path, stamp), f"input.{name} was")


def test_a_cache_for_another_skeleton_or_version_is_rejected(persons, path, monkeypatch):
    build(persons, path)
    renamed = make_skeleton([name.replace("hip", "hip_hand") for name in COCO.names])
    assert_rejected(lambda: open_crop_cache(path, make_stamp(persons, renamed, SMALL, AUGMENT)), "upper body was")

    monkeypatch.setattr(crop_cache, "VERSION", 99)
    assert_rejected(lambda: open_crop_cache(path, make_stamp(persons, COCO, SMALL, AUGMENT)), "version was 2 and is 99")


@pytest.mark.parametrize("key", ["bbox", "keypoints", "file_name"])
def test_a_cache_of_other_annotations_is_rejected(persons, read_persons, tiny_coco, path, key):
    build(persons, path)

    def change(content):
        if key == "file_name":
            first, second = content["images"][:2]
            first[key], second[key] = second[key], first[key]
        else:
            content["annotations"][0][key][0] += 1

    tiny_coco.edit(change)
    assert_rejected(
        lambda: open_crop_cache(path, make_stamp(read_persons(), COCO, SMALL, AUGMENT)), "the annotated persons"
    )


def test_equivalent_annotations_keep_the_cache(persons, read_persons, tiny_coco, path):
    build(persons, path)
    tiny_coco.edit(lambda content: content.update(info={"year": 2026}))

    open_crop_cache(path, make_stamp(read_persons(), COCO, SMALL, AUGMENT))


@pytest.mark.parametrize("change", ["touched", "longer"])
def test_a_cache_of_other_images_is_rejected_and_replaced(persons, path, change):
    build(persons, path)
    image_path = persons.record(3).image_path
    before = image_path.stat()
    if change == "longer":
        image_path.write_bytes(image_path.read_bytes() + b"x")
    os.utime(image_path, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "touched")))
    stamp = make_stamp(persons, COCO, SMALL, AUGMENT)

    assert_rejected(partial(open_crop_cache, path, stamp), "stale", "the images have changed")
    assert build_crop_cache(persons, COCO, SMALL, AUGMENT, path)
    open_crop_cache(path, stamp)


def test_a_missing_image_is_named_in_the_error(persons, path):
    build(persons, path)
    persons.record(4).image_path.unlink()

    assert_rejected(lambda: make_stamp(persons, COCO, SMALL, AUGMENT), "more/3.png", "cannot read the image")


def test_an_error_lists_all_differences(persons, path):
    build(persons, path)
    stamp = make_stamp(persons, COCO, SMALL.model_copy(update={"padding": 1.5}), AugmentConfig(rotation_limit_deg=10))

    assert_rejected(
        partial(open_crop_cache, path, stamp),
        "input.padding was 1.25 and is 1.5, augment.rotation_limit_deg was 45.0 and is 10.0;",
    )


@pytest.mark.parametrize("keep", [0, 1, 23, 24, 1000, -1, -100])
def test_a_truncated_file_is_rejected(persons, path, keep):
    build(persons, path)
    path.write_bytes(path.read_bytes()[:keep])

    assert_rejected(lambda: read_crop_cache(path), str(path), "not a complete crop cache", "build-cache")
    assert_rejected(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "remove it")


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 1], ids=["index", "index too", "index again", "footer"])
def test_a_damaged_index_or_footer_is_rejected(persons, path, part):
    _, crops = build(persons, path)
    content = bytearray(path.read_bytes())
    start = int((crops.starts + crops.sizes).max())
    content[start + int(part * (len(content) - 1 - start))] ^= 0xFF
    path.write_bytes(content)

    assert_rejected(lambda: read_crop_cache(path), str(path), "not a complete crop cache")


def test_a_damaged_crop_is_named_in_the_error(persons, path):
    _, crops = build(persons, path)
    content = bytearray(path.read_bytes())
    content[crops.starts[2] : crops.starts[2] + 2] = b"??"
    path.write_bytes(content)
    damaged = TrainingSamples(persons, COCO, SMALL, AUGMENT, 0, read_crop_cache(path))

    assert damaged[0, 1].image.any()
    assert_rejected(lambda: damaged[0, 2], f"{path}: the crop of row 2 is damaged", "remove the file and build it")


def test_a_crop_with_one_changed_bit_is_refused_although_it_is_still_an_image(persons, path):
    _, crops = build(persons, path)
    view = np.eye(3)[:2]
    before = crops.crop(1, view, (96, 128))
    content = bytearray(path.read_bytes())
    content[crops.starts[2] + crops.sizes[2] // 2] ^= 1
    path.write_bytes(content)
    damaged = read_crop_cache(path)
    decode(np.frombuffer(content, np.uint8)[crops.starts[2] :][: crops.sizes[2]], "still an image")

    np.testing.assert_array_equal(damaged.crop(1, view, (96, 128)), before)
    assert_rejected(lambda: damaged.crop(2, view, (96, 128)), "the crop of row 2 is damaged")


def test_a_pickled_payload_in_the_index_is_not_executed(path, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    path.parent.mkdir()
    with path.open("wb") as file:
        np.savez(file, stamp=np.array([Payload()], dtype=object), starts=0, sizes=0, to_image=0)
        file.write(crop_cache.FOOTER.pack(0, crop_cache.MAGIC))

    assert_rejected(lambda: read_crop_cache(path), "not a complete crop cache")
    assert not (tmp_path / "run").exists()
    assert zipfile.is_zipfile(path)  # so the payload was rejected, not the format


@pytest.mark.parametrize("kind", ["nothing", "folder"])
def test_a_missing_file_or_a_folder_is_rejected(path, kind):
    if kind == "folder":
        path.mkdir(parents=True)

    assert_rejected(lambda: read_crop_cache(path), str(path), "crop cache", "dyconv-pose build-cache")


def test_a_file_that_is_not_a_crop_cache_is_not_overwritten(persons, path):
    path.parent.mkdir()
    path.write_text("precious, and longer than a footer")

    assert_rejected(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "exists and is not")
    assert path.read_text().startswith("precious")


@pytest.mark.parametrize("first", [True, False], ids=["no previous file", "previous cache"])
def test_an_interrupted_build_leaves_the_previous_file(persons, path, first):
    path.parent.mkdir()
    if not first:
        build(persons, path)
    before = None if first else path.read_bytes()
    persons.record(4).image_path.write_bytes(b"damaged")

    assert_rejected(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), "3.png: not an image")

    assert (path.read_bytes() if path.exists() else None) == before
    assert hidden_files(path) == []


def test_a_full_disk_is_a_one_line_error_and_leaves_no_file(persons, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crop_cache_build, "write_index", full)

    assert_rejected(
        lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "No space left", "free disk space"
    )
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_in_the_error(persons, path):
    path.parent.write_text("a file in place of the folder")

    assert_rejected(lambda: build_crop_cache(persons, COCO, SMALL, AUGMENT, path), str(path), "cannot write")


def test_training_keeps_reading_the_file_that_it_opened_after_a_rebuild(persons, path):
    _, crops = build(persons, path)
    samples = TrainingSamples(persons, COCO, SMALL, AUGMENT, 0, crops)
    before, pickled = samples[0, 1].image, pickle.dumps(crops)
    wider = AugmentConfig(scale_limits=(0.5, 2))

    assert build(persons, path, SMALL, wider)[0]

    assert torch.equal(samples[0, 1].image, before)
    assert_rejected(lambda: pickle.loads(pickled), "stale", "augment.scale_limits")


def test_the_length_of_a_cache_is_its_number_of_persons(persons, path):
    _, crops = build(persons.take(np.array([3, 0, 2])), path)

    assert len(crops) == 3
    assert isinstance(crops.stamp["version"], int)
    with pytest.raises(DataError):
        open_crop_cache(path, make_stamp(persons, COCO, SMALL, AUGMENT))
    assert replace(crops, path=path.with_name("x")).path.name == "x"
