"""A static model's ONNX file in 8-bit integers, calibrated on crops.

Weights are scaled by output channel, activations by layer: from the smallest to the largest value that the crops bring
about. The last convolution, whose maps are decoded, and the first three with what is before them stay in float32: their
few channels, of such different ranges, cost the packaged model two AP otherwise. `onnxruntime.quantization` does the
work.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from pose.errors import ConfigError, PoseError
from pose.export.onnx import is_dynamic
from pose.images import Image
from pose.inference.metadata import CROPS

FLOAT_CONVOLUTIONS = 3
"""At the beginning: the stem and the first block of a MobileNetV2 or a ResNet."""
QUANTIZED = ("Conv", "Clip", "Relu", "Add", "Resize")
"""Operators to quantize, where their input is."""


def require_static(model: nn.Module) -> None:
    """Refuse a model with dynamic convolutions.

    Raises:
        ConfigError: it has them.
    """
    if is_dynamic(model):
        raise ConfigError(
            "--int8: expected a static model, got a dynamic one, whose kernels are mixed anew for each crop and have no "
            "scale beforehand; leave --int8 out"
        )


def quantize(content: bytes, crops_rgb: Image) -> bytes:
    """Return the content of an ONNX file in 8-bit integers.

    Args:
        content: of a static model's file, as `pose.export.onnx.predictor_to_onnx` returns it.
        crops_rgb: to calibrate on, (N, h, w, 3).

    Raises:
        PoseError: onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError:
        raise PoseError("--int8: needs the package onnxruntime; pip install 'dyconv-pose[export]'") from None
    with TemporaryDirectory() as folder:
        source, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "quantized"))
        source.write_bytes(content)
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        first, last = nodes[: convolutions[FLOAT_CONVOLUTIONS]], nodes[convolutions[-1]]
        quantization.quantize_static(
            prepared,
            quantized,
            _reader(quantization.CalibrationDataReader, crops_rgb),
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=[node.name for node in (*first, last)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return quantized.read_bytes()


def _reader(base: Any, crops_rgb: Image) -> Any:
    inputs: Iterator[dict[str, Image]] = ({CROPS: crop[None]} for crop in crops_rgb)

    class Reader(base):  # type: ignore[misc]
        """Gives one crop at a time."""

        def get_next(self) -> dict[str, Image] | None:
            return next(inputs, None)

    return Reader()
