"""The sdist and the wheel: what they hold, and that the installed package and its command work from any folder."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pose.config.loader import packaged_names
from pose.packaged import PACKAGED_WEIGHTS, card_path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pose", "tools", "configs", "docs", "tests", "data/samples")
"""Folders that a build reads; of data/ its own files, not the data sets that a user has put there."""
WITHOUT_CLONE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")]
"""
"""Removes the finder of an editable installation, which would import from the clone what the wheel does not hold."""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy, so that the clone is left unchanged and no earlier build is read."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    files = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")]
    for path in (*files, *(ROOT / "data").glob("*.py"), ROOT / "data/README.md"):
        shutil.copy(path, source / path.relative_to(ROOT))
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, stdout=subprocess.DEVNULL)
    (built,) = out.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist, as pip does where there is no wheel."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, sdist], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", folder, wheel], check=True)
    (folder / "sitecustomize.py").write_text(WITHOUT_CLONE, encoding="utf-8")
    return folder


def run_installed(site: Path, folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with ``args`` in ``folder``, with the installed package before any other."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True)


def installed_output(site: Path, folder: Path, *args: str) -> str:
    """Return what `run_installed` prints; it must succeed."""
    done = run_installed(site, folder, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sdist_holds_what_readme_and_messages_refer_to(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "setup.cfg", "pyproject.toml"}
    expected |= {"data/README.md", "data/samples/people.mp4", "data/samples/README.md", "docs/images/people.gif"}
    folders = {"pose": ("*.py",), "tools": ("*.py",), "configs": ("*.yaml", "*.md"), "docs": ("*.md",)}
    for folder, patterns in folders.items():
        expected |= {path.relative_to(ROOT).as_posix() for kind in patterns for path in (ROOT / folder).rglob(kind)}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "data").glob("*.py")}
    assert expected <= names


def test_sdist_holds_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if name.partition("/")[2].startswith("tests")]


def test_wheel_is_pure_and_holds_only_package_tools_data_commands_and_configs(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pose", "dyconv_pose"}
    folders = {"pose": "pose", "tools": "pose/tools", "data": "pose/data", "configs": "pose/configs"}
    for folder, inside in folders.items():
        paths = [path for kind in ("*.py", "*.yaml") for path in (ROOT / folder).rglob(kind)]
        paths = [path for path in paths if "benchmarks" not in path.parts]
        assert {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in paths} <= set(names)
    models = {f"pose/{file.name}" for file in (*PACKAGED_WEIGHTS.values(), *map(card_path, PACKAGED_WEIGHTS.values()))}
    assert {"pose/py.typed", "pose/data/README.md", "pose/default_model.pt", *models} <= set(names)
    assert not any("benchmarks/" in name for name in names)
    assert wheel.stat().st_size < 35e6


def test_installed_package_is_imported_without_the_clone(site: Path, tmp_path: Path) -> None:
    code = (
        "import pose, pose.tools, pose.config.loader as c; print(pose.__file__, *pose.tools.__path__, c.CONFIG_FOLDER)"
    )
    for path in installed_output(site, tmp_path, "-c", code).split():
        assert Path(path).is_relative_to(site)


def listed_names(output: str) -> list[str]:
    """Return the names of configs in the output of ``print-config --list``, sorted."""
    return sorted(line.split()[0] for line in output.splitlines() if line.startswith("  "))


def test_command_lists_tools_and_configs(site: Path, tmp_path: Path) -> None:
    command = str(site / "bin/dyconv-pose")
    overview = installed_output(site, tmp_path, command, "--help")
    for tool in (*(ROOT / "tools").glob("[a-z]*.py"), *(ROOT / "data").glob("[a-z]*.py")):
        assert f"  {tool.stem.replace('_', '-')} " in overview
    assert listed_names(installed_output(site, tmp_path, command, "print-config", "--list")) == packaged_names()
    config = installed_output(site, tmp_path, command, "print-config", "--cfg", "quickstart")
    assert str(site / "pose/configs/quickstart.yaml") in config


def test_command_checks_data_sets(site: Path, tmp_path: Path) -> None:
    help_text = installed_output(site, tmp_path, str(site / "bin/dyconv-pose"), "check-data", "--help")
    assert help_text.startswith("usage: dyconv-pose check-data ")


def test_benchmark_says_in_one_line_that_its_suites_come_with_a_clone(site: Path, tmp_path: Path) -> None:
    done = run_installed(site, tmp_path, str(site / "bin/dyconv-pose"), "benchmark", "latency")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: benchmark: ")
    assert "clone" in line


def test_tools_of_a_clone_run_from_any_folder(tmp_path: Path) -> None:
    script = str(ROOT / "tools/print_config.py")
    done = subprocess.run([sys.executable, script, "--list"], cwd=tmp_path, capture_output=True, text=True)
    assert listed_names(done.stdout) == packaged_names(), done.stderr
