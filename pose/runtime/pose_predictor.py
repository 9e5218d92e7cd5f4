"""`PosePredictor`: the keypoints of the persons in an image, by the fastest runtime at hand.

With ``runtime="auto"`` the model of a weight file runs on a CPU in ONNX Runtime or OpenVINO, if one is installed, and
otherwise in PyTorch. The exported file is made at the first use and cached (`pose.runtime.cache`). PyTorch is imported
only if it is needed: to make that file, or to run the model.
"""

import ctypes
import logging
import os
import sys
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pose.errors import CheckpointError, ConfigError, near_name
from pose.geometry import Array, Float32
from pose.heatmap import DecodeMethod
from pose.images import Image
from pose.inference.backends import import_onnxruntime
from pose.inference.detectors import Detector
from pose.inference.exported import ExportedPredictor
from pose.inference.find_detector import AUTO
from pose.inference.openvino_cpu import import_openvino, openvino_has_bf16
from pose.inference.predictor import CropPredictor
from pose.packaged import weights_path
from pose.runtime.cache import mark_used
from pose.runtime.exports import find_export, installed_runtimes, make_export

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Runtime = Literal["auto", "pytorch", "onnxruntime", "openvino"]
"""``auto``: the fastest that is installed and can do what is asked for."""
EXPORTED_BATCH_SIZE = 4
"""Crops per batch of an exported model: larger batches are not faster on a CPU."""


class PosePredictor(CropPredictor):
    """Predicts the keypoints of the persons in an image. Threads may call one predictor at the same time.

    Args:
        weights: file that ``dyconv-pose train`` wrote, a run folder, or the name of a packaged model.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU if there is one.
        runtime: ``"pytorch"``, ``"onnxruntime"``, ``"openvino"``, or ``"auto"``: on a CPU the fastest of them that is
            installed. For the others than PyTorch the model is exported at the first use and kept in the folder
            ``DYCONV_POSE_CACHE``, by default in the user's cache folder.
        flip: average with the mirrored crop: twice the time, about one AP more.
        decode: ``"quarter"``, or ``"dark"`` for sub-pixel keypoints (`pose.heatmap.decode`).
        bf16: compute in bfloat16, in OpenVINO or PyTorch: about half the time on processors that have it, up to 0.3 AP
            less.
        batch_size: crops per batch; by default 32, and 4 on a CPU, whose caches do not hold larger feature maps.
        detector: finds the persons of images without boxes: ``auto`` (the user's, else a light one of torchvision, see
            `pose.inference.find_detector`), an ``.onnx`` file, a torchvision detector, ``pose`` (the pose model itself
            finds one person), or ``none``: the whole image is one person.

    Attributes:
        runtime: the one that was chosen.

    Raises:
        CheckpointError: the weights are missing or do not fit this version.
        ConfigError: there is no such device or runtime, or it cannot run on the device or in bfloat16.
        PoseError: the runtime is not installed.
        MediaError: the detector cannot be loaded.
    """

    def __init__(
        self,
        weights: str | Path | None = "default",
        device: "str | torch.device | None" = None,
        *,
        runtime: Runtime = "auto",
        flip: bool = True,
        decode: DecodeMethod = "quarter",
        bf16: bool = False,
        batch_size: int | None = None,
        detector: str | Path | Detector = AUTO,
    ) -> None:
        runtimes = usable_runtimes(runtime, device, bf16)
        options = {"flip": flip, "decode": decode, "bf16": bf16, "batch_size": batch_size}
        path = weights_path(weights or "default")
        if runtimes:
            self._model = _open_exported(_weight_file(path), runtimes, options, may_fail=runtime == "auto")
        else:
            self._model = _open_in_pytorch(path, device, **options)
        self.runtime = self._model.runtime
        super().__init__(
            self._model.skeleton,
            self._model.input_config,
            self._model.batch_size,
            detector,
            None if device is None else str(device),
        )

    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        return self._model.find_keypoints(crops_rgb, heatmap_to_image)

    def without_flip(self) -> "PosePredictor":
        """See `CropPredictor.without_flip`."""
        other = copy(self)
        other._model = self._model.without_flip()
        return other


def usable_runtimes(runtime: str, device: object, bf16: bool) -> tuple[str, ...]:
    """Return the runtimes of exported models that a predictor may use; none: PyTorch.

    Args:
        runtime: see `Runtime`.
        device: None: a GPU if there is one.
        bf16: compute in bfloat16.

    Raises:
        ConfigError: there is no such runtime, or it cannot run on the device or in bfloat16.
        PoseError: the runtime is not installed.
    """
    if runtime not in get_args(Runtime):
        names = get_args(Runtime)
        raise ConfigError(f"runtime: expected one of {', '.join(names)}, got '{runtime}'{near_name(runtime, names)}")
    if runtime == "pytorch":
        return ()
    if runtime != "auto":
        if bf16 and runtime == "onnxruntime":
            raise ConfigError("runtime onnxruntime: computes in float32; leave bf16 out, or choose openvino or pytorch")
        if device is not None and str(device) != "cpu":
            raise ConfigError(f"runtime {runtime}: runs on the CPU, not on '{device}'; choose the runtime pytorch")
        (import_onnxruntime if runtime == "onnxruntime" else import_openvino)()
        return (runtime,)
    on_cpu = not _has_gpu() if device is None else str(device) == "cpu"
    if not on_cpu:
        return ()
    installed = installed_runtimes()
    if bf16:
        return ("openvino",) if "openvino" in installed and openvino_has_bf16() else ()
    if not installed:
        _hint()
    return installed


@cache
def _hint() -> None:
    logger.info("runtime: PyTorch; for a faster one on the CPU: pip install 'dyconv-pose[export]'")


def _has_gpu() -> bool:
    """Return whether PyTorch has a GPU, without importing it where there is no driver: that takes two seconds."""
    if "torch" not in sys.modules:
        try:
            ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            if not Path("/dev/kfd").exists():  # AMD
                return False
    import torch

    return torch.cuda.is_available()


def _weight_file(path: Path) -> Path:
    """Return the weight file of a path that may be a run folder."""
    if not path.is_dir():
        return path
    from pose.models.weights import find_weights

    return find_weights(path)


def _open_exported(weights: Path, runtimes: tuple[str, ...], options: dict[str, Any], may_fail: bool) -> CropPredictor:
    """Open the cached export of a weight file, making it first if needed; with ``may_fail`` PyTorch replaces it."""
    options["batch_size"] = options["batch_size"] or EXPORTED_BATCH_SIZE
    options["threads"] = _threads()
    entry = find_export(weights, runtimes)
    if entry is not None:
        try:
            predictor = ExportedPredictor(entry, **options)
        except CheckpointError:  # damaged, or removed since: made again
            entry.unlink(missing_ok=True)
        else:
            mark_used(entry)
            return predictor
    from pose.models.weights import load_pose_net

    model, config = load_pose_net(weights)
    try:
        return ExportedPredictor(make_export(weights, model, config, runtimes), **options)
    except Exception as error:  # the exporters raise errors of many classes; PyTorch runs any model
        if not may_fail:
            raise
        _warn(" ".join(str(error).split())[:200] or type(error).__name__)
    del options["threads"]
    return _open_in_pytorch(weights, "cpu", **options)


@cache
def _warn(reason: str) -> None:
    logger.warning("runtime: PyTorch, as the model cannot be exported to a faster one: %s", reason)


def _open_in_pytorch(weights: Path, device: "str | torch.device | None", **options: Any) -> CropPredictor:
    from pose.inference.pytorch import PyTorchPredictor

    return PyTorchPredictor(weights, device, **options)


def _threads() -> int:
    """Return the number of compute threads: PyTorch's, as far as that is known without it; 0: one per core."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() else 0
