"""What `pip install .` gives works from any folder: package, tools, configs, the command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pose.config.loader import packaged_names

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "pose", "tools", "data", "configs", "tests")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the clone stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "coco", "quickstart"))
        elif path.exists():
            shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, source], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", folder, wheel], check=True)
    return folder


def installed(site: Path, folder: Path, *words: str) -> str:
    """Run words in ``folder`` with the installed package in front of any other; returns what is printed."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_pure_and_holds_the_package_tools_and_configs_only(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pose", "dyconv_pose"}
    folders = {"pose": "pose", "tools": "pose/tools", "data": "pose/data", "configs": "pose/configs"}
    for folder, inside in folders.items():
        ours = [path for kind in ("*.py", "*.yaml") for path in (ROOT / folder).rglob(kind)]
        ours = [path for path in ours if "benchmarks" not in path.parts]
        assert {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in ours} <= set(names)
    assert {"pose/py.typed", "pose/default_model.pt", "pose/default_model.md"} <= set(names)
    assert not any("benchmarks/" in name for name in names)
    assert wheel.stat().st_size < 35e6


def test_the_installed_package_is_whole_without_the_clone(site: Path, tmp_path: Path) -> None:
    code = (
        "import pose, pose.tools, pose.config.loader as c; print(pose.__file__, *pose.tools.__path__, c.CONFIG_FOLDER)"
    )
    for path in installed(site, tmp_path, "-c", code).split():
        assert Path(path).is_relative_to(site)


def test_the_command_lists_the_tools_and_the_configs(site: Path, tmp_path: Path) -> None:
    command = str(site / "bin/dyconv-pose")
    listed = installed(site, tmp_path, command, "--help")
    for tool in (ROOT / "tools").glob("[a-z]*.py"):
        assert f"  {tool.stem.replace('_', '-')} " in listed
    assert installed(site, tmp_path, command, "print-config", "--list").split() == packaged_names()
    shown = installed(site, tmp_path, command, "print-config", "--cfg", "quickstart")
    assert str(site / "pose/configs/quickstart.yaml") in shown


def test_the_tools_of_a_clone_run_from_any_folder(tmp_path: Path) -> None:
    script = str(ROOT / "tools/print_config.py")
    done = subprocess.run([sys.executable, script, "--list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == packaged_names(), done.stderr
