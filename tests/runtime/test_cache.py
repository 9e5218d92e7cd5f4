"""Names of cache entries, the cache folder, and what is removed from it."""

import os
import sys
import time
from pathlib import Path

import pytest

from pose.runtime import cache
from pose.runtime.cache import cache_folder, entry_name, prune


def test_the_folder_is_the_one_of_the_variable_else_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DYCONV_POSE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DYCONV_POSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "dyconv-pose"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "dyconv-pose"


def test_without_a_home_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("DYCONV_POSE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None


def test_other_weights_versions_or_sources_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {entry_name("a", "onnxruntime", False, "best")}
    assert names == {entry_name("a", "onnxruntime", False, "best")}
    names.add(entry_name("b", "onnxruntime", False, "best"))
    names.add(entry_name("a", "openvino", False, "best"))
    names.add(entry_name("a", "onnxruntime", True, "best"))
    for package in ("torch", "onnx", "onnxruntime"):
        monkeypatch.setattr(cache, "_version", lambda name, changed=package: "9" if name == changed else "1")
        names.add(entry_name("a", "onnxruntime", False, "best"))
    monkeypatch.setattr(cache, "_source_digest", lambda: "changed")
    names.add(entry_name("a", "onnxruntime", False, "best"))
    assert len(names) == 8


def test_prune_keeps_the_entries_used_last_and_the_files_of_others(tmp_path: Path) -> None:
    def touch(name: str, age_s: float) -> Path:
        path = tmp_path / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    key = "0123456789abcdef01234567"
    old = [touch(f"old-{key}-dynamic{suffix}", 900) for suffix in (".xml", ".bin")]
    kept = [touch(f"new-{key}-static.onnx", 100), touch(f"newer-{key}-dynamic.xml", 50)]
    kept += [touch(f"newer-{key}-dynamic.bin", 50), touch("model.onnx", 10_000), touch("notes.bin", 10_000)]
    killed = touch(f".new-{key}-static.77.partial.onnx", 7200)
    kept.append(touch(f".new-{key}-static.78.partial.onnx", 5))

    prune(tmp_path, max_entries=2)

    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert not killed.exists()
    assert not any(path.exists() for path in old)
