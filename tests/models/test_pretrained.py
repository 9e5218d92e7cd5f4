"""Converted pretrained weights, compared with the outputs of their original models."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from pose.errors import CheckpointError
from pose.inference.pytorch import normalize
from pose.models.backbones.blocks import ConvBNAct
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.pretrained import from_movenet, from_torchvision
from pose.models.weights import load_strict

MOVENET = Path(__file__).resolve().parents[2] / "../shared/peers/movenet-lightning.onnx"
PATH = Path("weights.pth")


def assert_rejected(call: Callable[[], object], *parts: object) -> None:
    with pytest.raises(CheckpointError) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert all(str(part) in str(raised.value) for part in parts), str(raised.value)


def randomized(model: nn.Module) -> nn.Module:
    """Randomize with activations of similar size in all layers and non-trivial batch norm statistics."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model.eval()


# --- torchvision


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_torchvision_weights_give_the_same_features(width: float) -> None:
    reference = randomized(torchvision.models.mobilenet_v2(weights=None, width_mult=width)).double()
    ours = MobileNetV2(width).double().eval()

    load_strict(ours, from_torchvision(reference.state_dict(), ours, PATH), PATH)

    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        expected = reference.features(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images), expected)


def test_torchvision_classifier_may_have_any_number_of_classes() -> None:
    reference = torchvision.models.mobilenet_v2(weights=None, width_mult=0.35, num_classes=7)
    ours = MobileNetV2(0.35)

    state = from_torchvision(reference.state_dict(), ours, PATH)

    assert state.keys() == ours.state_dict().keys()
    assert torch.equal(state["last.conv.weight"], reference.features[18][0].weight)


def test_from_torchvision_does_not_change_the_backbone() -> None:
    ours = MobileNetV2(0.35)
    before = {name: value.clone() for name, value in ours.state_dict().items()}

    from_torchvision(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict(), ours, PATH)

    torch.testing.assert_close(dict(ours.state_dict()), before, rtol=0, atol=0)


def test_torchvision_width_mismatch_names_the_first_layer() -> None:
    state = torchvision.models.mobilenet_v2(weights=None, width_mult=0.75).state_dict()

    assert_rejected(
        lambda: from_torchvision(state, MobileNetV2(0.5), PATH),
        PATH,
        "[16, 3, 3, 3] for 'stem.conv.weight'",
        "[24, 3, 3, 3] in 'features.0.0.weight'",
        "model.width",
    )


@pytest.mark.parametrize(
    "make",
    [torchvision.models.resnet18, torchvision.models.mobilenet_v3_small, torchvision.models.shufflenet_v2_x0_5],
    ids=lambda make: make.__name__,
)
def test_torchvision_model_of_another_family_is_rejected(make: Callable[..., nn.Module]) -> None:
    assert_rejected(
        lambda: from_torchvision(make(weights=None).state_dict(), MobileNetV2(), PATH), PATH, "model.backbone"
    )


def test_torchvision_depth_mismatch_is_rejected() -> None:
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()

    assert_rejected(lambda: from_torchvision(state, MobileNetV2(depth=0.5), PATH), PATH, "model.depth")


def rename(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new if name == old else name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: dict(list(state.items())[1:]),
        lambda state: state | {"more": torch.ones(1)},
        lambda state: rename(state, "features.0.1.weight", "features.0.1.gamma"),
        lambda state: dict(reversed(state.items())),
        lambda state: {"model": torch.ones(1), "config": torch.ones(1)},
    ],
    ids=["empty", "one missing", "one extra", "another kind", "another order", "weight file"],
)
def test_torchvision_state_with_any_different_tensor_is_rejected(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    state = dict(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict())
    backbone = MobileNetV2(0.35)
    from_torchvision(state, backbone, PATH)  # unchanged, it is accepted

    assert_rejected(lambda: from_torchvision(change(state), backbone, PATH), PATH)


# --- MoveNet


def fused_convolutions(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return weight and bias of each layer with its batch norm fused, by the formula of batch norm in evaluation."""
    fused = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ConvBNAct):
            scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
            weight = layer.conv.weight * scale[:, None, None, None]
            fused[name] = weight.detach(), (layer.bn.bias - layer.bn.running_mean * scale).detach()
    return fused


def write_onnx(layers: list[tuple[Tensor, Tensor | None]], path: Path) -> None:
    """Write a chain of convolutions, which is read but never run."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to write the file")
    nodes, tensors, x = [], [], "input"
    for row, layer in enumerate(layers):
        names = [f"{part}{row}" for part, value in zip(("weight", "bias"), layer, strict=True) if value is not None]
        values = [value.float().numpy() for value in layer if value is not None]
        tensors += [onnx.numpy_helper.from_array(value, name) for value, name in zip(values, names, strict=True)]
        nodes.append(onnx.helper.make_node("Conv", [x, *names], [f"y{row}"], auto_pad="SAME_UPPER"))
        nodes.append(onnx.helper.make_node("Clip", [f"y{row}"], [x := f"x{row}"]))
    shape = (1, 3, None, None)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("input", x)]
    graph = onnx.helper.make_graph(nodes, "model", ends[:1], ends[1:], tensors)
    onnx.save(onnx.helper.make_model(graph), str(path))


def lateral(channels: int, out_channels: int | None = None) -> tuple[Tensor, Tensor]:
    out_channels = out_channels or channels
    return torch.randn(out_channels, channels, 1, 1), torch.randn(out_channels)


def as_movenet(model: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """Return the fused layers, with the lateral convolutions of MoveNet's decoder between them and the decoder last."""
    laterals = {"blocks.2.project": 24, "blocks.5.project": 32, "blocks.9.project": 64}
    layers: list[tuple[Tensor, Tensor | None]] = []
    for name, layer in fused_convolutions(model).items():
        layers.append(layer)
        if name in laterals:
            layers.append(lateral(laterals[name]))
    return [*layers, lateral(1280, 64), (torch.randn(64, 1, 3, 3), None), lateral(64, 32), lateral(24, 96)]


@pytest.fixture(scope="module")
def source() -> MobileNetV2:
    """A model for RGB in [-1, 1], like MoveNet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return randomized(MobileNetV2())


def without_stem_padding(model: MobileNetV2) -> MobileNetV2:
    """Remove the stem's padding: zeros are the mean color for one model and gray for the other."""
    model.stem.conv.padding = (0, 0)
    return model


def test_movenet_style_model_is_read_with_the_same_outputs(source: MobileNetV2, tmp_path: Path) -> None:
    write_onnx(as_movenet(source), tmp_path / "model.onnx")
    ours = MobileNetV2()

    load_strict(ours, from_movenet(tmp_path / "model.onnx"), tmp_path)

    images = torch.rand(2, 3, 96, 128, dtype=torch.double)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (images - mean[:, None, None]) / std[:, None, None]
    reference = MobileNetV2()
    reference.load_state_dict(source.state_dict())
    with torch.no_grad():
        expected = without_stem_padding(reference).double().eval()(2 * images - 1)
        features = without_stem_padding(ours).double().eval()(normalized)
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=0, atol=5e-4)  # in a range of 6; the file is float32


def test_from_movenet_reads_all_layers_but_the_lateral_convolutions(source: MobileNetV2, tmp_path: Path) -> None:
    write_onnx(as_movenet(source), tmp_path / "model.onnx")
    ours = MobileNetV2()
    ours.load_state_dict(from_movenet(tmp_path / "model.onnx"))

    fused, expected = fused_convolutions(ours), fused_convolutions(source)

    assert fused.keys() == expected.keys()
    for name in expected.keys() - {"stem"}:
        torch.testing.assert_close(fused[name], expected[name], rtol=1e-6, atol=1e-6)


def shorten_bias(layers: list[tuple[Tensor, Tensor | None]], row: int) -> list[tuple[Tensor, Tensor | None]]:
    """Shorten the bias of one layer."""
    return [(weight, bias[:-1] if at == row else bias) for at, (weight, bias) in enumerate(layers)]


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (lambda layers: [], "[32, 3, 3, 3] for 'stem'"),
        (lambda layers: layers[1:], "[32, 3, 3, 3] for 'stem'"),
        (lambda layers: layers[:40], "for 'blocks."),
        (lambda layers: list(reversed(layers)), "for 'blocks."),
        (lambda layers: [(weight, None) for weight, _ in layers], "for 'stem'"),
        (lambda layers: shorten_bias(layers, 0), "for 'stem'"),
    ],
    ids=["empty", "no stem", "truncated", "another order", "no biases", "shorten_bias bias"],
)
def test_onnx_file_of_another_model_is_rejected_with_the_missing_layer(
    change: Callable[..., Any], layer: str, source: MobileNetV2, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(change(list(fused_convolutions(source).values())), path)

    assert_rejected(lambda: from_movenet(path), path, layer, "expected MoveNet Lightning")


def test_movenet_of_another_width_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "thunder.onnx"
    write_onnx(as_movenet(MobileNetV2(1.75)), path)

    assert_rejected(lambda: from_movenet(path), path, "expected MoveNet Lightning")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_onnx_file_is_rejected(share: float, source: MobileNetV2, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(as_movenet(source), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    assert_rejected(lambda: from_movenet(path), path)


@pytest.mark.parametrize("junk", [b"hello", b"<html>404</html>", bytes(range(256))], ids=repr)
def test_other_content_than_onnx_is_rejected(junk: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to read the file")
    path = tmp_path / "junk.onnx"
    path.write_bytes(junk)

    assert_rejected(lambda: from_movenet(path), path, "not a readable ONNX file")


def test_missing_onnx_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to search for the file")

    assert_rejected(lambda: from_movenet(tmp_path / "none.onnx"), tmp_path / "none.onnx", "no such weight file")


def test_folder_instead_of_onnx_file_is_rejected(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to open the file")

    assert_rejected(lambda: from_movenet(tmp_path), tmp_path, "not a readable ONNX file")


def test_missing_onnx_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    assert_rejected(lambda: from_movenet(tmp_path / "model.onnx"), "model.onnx", "pip install onnx")


def movenet_features(image: np.ndarray) -> np.ndarray:
    """Return MoveNet's features (1, 1280, 6, 6) after its 55th convolution, for RGB (1, 192, 192, 3)."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to read MoveNet")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run MoveNet")
    model = onnx.load(str(MOVENET))
    last = [node for node in model.graph.node if node.op_type == "Conv"][54]
    (clip,) = [node for node in model.graph.node if node.op_type == "Clip" and node.input[0] == last.output[0]]
    features = onnx.helper.make_tensor_value_info(clip.output[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(features)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run([features.name], {"input": image.astype(np.int32)})[0]
    return output


def pad_as_movenet(model: MobileNetV2) -> MobileNetV2:
    """Pad strided convolutions at the right and bottom only; the caller must pad the stem's input with gray."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.padding = (0, 0)
            if layer is not model.stem.conv:
                layer.register_forward_pre_hook(lambda _, inputs: functional.pad(inputs[0], (0, 1, 0, 1)))
    return model


@pytest.mark.skipif(not MOVENET.exists(), reason="needs ../shared/peers/movenet-lightning.onnx")
def test_backbone_with_movenet_weights_has_its_features() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 192, 192, 3))
    expected = torch.from_numpy(movenet_features(image))
    ours = MobileNetV2()
    load_strict(ours, from_movenet(MOVENET), MOVENET)
    gray = torch.full((1, 193, 193, 3), 127.5)
    gray[:, :192, :192] = torch.from_numpy(image)
    with torch.no_grad():
        features = pad_as_movenet(ours).eval()(normalize(gray))

    assert expected.shape == (1, 1280, 6, 6)
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-3)  # in the range of ReLU6
