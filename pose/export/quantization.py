"""Quantize a static model's ONNX file to int8, calibrated on crops, with `onnxruntime.quantization`.

Weights are scaled per output channel and activations per layer, by the range of values (min to max) on the calibration
crops. The last convolution and all that follows (flip average, decoding) remain in float32, and so do the first three
convolutions with the operators before them: their few channels have very different ranges, and quantizing them costs
the packaged model two AP.
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
"""First convolutions that remain in float32: the stem and the first block of a MobileNetV2 or a ResNet."""
QUANTIZED_OPS = ("Conv", "Clip", "Relu", "Add", "Resize")
"""ONNX operators to quantize, where their input is quantized."""


def require_static(model: nn.Module) -> None:
    """Refuse to quantize a model with dynamic convolutions.

    Raises:
        ConfigError: the model is dynamic.
    """
    if is_dynamic(model):
        raise ConfigError(
            "--int8: expected a static model, got a dynamic one, whose kernels depend on the crop and have no constant "
            "scale; leave --int8 out"
        )


def quantize(content: bytes, crops_rgb: Image) -> bytes:
    """Quantize a static model's ONNX file to int8.

    Args:
        content: of the ONNX file, as returned by `pose.export.onnx.predictor_to_onnx`.
        crops_rgb: calibration crops, (N, h, w, 3).

    Returns:
        The content of the quantized ONNX file.

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
        convolutions = [index for index, node in enumerate(nodes) if node.op_type == "Conv"]
        # The operators after the last convolution average and decode heatmaps: their sums are coordinates, too.
        first, last = nodes[: convolutions[FLOAT_CONVOLUTIONS]], nodes[convolutions[-1] :]
        quantization.quantize_static(
            prepared,
            quantized,
            _calibration_reader(quantization.CalibrationDataReader, crops_rgb),
            op_types_to_quantize=list(QUANTIZED_OPS),
            nodes_to_exclude=[node.name for node in (*first, *last)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return quantized.read_bytes()


def _calibration_reader(base: Any, crops_rgb: Image) -> Any:
    inputs: Iterator[dict[str, Image]] = ({CROPS: crop[None]} for crop in crops_rgb)

    class CropReader(base):  # type: ignore[misc]
        """Calibration data reader that returns one crop at a time."""

        def get_next(self) -> dict[str, Image] | None:
            """Return the next crop as model input, None at the end."""
            return next(inputs, None)

    return CropReader()
