"""The engines that run exported models on the CPU: ONNX Runtime and OpenVINO, each imported when it is first used.

To add one, write a function that opens a file as an `InferenceSession`, and name it in `BACKENDS`.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.errors import CheckpointError, PoseError
from pose.geometry import Float32
from pose.images import Image
from pose.inference.metadata import CROPS

OPENVINO_SECTION = "framework"
"""Of an OpenVINO file: where it keeps the metadata of an ONNX file that it was made from."""
WEIGHTS_DIGEST = "weights_sha256"
"""Among an OpenVINO file's metadata: of its weights, a second file. OpenVINO takes any that is long enough."""


@dataclass(frozen=True)
class InferenceSession:
    """An exported model in the engine that runs it.

    Attributes:
        metadata: what the file says about itself.
        outputs: names of what it gives.
        run: (N, h, w, 3) uint8 RGB crops to the outputs by their names.
    """

    metadata: Mapping[str, str]
    outputs: tuple[str, ...]
    run: Callable[[Image], dict[str, Float32]]


def open_exported(path: Path, threads: int) -> InferenceSession:
    """Open an exported file on the CPU, with the engine that its suffix asks for.

    Args:
        path: a name ending in .onnx or .xml.
        threads: to compute with; 0 for as many as there are cores.

    Raises:
        PoseError: the engine is not installed.
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    check_exported_name(path)
    return BACKENDS[path.suffix.lower()](path, threads)


def is_exported(path: Path) -> bool:
    """Say whether a file's name is that of an exported model."""
    return path.suffix.lower() in BACKENDS


def check_exported_name(path: Path) -> None:
    """Refuse a file's name that no engine takes.

    Raises:
        CheckpointError: its suffix is another.
    """
    if not is_exported(path):
        raise CheckpointError(f"{path}: expected a name ending in {' or '.join(BACKENDS)}")


def open_session(model: bytes | Path, threads: int) -> Any:
    """Open an ONNX file, or its content, with ONNX Runtime on the CPU.

    Args:
        model: the file or its content.
        threads: to compute with; 0 for as many as there are cores.

    Raises:
        PoseError: onnxruntime is not installed.
        CheckpointError: the file is missing or not an ONNX model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PoseError("ONNX models: need the package onnxruntime; pip install 'dyconv-pose[export]'") from None
    if isinstance(model, Path) and not model.is_file():
        raise CheckpointError(f"{model}: no such ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each way a file can be wrong
        if not isinstance(model, Path):
            raise
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{model}: not an ONNX model that can be read ({reason})") from None


def _open_onnx(path: Path, threads: int) -> InferenceSession:
    session = open_session(path, threads)
    names = tuple(output.name for output in session.get_outputs())

    def run(crops_rgb: Image) -> dict[str, Float32]:
        return dict(zip(names, session.run(names, {CROPS: crops_rgb}), strict=True))

    return InferenceSession(session.get_modelmeta().custom_metadata_map, names, run)


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        PoseError: it is not installed.
    """
    # Without this package OpenVINO works as well, and does not report to Google Analytics that it was imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise PoseError("OpenVINO models: need the package openvino; pip install 'dyconv-pose[export]'") from None
    return openvino


def compile_openvino(model: Any, threads: int) -> Any:
    """Compile an OpenVINO model for the CPU.

    Args:
        model: ``openvino.Model``.
        threads: to compute with; 0 for as many as there are cores.
    """
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # else bf16 where the processor has it, and other keypoints
    }
    return import_openvino().Core().compile_model(model, "CPU", options)


def _open_openvino(path: Path, threads: int) -> InferenceSession:
    openvino = import_openvino()
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file; an OpenVINO model is a .xml and a .bin of the same name")
    graph, constants = path.read_bytes(), weights.read_bytes()
    try:
        # From memory: files that are mapped cannot be moved on every system.
        model = openvino.Core().read_model(graph, constants)
        metadata = _metadata(model)
        if metadata.get(WEIGHTS_DIGEST, digest(constants)) != digest(constants):
            raise CheckpointError(
                f"{weights}: not the weights that {path.name} was written with; export the model again"
            )
        compiled = compile_openvino(model, threads)
    except RuntimeError:  # its message is of places in OpenVINO's source
        raise CheckpointError(
            f"{path}: it or {weights.name} is damaged, or no OpenVINO model; export it again"
        ) from None
    request = compiled.create_infer_request()
    names = tuple(output.any_name for output in compiled.outputs)

    def run(crops_rgb: Image) -> dict[str, Float32]:
        found = request.infer({CROPS: crops_rgb})
        return {name: found[name] for name in names}

    return InferenceSession(metadata, names, run)


def _metadata(model: Any) -> dict[str, str]:
    section = model.get_rt_info([OPENVINO_SECTION]).value if model.has_rt_info([OPENVINO_SECTION]) else {}
    return {name: str(value) for name, value in section.items()}


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


BACKENDS: dict[str, Callable[[Path, int], InferenceSession]] = {".onnx": _open_onnx, ".xml": _open_openvino}
"""By the suffix of their files."""
