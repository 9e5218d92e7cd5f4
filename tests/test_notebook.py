"""The notebook of the documentation runs, cell by cell, in a folder with nothing but its image."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs/notebooks"


def test_the_cells_of_the_quickstart_notebook_run_in_order(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}, of the extra `export`")
    notebook = json.loads((NOTEBOOKS / "quickstart.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    shutil.copy(NOTEBOOKS / "people.jpg", tmp_path)
    # The command is found next to Python even where the environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert "left_shoulder" in done.stdout
    assert "keypoints differ by at most 0.0" in done.stdout
    assert cv2.imread(str(tmp_path / "poses.jpg")).shape == cv2.imread(str(tmp_path / "people.jpg")).shape
