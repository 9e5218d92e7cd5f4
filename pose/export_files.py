"""What `pose.export` made as files, whole or not at all: ONNX, or OpenVINO's pair of a graph and its weights.

OpenVINO reads ONNX from memory, so that nothing is written twice; the weights stay in float32, as in the ONNX file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.engines import OPENVINO_SECTION, WEIGHTS_DIGEST, digest, import_openvino
from pose.errors import CheckpointError
from pose.export import is_dynamic, predictor_to_onnx
from pose.models.networks import PoseNet
from pose.net_card import NetCard
from pose.output_files import replacing


def is_openvino(path: Path) -> bool:
    """Say whether a file's name is that of an OpenVINO net."""
    return path.suffix.lower() == ".xml"


def content_for(path: Path, net: PoseNet, card: NetCard, *, decodes: bool) -> bytes:
    """Return what `exporting` takes for ``path``, in the form that its engine is fast with.

    Args:
        path: of the file to make.
        net: static or dynamic; not changed.
        card: what the file is to say about the net.
        decodes: also give keypoints and scores.

    Raises:
        PoseError: the package onnx is not installed.
    """
    return predictor_to_onnx(net, card, decodes=decodes, one_crop=is_openvino(path) and is_dynamic(net))


def to_openvino(content: bytes, card: NetCard) -> Any:
    """Return an ``openvino.Model`` that does what an ONNX file does, for any number of crops.

    A file of one crop becomes a loop over crops. OpenVINO runs convolutions whose kernels are computed almost as fast
    as any, but not those whose number of groups is: so each crop meets its own kernels alone.

    Args:
        content: of the file, as `content_for` returns it.
        card: what the model is to say about the net.

    Raises:
        PoseError: openvino is not installed.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(content)
    if model.input(0).partial_shape.is_static:
        model = _for_each_crop(model)
    for name, value in card.metadata().items():
        model.set_rt_info(value, [OPENVINO_SECTION, name])
    return model


def _for_each_crop(body: Any) -> Any:
    openvino = import_openvino()
    ops = openvino.opset13
    (inner,) = body.get_parameters()
    crops = ops.parameter([-1, *inner.shape[1:]], inner.element_type)
    crops.output(0).set_names(inner.output(0).names)
    loop = ops.tensor_iterator()
    loop.set_body(body)
    first_to_last = {"start": 0, "stride": 1, "part_size": 1, "end": -1, "axis": 0}
    loop.set_sliced_input(inner, crops.output(0), **first_to_last)
    results = []
    for result in body.get_results():
        together = ops.result(loop.get_concatenated_slices(result.output(0), **first_to_last))
        together.output(0).set_names(result.output(0).names)
        results.append(together)
    return openvino.Model(results, [crops])


@contextmanager
def exporting(path: Path, content: bytes, card: NetCard) -> Iterator[Path]:
    """Write an exported net under a temporary name; move it to ``path`` at the end, or remove it after an exception.

    Args:
        path: a name ending in .onnx, or in .xml for OpenVINO, whose weights become a .bin beside it.
        content: of an ONNX file, as `content_for` returns it.
        card: what the file is to say about the net.

    Raises:
        PoseError: openvino is needed and not installed.
        CheckpointError: another file would have to make way for the weights.
        MediaError: the folder cannot be written.
    """
    if is_openvino(path):
        weights = path.with_suffix(".bin")
        if weights.exists() and not path.exists():
            raise CheckpointError(f"{weights}: is in the way of the weights of {path.name}; choose another name")
        model = to_openvino(content, card)
        # The inner one moves first: a new graph never stands beside old weights.
        with replacing(path) as temporary, replacing(weights):
            _save(model, temporary)
            yield temporary
    else:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            yield temporary


def _save(model: Any, path: Path) -> None:
    """Write the graph, with the digest of its weights, as ``path`` and the weights beside it."""
    openvino = import_openvino()
    openvino.save_model(model, path, compress_to_fp16=False)
    model.set_rt_info(digest(path.with_suffix(".bin").read_bytes()), [OPENVINO_SECTION, WEIGHTS_DIGEST])
    openvino.save_model(model, path, compress_to_fp16=False)
