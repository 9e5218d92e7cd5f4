"""Convert ONNX models to OpenVINO in memory and save them; weights remain float32."""

from pathlib import Path
from typing import Any

from pose.errors import MediaError
from pose.inference.backends import OPENVINO_SECTION, WEIGHTS_DIGEST
from pose.inference.file_digest import digest, with_digest
from pose.inference.metadata import ExportMetadata
from pose.inference.openvino_cpu import import_openvino, openvino_core


def to_openvino(content: bytes, metadata: ExportMetadata) -> Any:
    """Convert the content of an ONNX file to an ``openvino.Model`` that takes any number of crops.

    A model with a fixed batch of one becomes a loop over the crops. OpenVINO runs convolutions with computed kernels
    almost as fast as those with constant kernels, but not convolutions whose number of groups is computed: so each crop
    is convolved with its own kernels alone.

    Args:
        content: of an ONNX file, as returned by `pose.export.write.build_onnx`.
        metadata: to store in the model.

    Raises:
        PoseError: openvino is not installed.
    """
    model = openvino_core().read_model(content)
    if model.input(0).partial_shape.is_static:
        model = _loop_over_crops(model)
    for name, value in metadata.to_properties().items():
        model.set_rt_info(value, [OPENVINO_SECTION, name])
    return model


def _loop_over_crops(body: Any) -> Any:
    openvino = import_openvino()
    ops = openvino.opset13
    (body_input,) = body.get_parameters()
    crops = ops.parameter([-1, *body_input.shape[1:]], body_input.element_type)
    crops.output(0).set_names(body_input.output(0).names)
    loop = ops.tensor_iterator()
    loop.set_body(body)
    slices = {"start": 0, "stride": 1, "part_size": 1, "end": -1, "axis": 0}
    loop.set_sliced_input(body_input, crops.output(0), **slices)
    results = []
    for body_result in body.get_results():
        result = ops.result(loop.get_concatenated_slices(body_result.output(0), **slices))
        result.output(0).set_names(body_result.output(0).names)
        results.append(result)
    return openvino.Model(results, [crops])


def save_openvino(model: Any, path: Path) -> None:
    """Write the graph to ``path`` (.xml), and the weights to the .bin next to it; the .xml has the digests of both.

    Raises:
        MediaError: a file cannot be written.
    """
    openvino = import_openvino()
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
        model.set_rt_info(digest(path.with_suffix(".bin").read_bytes()), [OPENVINO_SECTION, WEIGHTS_DIGEST])
        openvino.save_model(model, path, compress_to_fp16=False)
        path.write_bytes(with_digest(path.read_bytes(), ".xml"))
    except (RuntimeError, OSError) as error:  # OpenVINO raises RuntimeError for a full disk too
        raise MediaError(f"{path}: cannot write it ({error}); free disk space or choose another path") from None
