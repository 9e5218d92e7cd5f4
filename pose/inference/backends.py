"""Inference backends for exported models: ONNX Runtime and OpenVINO, each imported on first use.

To add a backend, write a function that opens a file as an `InferenceSession` and add it to `BACKENDS`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from pose.errors import CheckpointError, PoseError, near_name
from pose.geometry import Float32
from pose.images import Image
from pose.inference.file_digest import digest, has_digest, verify_digest
from pose.inference.metadata import CROPS, HEATMAPS, INPUT, KEYPOINTS, SCORES
from pose.inference.openvino_cpu import compile_openvino, openvino_core, openvino_has_bf16

OPENVINO_SECTION = "framework"
"""Section of an OpenVINO file's runtime info that holds the metadata of the ONNX file it was converted from."""
WEIGHTS_DIGEST = "weights_sha256"
"""Metadata key of an OpenVINO file: SHA-256 of its weights file. OpenVINO accepts any weights that are long enough."""


@dataclass(frozen=True)
class InferenceSession:
    """An exported model, loaded by its backend.

    Attributes:
        runtime: name of the backend's package.
        metadata: the file's metadata, see `pose.inference.metadata`.
        outputs: names of the outputs.
        run: runs the model on (N, h, w, 3) uint8 RGB crops; returns the outputs by name. Threads may call it at the
            same time.
    """

    runtime: str
    metadata: Mapping[str, str]
    outputs: tuple[str, ...]
    run: Callable[[Image], dict[str, Float32]]


def open_exported(
    path: Path, threads: int, providers: Sequence[str] | None = None, bf16: bool = False
) -> InferenceSession:
    """Open an exported model in the backend given by the file's suffix.

    Args:
        path: a name ending in .onnx or .xml.
        threads: number of compute threads on the CPU; 0 for one per core.
        providers: ONNX Runtime's execution providers, preferred first; by default the CPU's.
        bf16: compute in bfloat16, in OpenVINO.

    Raises:
        PoseError: the backend is not installed, or a provider is not available, or it cannot compute in bfloat16.
        CheckpointError: the file is missing, damaged, or not an exported model.
    """
    check_exported_name(path)
    return BACKENDS[path.suffix.lower()](path, threads, providers, bf16)


def is_exported(path: Path) -> bool:
    """Return whether a file name is that of an exported model."""
    return path.suffix.lower() in BACKENDS


def check_exported_name(path: Path) -> None:
    """Check that a backend opens files with this suffix.

    Raises:
        CheckpointError: no backend does.
    """
    if not is_exported(path):
        raise CheckpointError(f"{path}: expected a name ending in {' or '.join(BACKENDS)}")


def import_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises:
        PoseError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PoseError("ONNX models: need the package onnxruntime; pip install 'dyconv-pose[export]'") from None
    return onnxruntime


def check_providers(providers: Sequence[str]) -> None:
    """Check that the installed ONNX Runtime has all of these execution providers.

    Raises:
        PoseError: one is not available, or there is none; the message lists those that are available.
    """
    available = import_onnxruntime().get_available_providers()
    names = ", ".join(available)
    if not providers or isinstance(providers, str):
        raise PoseError(f"providers: expected a list of execution providers, got {providers!r}; available: {names}")
    for name in providers:
        if name not in available:
            hint = near_name(name, available) or ";"
            raise PoseError(
                f"providers: '{name}' is not in the installed ONNX Runtime{hint} available: {names}. For an NVIDIA GPU "
                "replace the package onnxruntime by onnxruntime-gpu"
            )


def open_session(
    model: bytes | Path,
    threads: int,
    *,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    error_type: type[PoseError] = CheckpointError,
) -> Any:
    """Open an ONNX file, or its content, with ONNX Runtime.

    Args:
        model: the file or its content.
        threads: number of compute threads; 0 for one per core.
        providers: ONNX Runtime's execution providers, preferred first.
        error_type: raised for a bad file.

    Raises:
        PoseError: onnxruntime is not installed.
        CheckpointError: the file is damaged, missing or not an ONNX model; of the latter two, ``error_type``.
    """
    onnxruntime = import_onnxruntime()
    if isinstance(model, Path) and not model.is_file():
        raise error_type(f"{model}: no such ONNX file")
    if isinstance(model, Path):
        with _reading(model):
            verify_digest(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    # Otherwise the threads of one session wait busily while the next one runs: of the detector, then of the pose model.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = str(model) if isinstance(model, Path) else model
    try:
        session = onnxruntime.InferenceSession(source, options, providers=list(providers))
        for value in (*session.get_inputs(), *session.get_outputs()):
            _ = value.name, value.shape  # of a damaged file these may be no text
        return session
    except Exception as error:  # onnxruntime has a different class for each cause
        if not isinstance(model, Path):
            raise
        reason = " ".join(str(error).split())[:120]
        raise error_type(f"{model}: not an ONNX model that can be read ({reason})") from None


def _open_onnx(path: Path, threads: int, providers: Sequence[str] | None, bf16: bool) -> InferenceSession:
    if bf16:
        raise PoseError(f"bf16: {path.name} is an ONNX model, which computes in float32; export to .xml instead")
    if providers is None:
        session = open_session(path, threads)
    else:
        check_providers(providers)
        session = open_session(path, threads, providers=providers)
        # Where a provider's libraries or its device are missing, ONNX Runtime logs it and uses the CPU.
        if session.get_providers()[0] != providers[0]:
            raise PoseError(
                f"providers: '{providers[0]}' could not be started, its device or its libraries are missing (see the "
                f"log of ONNX Runtime); started: {', '.join(session.get_providers())}"
            )
    names = tuple(output.name for output in session.get_outputs())
    try:
        properties = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: damaged, its metadata is not text; copy or export it again") from None
    if INPUT in properties and not has_digest(path):
        raise _no_digest(path)

    def run(crops_rgb: Image) -> dict[str, Float32]:
        return dict(zip(names, session.run(names, {CROPS: crops_rgb}), strict=True))

    return InferenceSession("onnxruntime", properties, names, run)


def _open_openvino(path: Path, threads: int, providers: Sequence[str] | None, bf16: bool) -> InferenceSession:
    if providers is not None:
        raise PoseError(f"providers: {path.name} is an OpenVINO model, which runs on the CPU; export to .onnx instead")
    if bf16 and not openvino_has_bf16():
        raise PoseError("bf16: this processor has no arithmetic for bfloat16; leave it out")
    core = openvino_core()
    weights_path = path.with_suffix(".bin")
    for file in (path, weights_path):
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file; an OpenVINO model is a .xml and a .bin of the same name")
    with _reading(path):
        verify_digest(path)
        graph, weights = path.read_bytes(), weights_path.read_bytes()
    try:
        # Read from memory: a memory-mapped file cannot be moved on every system.
        model = core.read_model(graph, weights)
        metadata = _openvino_metadata(model)
        if metadata.get(WEIGHTS_DIGEST, digest(weights)) != digest(weights):
            raise CheckpointError(
                f"{weights_path}: not the weights that {path.name} was written with; export the model again"
            )
        if INPUT in metadata and not has_digest(path):
            raise _no_digest(path)
        compiled = compile_openvino(model, threads, bf16)
    except RuntimeError:  # its message only names lines of OpenVINO's source
        raise CheckpointError(
            f"{path}: not an OpenVINO model that can be read, or {weights_path.name} is damaged; export it again"
        ) from None
    request, lock = compiled.create_infer_request(), Lock()
    names = tuple(_output_name(output.names) for output in model.outputs)

    def run(crops_rgb: Image) -> dict[str, Float32]:
        # A request holds the tensors of one call. More requests would not be faster: for low latency, OpenVINO runs one
        # at a time on all threads.
        with lock:
            outputs = request.infer({CROPS: crops_rgb})
        return {name: outputs[position] for position, name in enumerate(names)}

    return InferenceSession("openvino", metadata, names, run)


def _output_name(names: Set[str]) -> str:
    """Return our name of an output, to which OpenVINO adds those of the operators that it merges with the output."""
    return next((name for name in (HEATMAPS, KEYPOINTS, SCORES) if name in names), min(names))


def _openvino_metadata(model: Any) -> dict[str, str]:
    section = model.get_rt_info([OPENVINO_SECTION]).value if model.has_rt_info([OPENVINO_SECTION]) else {}
    return {name: str(value) for name, value in section.items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read it ({error.strerror or error})") from None


def _no_digest(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: has no checksum: its end is damaged, or another version wrote it; export it again")


Open = Callable[[Path, int, Sequence[str] | None, bool], InferenceSession]
BACKENDS: dict[str, Open] = {".onnx": _open_onnx, ".xml": _open_openvino}
"""Functions that open a file with a number of threads, execution providers and bfloat16, by file suffix."""
