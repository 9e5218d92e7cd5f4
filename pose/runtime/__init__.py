"""Runtimes of a weight file: PyTorch, ONNX Runtime or OpenVINO, chosen by what is installed; cached exports."""
