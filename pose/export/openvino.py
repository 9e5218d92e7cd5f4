"""OpenVINO models from ONNX files: read from memory, so that nothing is written twice; weights stay in float32."""

from pathlib import Path
from typing import Any

from pose.inference.backends import OPENVINO_SECTION, WEIGHTS_DIGEST, digest, import_openvino
from pose.inference.metadata import ExportMetadata


def to_openvino(content: bytes, card: ExportMetadata) -> Any:
    """Return an ``openvino.Model`` that does what an ONNX file does, for any number of crops.

    A file of one crop becomes a loop over crops. OpenVINO runs convolutions whose kernels are computed almost as fast
    as any, but not those whose number of groups is: so each crop meets its own kernels alone.

    Args:
        content: of the file, as `build_onnx` returns it.
        card: what the model is to say about the model.

    Raises:
        PoseError: openvino is not installed.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(content)
    if model.input(0).partial_shape.is_static:
        model = _for_each_crop(model)
    for name, value in card.to_properties().items():
        model.set_rt_info(value, [OPENVINO_SECTION, name])
    return model


def _for_each_crop(body: Any) -> Any:
    openvino = import_openvino()
    ops = openvino.opset13
    (inner,) = body.get_parameters()
    crops = ops.parameter([-1, *inner.shape[1:]], inner.element_type)
    crops.output(0).set_names(inner.output(0).names)
    loop = ops.tensor_iterator()
    loop.set_body(body)
    first_to_last = {"start": 0, "stride": 1, "part_size": 1, "end": -1, "axis": 0}
    loop.set_sliced_input(inner, crops.output(0), **first_to_last)
    results = []
    for result in body.get_results():
        together = ops.result(loop.get_concatenated_slices(result.output(0), **first_to_last))
        together.output(0).set_names(result.output(0).names)
        results.append(together)
    return openvino.Model(results, [crops])


def save_openvino(model: Any, path: Path) -> None:
    """Write the graph, with the digest of its weights, as ``path`` and the weights beside it."""
    openvino = import_openvino()
    openvino.save_model(model, path, compress_to_fp16=False)
    model.set_rt_info(digest(path.with_suffix(".bin").read_bytes()), [OPENVINO_SECTION, WEIGHTS_DIGEST])
    openvino.save_model(model, path, compress_to_fp16=False)
