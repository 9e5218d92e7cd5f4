"""Export: ONNX and OpenVINO files, int8 quantization, verification."""
