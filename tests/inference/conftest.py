"""Tiny ONNX files with constant outputs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

WriteOnnx = Callable[..., Path]


@pytest.fixture
def write_onnx(tmp_path: Path) -> WriteOnnx:
    """Return a function that writes a model with an image input, constant outputs and a first layer."""
    onnx = pytest.importorskip("onnx")

    def write(
        shape: Sequence[int | str],
        outputs: Mapping[str, np.ndarray],
        stem: str | None = None,
        shapes: Mapping[str, Sequence[int | str]] | None = None,
    ) -> Path:
        """Write ``model.onnx``.

        Args:
            shape: of the input ``image``.
            outputs: constants by name.
            stem: ``Slice`` or ``Conv`` on the input.
            shapes: that the file states for outputs, by name; default: their own.
        """
        helper, numpy_helper, float32 = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
        nodes = [helper.make_node("Shape", ["image"], ["image_shape"])]
        weights = []
        if stem == "Conv":
            weights.append(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w"))
            nodes.append(helper.make_node("Conv", ["image", "w"], ["x"], kernel_shape=[3, 3], strides=[2, 2]))
        elif stem == "Slice":
            for name, value in (("a", [0]), ("b", [9]), ("axis", [2]), ("step", [2])):
                weights.append(numpy_helper.from_array(np.array(value), name))
            nodes += [helper.make_node("Slice", ["image", "a", "b", "axis", "step"], [f"x{i}"]) for i in range(4)]
        infos = []
        for name, value in outputs.items():
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
            stated = (shapes or {}).get(name, value.shape)
            infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), stated))
        image = helper.make_tensor_value_info("image", float32, shape)
        graph = helper.make_graph(nodes, "detector", [image], infos, weights)
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
        return path

    return write
