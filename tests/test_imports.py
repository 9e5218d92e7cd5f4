"""Import direction of the packages, read from the source code, and other rules of the code structure."""

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("pose", "tools", "data") for path in (ROOT / folder).rglob("*.py"))

ORDER = (
    "errors",
    "packaged",
    "files",
    "json_file",
    "progress",
    "cli",
    "skeleton",
    "geometry",
    "heatmap",
    "config",
    "images",
    "datasets",
    "models",
    "evaluation",
    "inference",
    "export",
    "runtime",
    "video",
    "engine",
    "data",
    "tools",
)
"""Modules and packages of `pose`: each may import itself and those before it in this list, but none after it."""

USES_ENVIRONMENT = {
    "pose/__init__.py": 'os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS"',
    "pose/engine/launch.py": "",
    "pose/datasets/augment.py": 'os.environ["NO_ALBUMENTATIONS_UPDATE"] =',
    "pose/video/opencv_files.py": 'os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL"',
    "pose/cli/__init__.py": "os.environ.",
    "pose/inference/find_detector.py": 'os.environ.get("',
    "pose/runtime/cache.py": 'os.environ.get("',
    "pose/runtime/pose_predictor.py": 'os.environ.get("OMP_NUM_THREADS"',
    "pose/video/window.py": 'os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")',
}
"""Modules that use environment variables. Only `launch`, `cli`, `find_detector`, `cache` and `window` read them;
each other module configures a library, in the one line given here."""


def display(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package(module: str) -> str:
    """Return the package of a module: datasets for ``pose.datasets.coco``, tools for ``pose.tools.train``."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pose" and len(parts) > 1 else parts[0]


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of the modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # tools/benchmarks, whose full name differs between a clone and an installation
                yield from [".".join((*path.parent.relative_to(ROOT).parts, node.module or ""))]
                continue
            module = node.module or ""
            yield from ([f"pose.{alias.name}" for alias in node.names] if module == "pose" else [module])


@pytest.mark.parametrize("path", [path for path in SOURCES if path != ROOT / "pose/__init__.py"], ids=display)
def test_a_package_imports_only_itself_and_earlier_packages(path: Path) -> None:
    own = package(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        if module.split(".")[0] == "pose" and module != "pose.__version__":
            assert ORDER.index(package(module)) <= ORDER.index(own), f"{display(path)} imports {module}"


def test_the_order_lists_every_module_and_package() -> None:
    modules = {path.stem for path in (ROOT / "pose").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules - {"__init__", "__pycache__", "default_model"} == set(ORDER) - {"data", "tools"}


@pytest.mark.parametrize("path", sorted((ROOT / "pose/models").rglob("*.py")), ids=display)
def test_models_import_few_other_packages(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"torch", "torchvision", "numpy", "onnx", "pydantic"}
    own_packages = {"models", "config", "errors", "files", "images", "packaged"}
    for module in imports(path):
        is_own = module.startswith("pose.") and package(module) in own_packages
        assert is_own or module.split(".")[0] in allowed, f"{display(path)} imports {module}"


TORCH_FREE = (
    "errors files json_file progress cli cli.arguments skeleton geometry heatmap images config.pose config.loader "
    "inference inference.predictor inference.poses inference.boxes inference.formats inference.sources "
    "inference.metadata inference.backends inference.exported inference.detectors inference.find_detector "
    "inference.duplicates inference.visualize inference.file_digest runtime.cache runtime.exports "
    "runtime.pose_predictor runtime.open_predictor video.pipeline video.tracking video.smoothing video.readers "
    "video.writers video.prefetch"
)


@pytest.mark.parametrize("name", TORCH_FREE.split())
def test_modules_without_torch_do_not_import_it(name: str) -> None:
    code = f"import sys, pose.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_import_pose_is_lazy_and_provides_the_predictor() -> None:
    code = (
        "import sys, pose; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules); print(pose.PosePredictor.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "PosePredictor", done.stderr


def test_an_unknown_name_in_pose_raises_attribute_error() -> None:
    import pose

    with pytest.raises(AttributeError, match="PosePredicter"):
        _ = pose.PosePredicter


@pytest.mark.parametrize("path", SOURCES, ids=display)
def test_only_one_module_of_the_config_uses_yaml(path: Path) -> None:
    assert "yaml" not in set(imports(path)) or display(path) == "pose/config/yaml_text.py"


@pytest.mark.parametrize("path", SOURCES, ids=display)
def test_only_json_file_reads_and_writes_json(path: Path) -> None:
    calls = {f"{node.value.id}.{node.attr}" for node in ast.walk(ast.parse(path.read_bytes()))
             if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}  # fmt: skip
    exceptions = {"pose/json_file.py", "pose/files.py", "tools/benchmarks/_hrnet.py"}  # the last replaces a module
    assert display(path) in exceptions or not {"json", "msgspec.json"} & {*imports(path), *calls}


@pytest.mark.parametrize("path", SOURCES, ids=display)
def test_only_the_listed_modules_use_environment_variables(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        reads |= isinstance(node, ast.ImportFrom) and any(a.name in ("environ", "getenv") for a in node.names)
        if reads:
            line = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
            allowed = USES_ENVIRONMENT.get(display(path))
            assert allowed is not None, f"{display(path)}:{node.lineno} reads the environment"
            assert allowed in line, f"{display(path)}:{node.lineno}: {line.strip()}"


OPENS_PATHS = {
    *("imread", "imreadmulti", "imreadanimation", "imwrite", "imwritemulti", "imwriteanimation", "imcount"),
    *("haveImageReader", "haveImageWriter", "VideoCapture", "VideoWriter", "FileStorage"),
}
"""Functions of OpenCV that take a path, with which other bytes than UTF-8 are a segmentation fault."""


@pytest.mark.parametrize("path", SOURCES, ids=display)
def test_only_one_module_gives_paths_to_opencv(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_cv2 = isinstance(node.func.value, ast.Name) and node.func.value.id == "cv2"
            if is_cv2 and node.func.attr in OPENS_PATHS:
                assert display(path) == "pose/video/opencv_files.py", f"{display(path)}:{node.lineno}"
            if node.func.attr.startswith("readNet"):
                assert "read_bytes" in ast.unparse(node), f"{display(path)}:{node.lineno}: pass the content"


@pytest.mark.parametrize("path", SOURCES, ids=display)
def test_modules_have_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_setup_installs_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {path.parent for path in (ROOT / "pose").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == names | {"pose.tools", "pose.data", "pose.configs"}


def test_setup_and_ci_name_the_same_python_versions() -> None:
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"Python :: {version}\n" in setup
        assert f'"{version}"' in workflow
