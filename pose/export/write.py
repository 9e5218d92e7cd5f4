"""Write exported models atomically: an ONNX file, or OpenVINO's graph (.xml) and weights (.bin)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from pose.errors import CheckpointError
from pose.export.onnx import is_dynamic, predictor_to_onnx
from pose.export.openvino import save_openvino, to_openvino
from pose.files import replacing
from pose.inference.file_digest import with_digest
from pose.inference.metadata import ExportMetadata
from pose.models.pose_net import PoseNet


def build_onnx(path: Path, model: PoseNet, metadata: ExportMetadata, *, decodes: bool) -> bytes:
    """Export a model to ONNX, in the variant that is fast with the backend of ``path``.

    Args:
        path: output file; its suffix selects the backend.
        model: static or dynamic; not modified.
        metadata: of the exported file.
        decodes: add the outputs keypoints and scores.

    Returns:
        The content of the ONNX file, for `write_export`.

    Raises:
        PoseError: the package onnx is not installed.
        CheckpointError: a weight is NaN or infinite.
    """
    require_finite(model)
    return predictor_to_onnx(model, metadata, decodes=decodes, one_crop=_is_openvino(path) and is_dynamic(model))


def require_finite(model: nn.Module) -> None:
    """Refuse a model with NaN or infinite weights: its file would load, and find nobody.

    Raises:
        CheckpointError: it has some.
    """
    bad = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CheckpointError(f"export: NaN or infinite values in weight '{bad[0]}'{more}; export another checkpoint")


@contextmanager
def write_export(path: Path, content: bytes, metadata: ExportMetadata) -> Iterator[Path]:
    """Write an exported model to a temporary path; rename it to ``path`` at the end, or remove it after an exception.

    Args:
        path: output file, .onnx or .xml; the weights of an OpenVINO model go into a .bin next to the .xml.
        content: of an ONNX file, as returned by `build_onnx`.
        metadata: of the exported file.

    Raises:
        PoseError: OpenVINO is needed and not installed.
        CheckpointError: the .bin file exists without the .xml file, so it belongs to something else.
        MediaError: the folder cannot be written.
    """
    if _is_openvino(path):
        weights = path.with_suffix(".bin")
        if weights.exists() and not path.exists():
            raise CheckpointError(
                f"{weights}: exists without {path.name}, so its weights would overwrite another file; rename the output"
            )
        openvino_model = to_openvino(content, metadata)
        # The inner file is renamed first: a new graph is never next to old weights.
        with replacing(path) as temporary, replacing(weights):
            save_openvino(openvino_model, temporary)
            yield temporary
    else:
        with replacing(path) as temporary:
            temporary.write_bytes(with_digest(content, path.suffix.lower()))
            yield temporary


def _is_openvino(path: Path) -> bool:
    return path.suffix.lower() == ".xml"
