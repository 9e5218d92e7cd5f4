"""Find or make the cached export of a weight file. Looking for one imports no PyTorch."""

import logging
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pose.errors import PoseError
from pose.inference.file_digest import digest
from pose.runtime.cache import SUFFIXES, cache_folder, entry_name, mark_used, prune

if TYPE_CHECKING:
    from pose.config.pose import Config
    from pose.models.pose_net import PoseNet

logger = logging.getLogger(__name__)

PREFERENCES = {False: ("onnxruntime", "openvino"), True: ("openvino", "onnxruntime")}
"""Runtimes, fastest first, of static (False) and dynamic models (True). A static model takes the same time in both, but
ONNX Runtime loads it ten times faster. A dynamic one needs kernels that are computed, for which OpenVINO is faster."""
VERIFIED_CROPS = 3
"""Synthetic crops on which a new export is compared with PyTorch."""
LICENCE = "a cached copy: see the license of the weights"
_lock = Lock()


def installed_runtimes() -> tuple[str, ...]:
    """Return the installed runtimes of exported models."""
    return tuple(name for name in SUFFIXES if find_spec(name) is not None)


def preferred_runtime(dynamic: bool, runtimes: tuple[str, ...]) -> str:
    """Return the fastest of some runtimes for static or dynamic models."""
    return next(name for name in PREFERENCES[dynamic] if name in runtimes)


def find_export(weights: Path, runtimes: tuple[str, ...]) -> Path | None:
    """Return the cached export of a weight file, or None if it has to be made.

    Args:
        weights: weight file.
        runtimes: allowed ones; of several, the fastest for the kind of the model is meant.
    """
    return next((entry for entry in _candidates(weights, runtimes) if entry.is_file()), None)


def _candidates(weights: Path, runtimes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the entries of a weight file: whether its model is dynamic is not known before it is loaded."""
    folder = cache_folder()
    if folder is not None and weights.is_file():
        weights_digest = digest(weights.read_bytes())
        for dynamic in PREFERENCES:
            runtime = preferred_runtime(dynamic, runtimes)
            yield folder / entry_name(weights_digest, runtime, dynamic, weights.stem)


def cached_export(weights: Path, runtimes: tuple[str, ...]) -> Path:
    """Return the cached export of a weight file, made if needed; see `find_export` and `make_export`.

    Raises:
        CheckpointError: the weights are missing or do not fit this version.
    """
    entry = find_export(weights, runtimes)
    if entry is not None:
        mark_used(entry)
        return entry
    from pose.models.weights import load_pose_net

    return make_export(weights, *load_pose_net(weights), runtimes)


def make_export(weights: Path, model: "PoseNet", config: "Config", runtimes: tuple[str, ...]) -> Path:
    """Export a model into the cache, after comparing the file with PyTorch; say so in one line.

    Args:
        weights: file of the model.
        model: in evaluation mode.
        config: of the model.
        runtimes: see `find_export`.

    Raises:
        PoseError: the package onnx is not installed, or the cache cannot be written.
        RuntimeError: the file's heatmaps differ from PyTorch's.
    """
    from pose.export.onnx import is_dynamic
    from pose.export.verify import check_predictor, synthetic_crops
    from pose.export.write import build_onnx, write_export
    from pose.inference.backends import open_exported
    from pose.inference.metadata import ExportMetadata
    from pose.inference.pytorch import predict_heatmaps

    folder = cache_folder()
    if folder is None:
        raise PoseError("no home folder; set DYCONV_POSE_CACHE to a folder for exported models")
    dynamic = is_dynamic(model)
    runtime = preferred_runtime(dynamic, runtimes)
    entry = folder / entry_name(digest(weights.read_bytes()), runtime, dynamic, weights.stem)
    with _lock:  # threads of one process would share the temporary file
        if entry.is_file():
            return entry
        check_writable(folder)
        start = time.monotonic()
        metadata = ExportMetadata(config.input, config.keypoints, None, LICENCE, config.test.flip_shift)
        content = build_onnx(entry, model, metadata, decodes=False)
        with write_export(entry, content, metadata) as temporary:
            session = open_exported(temporary, threads=1)
            original = partial(predict_heatmaps, model.heatmaps, flip_pairs=None)
            check_predictor(session.run, original, synthetic_crops(config.input, VERIFIED_CROPS))
        prune(folder)
    seconds = time.monotonic() - start
    logger.warning("runtime: exported %s to %s once, in %.1f s: %s", weights.name, runtime, seconds, entry)
    return entry


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be written in it: an export takes seconds before it would fail.

    Raises:
        PoseError: they cannot.
    """
    from tempfile import TemporaryFile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise PoseError(f"{folder}: cannot write it ({reason}); set DYCONV_POSE_CACHE to another folder") from None
