"""OpenVINO on the CPU: its one core of a process, what the processor has, and how models are compiled."""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from pose.errors import PoseError


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        PoseError: it is not installed.
    """
    # OpenVINO works without this package, and then does not report its import to Google Analytics.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise PoseError("OpenVINO models: need the package openvino; pip install 'dyconv-pose[export]'") from None
    return openvino


def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of the process.

    The CPU plugin of each core sets the calling thread's alternate signal stack and frees it with the core. With two
    cores, the thread is left with a freed stack, and the next signal with a Python handler is a segmentation fault:
    for example SIGCHLD, which a data loader with workers handles, when a process ends.

    Raises:
        PoseError: OpenVINO is not installed.
    """
    return _make_core(import_openvino().Core)


@cache
def _make_core(core_class: Callable[[], Any]) -> Any:
    return core_class()


def openvino_has_bf16() -> bool:
    """Return whether OpenVINO can compute in bfloat16 on this processor (AVX512-BF16, AMX).

    Raises:
        PoseError: OpenVINO is not installed.
    """
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_openvino(model: Any, threads: int, bf16: bool = False) -> Any:
    """Compile an OpenVINO model for the CPU.

    Args:
        model: ``openvino.Model``.
        threads: number of compute threads; 0 for one per core.
        bf16: compute in bfloat16.
    """
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # The default is bf16 where the processor has it, with other keypoints.
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    return openvino_core().compile_model(model, "CPU", options)
