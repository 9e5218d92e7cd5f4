"""Weights from elsewhere, checked by the outputs of the models that they come from."""

import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def refused(call: Callable[[], object], *parts: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(str(part) in str(caught.value) for part in parts), str(caught.value)


def lively(net: nn.Module) -> nn.Module:
    """Signals of one size throughout, and a batch norm that does something."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


# --- torchvision


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_a_torchvision_classifier_gives_our_backbone_its_features(width: float) -> None:
    theirs = lively(torchvision.models.mobilenet_v2(weights=None, width_mult=width)).double()
    ours = MobileNetV2(width).double().eval()

    load_strict(ours, from_torchvision(theirs.state_dict(), ours, PATH), PATH)

    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        expected = theirs.features(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images), expected)


def test_a_classifier_of_any_number_of_classes_will_do() -> None:
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=0.35, num_classes=7)
    ours = MobileNetV2(0.35)

    state = from_torchvision(theirs.state_dict(), ours, PATH)

    assert state.keys() == ours.state_dict().keys()
    assert torch.equal(state["last.conv.weight"], theirs.features[18][0].weight)


def test_the_backbone_that_only_tells_names_is_not_changed() -> None:
    ours = MobileNetV2(0.35)
    before = {name: value.clone() for name, value in ours.state_dict().items()}

    from_torchvision(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict(), ours, PATH)

    torch.testing.assert_close(dict(ours.state_dict()), before, rtol=0, atol=0)


def test_another_width_is_refused_with_the_first_layer_that_differs() -> None:
    state = torchvision.models.mobilenet_v2(weights=None, width_mult=0.75).state_dict()

    refused(
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
def test_another_family_is_refused(make: Callable[..., nn.Module]) -> None:
    refused(lambda: from_torchvision(make(weights=None).state_dict(), MobileNetV2(), PATH), PATH, "model.backbone")


def test_another_depth_is_refused() -> None:
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()

    refused(lambda: from_torchvision(state, MobileNetV2(depth=0.5), PATH), PATH, "model.depth")


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
    ids=["empty", "one too few", "one too many", "another kind", "another order", "another make"],
)
def test_tensors_that_do_not_agree_one_by_one_are_refused(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    state = dict(torchvision.models.mobilenet_v2(weights=None, width_mult=0.35).state_dict())
    backbone = MobileNetV2(0.35)
    from_torchvision(state, backbone, PATH)  # as it is, it is taken

    refused(lambda: from_torchvision(change(state), backbone, PATH), PATH)


# --- MoveNet


def folded_convolutions(net: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of each layer with its batch norm folded in, by the formula of batch norm in evaluation."""
    found = {}
    for name, layer in net.named_modules():
        if isinstance(layer, ConvBNAct):
            scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
            weight = layer.conv.weight * scale[:, None, None, None]
            found[name] = weight.detach(), (layer.bn.bias - layer.bn.running_mean * scale).detach()
    return found


def write_onnx(layers: list[tuple[Tensor, Tensor | None]], path: Path) -> None:
    """A chain of convolutions that are read and not run."""
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


def as_movenet(net: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The folded model with the laterals of MoveNet's decoder between its stages, and the decoder behind it."""
    behind = {"blocks.2.project": 24, "blocks.5.project": 32, "blocks.9.project": 64}
    layers: list[tuple[Tensor, Tensor | None]] = []
    for name, layer in folded_convolutions(net).items():
        layers.append(layer)
        if name in behind:
            layers.append(lateral(behind[name]))
    return [*layers, lateral(1280, 64), (torch.randn(64, 1, 3, 3), None), lateral(64, 32), lateral(24, 96)]


@pytest.fixture(scope="module")
def source() -> MobileNetV2:
    """A model that takes RGB in [-1, 1], as MoveNet does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return lively(MobileNetV2())


def without_stem_padding(net: MobileNetV2) -> MobileNetV2:
    """Zeros beside the image are mean color to one model and grey to the other."""
    net.stem.conv.padding = (0, 0)
    return net


def test_a_model_with_folded_batch_norm_and_laterals_comes_back_with_its_outputs(
    source: MobileNetV2, tmp_path: Path
) -> None:
    write_onnx(as_movenet(source), tmp_path / "model.onnx")
    ours = MobileNetV2()

    load_strict(ours, from_movenet(tmp_path / "model.onnx"), tmp_path)

    pictures = torch.rand(2, 3, 96, 128, dtype=torch.double)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (pictures - mean[:, None, None]) / std[:, None, None]
    theirs = MobileNetV2()
    theirs.load_state_dict(source.state_dict())
    with torch.no_grad():
        expected = without_stem_padding(theirs).double().eval()(2 * pictures - 1)
        found = without_stem_padding(ours).double().eval()(normalized)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)  # of 6; the file is of single precision


def test_all_layers_come_back_and_the_laterals_do_not(source: MobileNetV2, tmp_path: Path) -> None:
    write_onnx(as_movenet(source), tmp_path / "model.onnx")
    ours = MobileNetV2()
    ours.load_state_dict(from_movenet(tmp_path / "model.onnx"))

    found, expected = folded_convolutions(ours), folded_convolutions(source)

    assert found.keys() == expected.keys()
    for name in expected.keys() - {"stem"}:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)


def short(layers: list[tuple[Tensor, Tensor | None]], row: int) -> list[tuple[Tensor, Tensor | None]]:
    """A bias of another length than its kernel."""
    return [(weight, bias[:-1] if at == row else bias) for at, (weight, bias) in enumerate(layers)]


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (lambda layers: [], "[32, 3, 3, 3] for 'stem'"),
        (lambda layers: layers[1:], "[32, 3, 3, 3] for 'stem'"),
        (lambda layers: layers[:40], "for 'blocks."),
        (lambda layers: list(reversed(layers)), "for 'blocks."),
        (lambda layers: [(weight, None) for weight, _ in layers], "for 'stem'"),
        (lambda layers: short(layers, 0), "for 'stem'"),
    ],
    ids=["nothing", "no stem", "cut", "another order", "no biases", "a bias too short"],
)
def test_another_model_is_refused_with_the_layer_that_is_not_there(
    change: Callable[..., Any], layer: str, source: MobileNetV2, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(change(list(folded_convolutions(source).values())), path)

    refused(lambda: from_movenet(path), path, layer, "expected MoveNet Lightning")


def test_another_width_of_the_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thunder.onnx"
    write_onnx(as_movenet(MobileNetV2(1.75)), path)

    refused(lambda: from_movenet(path), path, "expected MoveNet Lightning")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(share: float, source: MobileNetV2, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(as_movenet(source), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    refused(lambda: from_movenet(path), path)


@pytest.mark.parametrize("junk", [b"hello", b"<html>404</html>", bytes(range(256))], ids=repr)
def test_what_is_no_onnx_file_is_refused(junk: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to read the file")
    path = tmp_path / "junk.onnx"
    path.write_bytes(junk)

    refused(lambda: from_movenet(path), path, "not a readable ONNX file")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to look for the file")

    refused(lambda: from_movenet(tmp_path / "none.onnx"), tmp_path / "none.onnx", "no such weight file")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx to open the file")

    refused(lambda: from_movenet(tmp_path), tmp_path, "not a readable ONNX file")


def test_without_onnx_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    refused(lambda: from_movenet(tmp_path / "model.onnx"), "model.onnx", "pip install onnx")


def movenet_features(image: np.ndarray) -> np.ndarray:
    """The peer's (1, 1280, 6, 6) behind its 55th convolution, from (1, 192, 192, 3) RGB."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to read MoveNet")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run MoveNet")
    model = onnx.load(str(MOVENET))
    last = [node for node in model.graph.node if node.op_type == "Conv"][54]
    (clip,) = [node for node in model.graph.node if node.op_type == "Clip" and node.input[0] == last.output[0]]
    features = onnx.helper.make_tensor_value_info(clip.output[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(features)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    net = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = net.run([features.name], {"input": image.astype(np.int32)})[0]
    return found


def pad_as_movenet(net: MobileNetV2) -> MobileNetV2:
    """Strided convolutions padded at the right and bottom only; the stem's input must come padded, with its grey."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.padding = (0, 0)
            if layer is not net.stem.conv:
                layer.register_forward_pre_hook(lambda _, inputs: functional.pad(inputs[0], (0, 1, 0, 1)))
    return net


@pytest.mark.skipif(not MOVENET.exists(), reason="needs ../shared/peers/movenet-lightning.onnx")
def test_our_backbone_has_the_features_of_movenet() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 192, 192, 3))
    expected = torch.from_numpy(movenet_features(image))
    ours = MobileNetV2()
    load_strict(ours, from_movenet(MOVENET), MOVENET)
    grey = torch.full((1, 193, 193, 3), 127.5)
    grey[:, :192, :192] = torch.from_numpy(image)
    with torch.no_grad():
        found = pad_as_movenet(ours).eval()(normalize(grey))

    assert expected.shape == (1, 1280, 6, 6)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # of 6, where ReLU6 ends
