"""`PyTorchPredictor` and its steps: normalization, flip averaging, decoding, batches, and input checks."""

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import transforms

from pose import PosePredictor
from pose.config.data import DataConfig
from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import ConfigError, DataError
from pose.geometry import box_to_view, invert, transform_points, view_to_matrix
from pose.heatmap import decode, encode, flip_average
from pose.images import person_crop
from pose.inference.detectors import Detections
from pose.inference.poses import Poses
from pose.inference.pytorch import PyTorchPredictor, in_bf16, keypoints_in_image, normalize, predict_heatmaps
from pose.models import build_pose_net
from pose.models.weights import read_weights, write_weights
from pose.packaged import PACKAGED_WEIGHTS, card_path
from pose.skeleton import COCO

CONFIG = Config(model=ModelConfig(width=0.35, head_width=0.25), input=InputConfig(size_hw=(96, 64)))
BOXES = [[[10, 12, 40, 80], [60.5, 5.25, 30, 90]], [], [[-5, 20, 70, 60], [0, 0, 100, 140], [30, 30, 20, 20]]]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for size_hw in ((120, 100), (50, 60), (140, 100))]
    return [cv2.GaussianBlur(image, (0, 0), 4) for image in noise]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "best.pt"
    write_weights({"model": build_pose_net(CONFIG).state_dict(), "config": CONFIG.model_dump(mode="json")}, path)
    return path


def color_maps(inputs):
    """Fake model: 17 different mixtures of the colors, so that left and right keypoints have different heatmaps."""
    mixtures = torch.from_numpy(np.random.default_rng(8).normal(size=(17, 3))).float()
    return torch.einsum("kc,bchw->bkhw", mixtures, torch.nn.functional.avg_pool2d(inputs, 4))


def color_predictor(weights, **options):
    predictor = PyTorchPredictor(weights, "cpu", detector="none", **options)
    predictor.model.heatmaps = color_maps
    return predictor


@pytest.fixture(scope="module")
def predictor(weights):
    return color_predictor(weights)


def assert_same(found: Poses, expected: Poses):
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_array_equal(found.bboxes_xywh, expected.bboxes_xywh)


def test_normalize_equals_torchvision():
    crops = torch.randint(0, 256, (2, 7, 5, 3), dtype=torch.uint8)
    steps = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )

    expected = torch.stack([steps(crop.numpy()) for crop in crops])

    assert normalize(crops).dtype == torch.float32
    torch.testing.assert_close(normalize(crops), expected, atol=1e-6, rtol=1e-5)


def test_keypoints_in_image_decodes_and_applies_the_matrix():
    heatmaps = np.zeros((2, 3, 16, 12), dtype=np.float32)
    heatmaps[0, 0, 5, 4], heatmaps[0, 0, 5, 5] = 0.8, 0.1  # moved a quarter pixel right, and down on a tie
    heatmaps[0, 1, 9, 7] = 0.5
    heatmaps[1, 2, 8, 6] = 0.25
    heatmap_to_image = np.array([[[2, 0, 10], [0, 2, 20]], [[0, -3, 100], [3, 0, 50]]], dtype=np.float64)

    keypoints, scores = keypoints_in_image(torch.from_numpy(heatmaps), heatmap_to_image)

    assert keypoints.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.8, 0.5, 0], [0, 0, 0.25]])
    np.testing.assert_allclose(keypoints[0], [[18.5, 30], [24, 38], [10, 20]])
    np.testing.assert_allclose(keypoints[1], [[100, 50], [100, 50], [76, 68]])


def test_keypoints_in_image_inverts_encoding_within_half_a_heatmap_pixel():
    keypoints_image = np.random.default_rng(0).uniform((30, 40), (70, 120), (17, 2))
    view = box_to_view([20, 20, 60, 110], 3 / 4)
    image_to_input = view_to_matrix(view, (192, 256))
    heatmap_to_image = invert(view_to_matrix(view, (48, 64)))
    maps, _ = encode(transform_points(keypoints_image, image_to_input), np.ones(17), (48, 64))

    decoded, scores = keypoints_in_image(torch.from_numpy(maps[None]), heatmap_to_image[None])

    assert scores.min() == 1
    assert np.abs(decoded[0] - keypoints_image).max() <= 0.5 * view.scale[0] / 48 + 1e-3


def test_predict_heatmaps_averages_with_the_mirrored_crop():
    def heatmap_fn(inputs):
        received.append(inputs)
        return inputs.mean(dim=1, keepdim=True).repeat(1, 17, 1, 1) * torch.arange(1, 18.0)[:, None, None]

    crops, received = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8), []

    plain = predict_heatmaps(heatmap_fn, crops, None)
    flipped = predict_heatmaps(heatmap_fn, crops.flip(2), None)
    averaged = predict_heatmaps(heatmap_fn, crops, COCO.flip_pairs)

    torch.testing.assert_close(plain, heatmap_fn(normalize(crops)))
    torch.testing.assert_close(averaged, flip_average(plain, flipped, COCO.flip_pairs))
    assert all(inputs.shape == (2, 3, 8, 6) for inputs in received)
    assert not averaged.requires_grad


def test_predict_batch_equals_one_call_per_image(predictor, images):
    together = predictor.predict_batch(images, BOXES)

    assert [len(poses) for poses in together] == [2, 0, 3]
    for poses, image, boxes in zip(together, images, BOXES, strict=True):
        assert_same(poses, predictor(image, boxes))
        np.testing.assert_array_equal(poses.bboxes_xywh, np.reshape(boxes, (-1, 4)))
    assert together[0].scores.min() > 0, "the fake model must give positive scores"
    assert np.ptp(together[0].keypoints, axis=1).min() > 5


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_batch_size_does_not_change_the_result(predictor, weights, images, batch_size):
    other = color_predictor(weights, batch_size=batch_size)

    for poses, expected in zip(other.predict_batch(images, BOXES), predictor.predict_batch(images, BOXES), strict=True):
        assert_same(poses, expected)


@pytest.mark.parametrize(("flip", "method"), [(True, "quarter"), (False, "quarter"), (True, "dark")])
def test_predictor_crops_predicts_flip_averages_and_decodes(weights, images, flip, method):
    predictor = color_predictor(weights, flip=flip, decode=method)
    image, expected = images[0], []
    for box in BOXES[0]:
        crop, heatmap_to_image, _ = person_crop(image, box, CONFIG.input)
        heatmaps = color_maps(normalize(torch.from_numpy(crop[None])))
        if flip:
            mirrored = np.ascontiguousarray(crop[None, :, ::-1])
            flipped = color_maps(normalize(torch.from_numpy(mirrored))).flip(-1)[:, COCO.flip_order.copy()]
            flipped[..., 1:] = flipped[..., :-1].clone()
            heatmaps = (heatmaps + flipped) / 2
        keypoints_heatmap, scores = decode(heatmaps.numpy(), method, CONFIG.input.sigma)
        expected.append((transform_points(keypoints_heatmap[0], heatmap_to_image), scores[0]))

    poses = predictor(image, BOXES[0])

    np.testing.assert_allclose(poses.keypoints, [keypoints for keypoints, _ in expected], atol=1e-3)
    np.testing.assert_allclose(poses.scores, [scores for _, scores in expected], atol=1e-5)
    np.testing.assert_allclose(poses.person_scores, [scores.mean() for _, scores in expected], atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        {"width": 0.35},
        {"width": 0.35, "dynamic_backbone": True, "dynamic_head": True},
        {"backbone": "resnet10", "head": "type_a"},
        {"backbone": "mobilenet_v3_small", "dynamic_backbone": True},
    ],
    ids=str,
)
def test_the_fused_model_gives_the_heatmaps_of_the_trained_model(tmp_path, model):
    """Its batch norm is fused and its memory layout is channels_last."""
    config = Config(model=ModelConfig.model_validate({"head_width": 0.25} | model), input=InputConfig(size_hw=(64, 64)))
    torch.manual_seed(0)  # one random model in 25 amplifies rounding beyond the tolerance
    trained = build_pose_net(config)
    for layer in trained.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # use the statistics of the next batch alone
    trained.train()(torch.randn(4, 3, 64, 64))
    write_weights({"model": trained.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "model.pt")
    predictor, crops = PyTorchPredictor(tmp_path / "model.pt", "cpu"), torch.randint(0, 256, (3, 64, 64, 3)).byte()

    expected = predict_heatmaps(trained.eval().heatmaps, crops, COCO.flip_pairs)
    heatmaps = predict_heatmaps(predictor.model.heatmaps, crops, COCO.flip_pairs)

    convs = [layer for layer in predictor.model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convs)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in predictor.model.modules())
    scale = expected.abs().max().item()
    assert scale > 1e-2
    torch.testing.assert_close(heatmaps, expected, rtol=0, atol=1e-3 * scale)


def test_in_bf16_computes_in_bfloat16_and_returns_float32(predictor):
    images, dtypes = torch.randn(2, 3, 64, 64), []

    def heatmap_fn(images):
        maps = torch.nn.functional.conv2d(images, torch.full((17, 3, 4, 4), 0.1), stride=4)
        dtypes.append(maps.dtype)
        return maps

    expected, heatmaps = heatmap_fn(images), in_bf16(heatmap_fn, torch.device("cpu"))(images)

    assert dtypes == [torch.float32, torch.bfloat16]
    assert heatmaps.dtype == torch.float32
    torch.testing.assert_close(heatmaps, expected, rtol=2**-7, atol=2**-7)


def test_a_bf16_predictor_gives_slightly_different_scores(images):
    float32, bf16 = PyTorchPredictor(device="cpu"), PyTorchPredictor(device="cpu", bf16=True)

    expected, poses = float32(images[0], "image"), bf16(images[0], "image")

    assert not np.array_equal(poses.scores, expected.scores)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=0.1)


def test_flip_averaging_changes_the_scores(weights, predictor, images):
    unflipped = color_predictor(weights, flip=False)

    assert np.abs(unflipped(images[0], "image").scores - predictor(images[0], "image").scores).max() > 1e-3


@pytest.mark.parametrize("flip", [True, False])
def test_keypoints_are_in_image_pixels(weights, monkeypatch, flip):
    predictor = PyTorchPredictor(weights, "cpu", flip=flip)

    def red_detector(inputs):
        pooled = torch.nn.functional.avg_pool2d(inputs[:, :1] - inputs[:, 1:2], 4)
        return torch.nn.functional.avg_pool2d(pooled, 3, 1, 1).repeat(1, 17, 1, 1)

    monkeypatch.setattr(predictor.model, "heatmaps", red_detector)
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    cv2.circle(image, (170, 90), 10, (0, 0, 255), cv2.FILLED)

    poses = predictor(image, [[130, 50, 70, 105], [150, 20, 90, 120]])

    assert np.abs(poses.keypoints - [170, 90]).max() < 6  # a heatmap pixel is about 5 image pixels


def test_without_boxes_and_with_the_detector_none_the_whole_image_is_one_person(predictor, images):
    poses = predictor(images[0])

    assert_same(poses, predictor(images[0], [[0, 0, 100, 120]]))
    assert poses.keypoints.shape == (1, 17, 2)


def test_the_whole_image_can_be_asked_for(predictor, images):
    assert_same(predictor(images[0], "image"), predictor(images[0], [[0, 0, 100, 120]]))


def test_boxes_can_be_corners(predictor, images):
    assert_same(predictor(images[0], [[10, 12, 50, 92]], boxes_format="xyxy"), predictor(images[0], [[10, 12, 40, 80]]))


def test_results_know_their_keypoints_and_their_file(predictor, images, tmp_path):
    assert predictor(images[0], "image").names == COCO.names
    assert predictor(images[0], "image").source is None
    cv2.imwrite(str(tmp_path / "image.png"), images[0])
    assert predictor(tmp_path / "image.png").source == tmp_path / "image.png"


def test_several_images_give_one_result_each_however_they_are_passed(predictor, images, tmp_path):
    many = [images[0], images[2]] * 5  # more than are in memory at a time
    boxes = [BOXES[0], BOXES[2]] * 5
    expected = [predictor(image, image_boxes) for image, image_boxes in zip(many, boxes, strict=True)]
    for index, image in enumerate(many):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), image)
    pil_images = [PIL.Image.fromarray(image[..., ::-1]) for image in many]
    tensors = [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) for image in many]
    for sources in (many, tuple(many), tmp_path, str(tmp_path), pil_images, tensors):
        results = predictor(sources, boxes)
        assert len(results) == len(expected)
        for found, one in zip(results, expected, strict=True):
            assert_same(found, one)
    whole = predictor(many[:2])
    assert_same(whole[1], predictor(images[2], "image"))
    assert predictor([]) == []


def test_a_batch_of_arrays_or_tensors_is_several_images(predictor, images):
    batch = np.stack([images[0], images[0][::-1]])
    expected = predictor(list(batch))
    tensor = torch.from_numpy(batch[..., ::-1].copy()).permute(0, 3, 1, 2)
    for found in (predictor(batch), predictor(tensor), predictor(tensor.float() / 255)):
        assert_same(found[0], expected[0])
        assert_same(found[1], expected[1])


@pytest.mark.parametrize("boxes", [[BOXES[0]], [], 5, [[[1, 2, 3, 4]]] * 3], ids=str)
def test_several_images_need_boxes_for_each(predictor, images, boxes):
    with pytest.raises(DataError, match="for each of 2 images"):
        predictor([images[0], images[2]], boxes)


def test_a_box_outside_the_image_is_warned_about_at_the_line_of_the_caller(predictor, images):
    with pytest.warns(UserWarning, match="more than half outside the image of 100x120") as caught:
        predictor(images[0], [[60, 70, 95, 115]])  # corners, passed as left, top, width, height
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="more than half outside") as caught:
        predictor([images[0]], [[[60, 70, 95, 115]]])


def test_only_images_without_boxes_are_searched_by_the_detector(weights, images):
    seen = []

    def detector(searched):
        seen.append(len(searched))
        return [Detections(np.array(BOXES[0]), np.array([0.5, 0.25])) for _ in searched]

    predictor = PyTorchPredictor(weights, "cpu", detector=detector)
    found, given, whole, also_found = predictor(
        [images[0], images[0], images[0], images[0]], [None, BOXES[0], "image", None]
    )
    assert seen == [2]
    assert_same(given, found)
    assert_same(also_found, found)
    np.testing.assert_allclose(found.person_scores, given.person_scores * [0.5, 0.25], rtol=1e-6)
    assert_same(whole, predictor(images[0], "image"))
    assert seen == [2]


def test_keypoints_of_a_rotated_file_are_in_the_upright_image(predictor, images, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(images[0][..., ::-1]).save(tmp_path / "phone.png", exif=exif)
    upright = np.ascontiguousarray(np.rot90(images[0], -1))
    box = [[20, 10, 60, 70]]
    assert_same(predictor(tmp_path / "phone.png", box), predictor(upright, box))
    with PIL.Image.open(tmp_path / "phone.png") as opened:
        assert_same(predictor(opened, box), predictor(upright, box))


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 4), dtype=np.float32)])
def test_no_boxes_give_empty_poses(predictor, images, boxes):
    poses = predictor(images[0], boxes)

    assert len(poses) == 0
    assert (poses.keypoints.shape, poses.scores.shape, poses.bboxes_xywh.shape) == ((0, 17, 2), (0, 17), (0, 4))
    assert poses.person_scores.shape == (0,)
    assert [len(poses) for poses in predictor.predict_batch(images, [[], [], []])] == [0, 0, 0]
    assert predictor.predict_batch([], []) == []


def test_a_path_gives_the_same_poses_as_its_pixels(predictor, images, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), images[0])

    for path in (tmp_path / "image.png", str(tmp_path / "image.png")):
        assert_same(predictor(path, BOXES[0]), predictor(images[0], BOXES[0]))


def test_non_contiguous_images_are_accepted(predictor, images):
    mirrored = images[0][:, ::-1]

    assert_same(predictor(mirrored, BOXES[0]), predictor(mirrored.copy(), np.array(BOXES[0])))


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[1, 2], [3, 4]],
        np.zeros((20, 30), dtype=np.uint8),
        np.zeros((20, 30, 4), dtype=np.uint8),
        np.zeros((20, 30, 3), dtype=np.float32),
        np.zeros((0, 30, 3), dtype=np.uint8),
        torch.zeros(20, 30, 3, dtype=torch.uint8),
    ],
    ids=lambda image: f"{type(image).__name__}{getattr(image, 'shape', '')}",
)
@pytest.mark.parametrize("boxes", [None, [[1, 2, 10, 10]]])
def test_an_invalid_image_is_refused_with_one_line(predictor, image, boxes):
    with pytest.raises(DataError, match="expected an image") as caught:
        predictor(image, boxes)
    assert "\n" not in str(caught.value)


def test_a_missing_image_is_named_in_the_error(predictor, tmp_path):
    with pytest.raises(DataError, match=r"none\.jpg"):
        predictor(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    "boxes",
    [
        [1, 2, 3, 4],
        [[1, 2, 3]],
        [[1, 2, 3, 4, 0.9]],
        [[1, 2, 0, 4]],
        [[1, 2, 3, 4], [1, 2, 3, -4]],
        [[1, 2, 3, float("nan")]],
        [[float("inf"), 2, 3, 4]],
        [[1, 2, 3, 4], [1, 2]],
        [["a", 2, 3, 4]],
        "boxes",
        np.ones((2, 2, 4)),
    ],
    ids=str,
)
def test_invalid_boxes_are_refused_with_one_line(predictor, images, boxes):
    with pytest.raises(DataError, match="expected boxes") as caught:
        predictor(images[0], boxes)
    assert "\n" not in str(caught.value)


def test_the_default_weights_are_the_packaged_coco_model(images):
    predictor = PyTorchPredictor(device="cpu")

    assert predictor.skeleton == COCO
    assert predictor.config.input.size_hw == (256, 192)
    assert np.isfinite(predictor(images[0], BOXES[0]).keypoints).all()


@pytest.mark.parametrize("device", ["nonsense", "0", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_with_one_line(device):
    for predictor in (PyTorchPredictor, PosePredictor):
        with pytest.raises(ConfigError, match=f"^device '{device}' is not available, expected one of cpu"):
            predictor(device=device)


@pytest.mark.parametrize("path", [p for p in PACKAGED_WEIGHTS.values() if p.suffix == ".pt"], ids=lambda p: p.name)
def test_a_packaged_model_contains_no_paths_and_states_its_accuracy(path):
    content = read_weights(path)

    assert Config.model_validate(content["config"]).data == DataConfig()
    assert content["config"]["train"]["start"] is None
    assert "AP" in card_path(path).read_text(encoding="utf-8")


def test_weights_can_be_a_run_folder(weights, images):
    from_file, from_folder = PyTorchPredictor(str(weights), "cpu"), PyTorchPredictor(weights.parent, "cpu")

    assert from_folder.config == CONFIG
    assert from_folder.skeleton == COCO
    assert not from_folder.model.training
    assert_same(from_folder(images[0], "image"), from_file(images[0], "image"))
