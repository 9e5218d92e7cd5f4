"""A teacher gives the heatmaps and keypoints of the model in its file; other files are refused."""

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import ConfigError
from pose.export.onnx import predictor_to_onnx, to_onnx
from pose.inference.metadata import ExportMetadata
from pose.inference.poses import Poses
from pose.inference.pytorch import PyTorchPredictor, predict_heatmaps
from pose.inference.teacher import Teacher
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.skeleton import COCO, make_skeleton

onnx = pytest.importorskip("onnx", reason="needs onnx to export a teacher")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run a teacher")

MODEL = ModelConfig(width=0.35, depth=0.1, head_width=0.25)
CONFIG = Config(model=MODEL, input=InputConfig(size_hw=(64, 64)))


@pytest.fixture(scope="module")
def model():
    """A random pose model with confident maps."""
    torch.manual_seed(5)
    model = build_pose_net(CONFIG)
    torch.nn.init.normal_(model.head[-1].weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def crops():
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 64, 64, 3), generator=rng, dtype=torch.uint8)


def write(path, content):
    path.write_bytes(content)
    return path


def fixed_batch_of_one(content, size=1):
    model = onnx.load_model_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model.SerializeToString()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", ["normalized images", "fixed batch of one", "export of this project"])
def test_teacher_gives_the_heatmaps_of_its_model(kind, flip, model, crops, tmp_path):
    if kind == "export of this project":
        content = predictor_to_onnx(model, ExportMetadata(CONFIG.input, COCO, None, "MIT"), decodes=True)
    else:
        content = to_onnx(model, CONFIG.input.size_hw)
    if kind == "fixed batch of one":
        content = fixed_batch_of_one(content)
    teacher = Teacher(write(tmp_path / "teacher.onnx", content), COCO, CONFIG.input, flip=flip)

    expected = predict_heatmaps(model.heatmaps, crops, COCO.flip_pairs if flip else None)

    torch.testing.assert_close(teacher.heatmaps(crops), expected, rtol=1e-3, atol=1e-4)


def test_teacher_predicts_the_keypoints_of_its_model_in_images(model, tmp_path):
    weights = tmp_path / "weights.pt"
    write_weights({"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}, weights)
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = [[10, 5, 40, 80], [50, 20, 60, 60]]
    teacher = Teacher(write(tmp_path / "teacher.onnx", to_onnx(model, CONFIG.input.size_hw)), COCO, CONFIG.input)

    expected, actual = PyTorchPredictor(weights, "cpu")(image, boxes), teacher(image, boxes)

    assert isinstance(actual, Poses)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-3)
    np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=1e-2)


def test_teacher_sees_crops_of_the_size_in_its_file(model, tmp_path):
    path = write(tmp_path / "teacher.onnx", fixed_batch_of_one(to_onnx(model, (96, 64))))
    crops = torch.randint(0, 256, (2, 96, 64, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)

    teacher = Teacher(path, COCO, CONFIG.input)

    assert teacher.input_config == CONFIG.input.model_copy(update={"size_hw": (96, 64)})
    expected = predict_heatmaps(model.heatmaps, crops, COCO.flip_pairs)
    torch.testing.assert_close(teacher.heatmaps(crops), expected, rtol=1e-3, atol=1e-4)


def test_teacher_whose_sides_are_no_multiples_of_32_is_rejected_with_the_shapes(tmp_path):
    content = foreign({"image": ("float", (1, 3, 100, 75))}, {"maps": np.zeros((1, 17, 25, 18), np.float32)})

    with pytest.raises(ConfigError, match=r"teacher\.onnx: expected one input .*3, 64, 64.*100, 75") as error:
        Teacher(write(tmp_path / "teacher.onnx", content), COCO, CONFIG.input)

    assert "\n" not in str(error.value)


def test_teacher_with_other_keypoints_is_rejected_with_the_shapes(model, tmp_path):
    path = write(tmp_path / "teacher.onnx", to_onnx(model, (64, 64)))

    with pytest.raises(ConfigError, match=r"expected one output of heatmaps .*\[1, 2, 16, 16\].*17, 16, 16\]"):
        Teacher(path, make_skeleton(("left_wing", "right_wing"), ()), CONFIG.input)


@pytest.mark.parametrize("content", [None, b"", b"not an ONNX file"])
def test_missing_or_damaged_teacher_is_rejected(content, tmp_path):
    path = tmp_path / "teacher.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"teacher\.onnx: (no such|not an ONNX)"):
        Teacher(path, COCO, CONFIG.input)


def foreign(inputs, outputs):
    """Return an ONNX model of inputs {name: (type, shape)} whose outputs are constants {name: array}."""
    helper = onnx.helper
    types = {"float": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8, "int32": onnx.TensorProto.INT32}
    nodes = [helper.make_node("Shape", [name], [f"{name}_shape"]) for name in inputs]
    infos = []
    for name, value in outputs.items():
        nodes.append(helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value)))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        infos.append(helper.make_tensor_value_info(name, kind, value.shape))
    values = [helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in inputs.items()]
    graph = helper.make_graph(nodes, "foreign", values, infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


CROP = {"image": ("float", (1, 3, 64, 64))}
MAPS = np.zeros((1, 17, 16, 16), np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (foreign({"input": ("int32", (1, 192, 192, 3))}, {"out": np.zeros((1, 1, 17, 3), np.float32)}), "one input"),
        (foreign({"image": ("uint8", (1, 3, 64, 64))}, {"maps": MAPS}), "expected one input"),
        (foreign({}, {"maps": MAPS}), "expected one input"),
        (foreign({"image": ("float", (3, 64, 64))}, {"maps": MAPS}), "expected one input"),
        (foreign({"image": ("float", (1, 3, 100_000, 100_000))}, {"maps": MAPS}), "expected one input .*100000"),
        (foreign({**CROP, "scale": ("float", (1, 2))}, {"maps": MAPS}), "expected one input .*scale"),
        (foreign({"image": ("float", (8, 3, 64, 64))}, {"maps": MAPS}), "takes 8 crops at a time"),
        (foreign(CROP, {"maps": MAPS[0]}), "expected one output of heatmaps"),
        (foreign(CROP, {"maps": MAPS.astype(np.float64)}), r"expected one output .*found maps tensor\(double\)"),
        (foreign(CROP, {"maps": np.zeros((1, 17, 1000, 1000), np.float32)}), "expected one output .*1000"),
        (foreign(CROP, {"a": MAPS, "b": MAPS}), "expected one output"),
    ],
)
def test_foreign_models_are_refused_with_one_line(content, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        Teacher(write(tmp_path / "teacher.onnx", content), COCO, CONFIG.input)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_that_fails_when_it_runs_is_refused_with_one_line(tmp_path):
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    shape = onnx.numpy_helper.from_array(np.array([1, 17, 16, 16]), "shape")  # of 3 x 64 x 64 values
    image = helper.make_tensor_value_info("image", float32, ("n", 3, 64, 64))
    maps = helper.make_tensor_value_info("maps", float32, ("n", 17, 16, 16))
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], ["maps"])], "g", [image], [maps], [shape]
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    with pytest.raises(ConfigError, match=r"teacher\.onnx: fails on 1 crops|not an ONNX model") as caught:
        Teacher(write(tmp_path / "teacher.onnx", content), COCO, CONFIG.input)
    assert len(str(caught.value).splitlines()) == 1
