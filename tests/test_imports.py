"""The house's import direction, read from the source: who may know whom."""

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "pose").rglob("*.py"), *(ROOT / "tools").glob("*.py")])

FLOORS = {
    "errors": 0,
    "skeleton": 1,
    "geometry": 1,
    "config": 2,
    "heatmap": 2,
    "datasets": 3,
    "predictor": 3,
    "runtime": 3,
    "inference": 3,
    "evaluation": 3,
    "engine": 4,
    "tools": 5,
}
"""A room imports from its own floor and those below. Rooms without a floor (video, export, ...) only obey `tools`."""

TOUCHES_ENVIRONMENT = {
    "pose/engine/distributed.py": "",
    "pose/datasets/augment.py": 'os.environ["NO_ALBUMENTATIONS_UPDATE"] =',
    "pose/frame_sources.py": 'os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL"',
    "pose/host.py": 'os.environ.setdefault("GOMP_SPINCOUNT"',
}
"""Only `distributed` reads it; the others set up a library, each by the one line given here."""


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(module: str) -> str:
    """Room of a dotted module: ``pose.datasets.coco`` is in datasets, ``pose.tools.train`` in tools."""
    parts = module.split(".")
    name = parts[1] if parts[0] == "pose" and len(parts) > 1 else parts[0]
    return "config" if name.startswith("config") else name


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}: relative import; write it in full"
            module = node.module or ""
            yield from ([f"pose.{alias.name}" for alias in node.names] if module == "pose" else [module])


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_imports_go_down_the_house(path: Path) -> None:
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        target = room(module)
        if module.split(".")[0] in ("pose", "tools") and own in FLOORS:
            assert FLOORS.get(target, 0) <= FLOORS[own], f"{shown(path)} imports {module}, which is above it"
        assert target != "tools" or own in ("tools", "command"), f"{shown(path)} imports a tool"


@pytest.mark.parametrize("path", sorted((ROOT / "pose/models").glob("*.py")), ids=shown)
def test_models_import_torch_config_and_themselves(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"torch", "torchvision", "numpy"}
    for module in imports(path):
        ours = module.startswith(("pose.models", "pose.config", "pose.errors"))
        assert ours or module.split(".")[0] in allowed, f"{shown(path)} imports {module}"


TORCH_FREE = (
    "errors skeleton geometry heatmap config config_files command images predictor net_card engines runtime "
    "video following frame_sinks"
)


@pytest.mark.parametrize("name", TORCH_FREE.split())
def test_the_rooms_that_need_no_torch_do_not_load_it(name: str) -> None:
    code = f"import sys, pose.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_import_pose_is_light_and_offers_the_predictor() -> None:
    code = (
        "import sys, pose; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules); print(pose.PosePredictor.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "PosePredictor", done.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import pose

    with pytest.raises(AttributeError, match="PosePredicter"):
        _ = pose.PosePredicter


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_only_config_files_reads_yaml(path: Path) -> None:
    assert "yaml" not in set(imports(path)) or shown(path) == "pose/config_files.py"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_only_distributed_reads_the_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        reads |= isinstance(node, ast.ImportFrom) and any(a.name in ("environ", "getenv") for a in node.names)
        if reads:
            line = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
            allowed = TOUCHES_ENVIRONMENT.get(shown(path))
            assert allowed is not None, f"{shown(path)}:{node.lineno} reads the environment"
            assert allowed in line, f"{shown(path)}:{node.lineno}: {line.strip()}"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_modules_stay_within_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_every_folder_of_the_package_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "pose").rglob("*.py")}
    assert listed == folders | {"pose.tools", "pose.configs"}


def test_python_versions_agree_in_setup_and_ci() -> None:
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"Python :: {version}\n" in setup
        assert f'"{version}"' in workflow
