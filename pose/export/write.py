"""Exported files, written whole or not at all: ONNX, or OpenVINO's pair of a graph and its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose.errors import CheckpointError
from pose.export.onnx import is_dynamic, predictor_to_onnx
from pose.export.openvino import save_openvino, to_openvino
from pose.files import replacing
from pose.inference.metadata import ExportMetadata
from pose.models.pose_net import PoseNet


def is_openvino(path: Path) -> bool:
    """Say whether a file's name is that of an OpenVINO model."""
    return path.suffix.lower() == ".xml"


def build_onnx(path: Path, net: PoseNet, card: ExportMetadata, *, decodes: bool) -> bytes:
    """Return what `write_export` takes for ``path``, in the form that its engine is fast with.

    Args:
        path: of the file to make.
        net: static or dynamic; not changed.
        card: what the file is to say about the model.
        decodes: also give keypoints and scores.

    Raises:
        PoseError: the package onnx is not installed.
    """
    return predictor_to_onnx(net, card, decodes=decodes, one_crop=is_openvino(path) and is_dynamic(net))


@contextmanager
def write_export(path: Path, content: bytes, card: ExportMetadata) -> Iterator[Path]:
    """Write an exported model under a temporary name; move it to ``path`` at the end, or remove it after an exception.

    Args:
        path: a name ending in .onnx, or in .xml for OpenVINO, whose weights become a .bin beside it.
        content: of an ONNX file, as `build_onnx` returns it.
        card: what the file is to say about the model.

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
            save_openvino(model, temporary)
            yield temporary
    else:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            yield temporary
