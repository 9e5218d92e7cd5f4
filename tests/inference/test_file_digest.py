"""One changed bit anywhere in an exported file is refused; files of other programs have no checksum."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError
from pose.export.write import build_onnx, write_export
from pose.inference.exported import ExportedPredictor
from pose.inference.file_digest import has_digest, verify_digest, with_digest
from pose.inference.metadata import ExportMetadata
from pose.models import build_pose_net

CONFIG = Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25), input=InputConfig(size_hw=(64, 64)))
METADATA = ExportMetadata(CONFIG.input, CONFIG.keypoints, None, "of the test")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_pose_net(CONFIG).eval()


@pytest.fixture
def exported(suffix: str, model: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / f"model{suffix}"
    with write_export(path, build_onnx(path, model, METADATA, decodes=False), METADATA):
        pass
    return path


def flips(length: int) -> Iterator[tuple[int, int]]:
    """Yield bytes and bits: some anywhere, and all bytes of the checksum."""
    rng = np.random.default_rng(0)
    for position in [*rng.integers(0, length, 20).tolist(), *range(length - 90, length)]:
        yield position, int(rng.integers(8))


def test_every_changed_bit_is_refused(exported: Path) -> None:
    content = exported.read_bytes()
    assert has_digest(exported)
    for position, bit in flips(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        exported.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            ExportedPredictor(exported, threads=1)
        assert str(exported) in str(caught.value)
    exported.write_bytes(content)
    assert ExportedPredictor(exported, threads=1).metadata == METADATA


def test_the_checksum_is_an_entry_of_the_onnx_metadata(exported: Path) -> None:
    if exported.suffix == ".xml":
        pytest.skip("of .onnx files")
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    assert len({entry.key: entry.value for entry in model.metadata_props}["sha256"]) == 64


def test_files_of_other_programs_have_none(tmp_path: Path) -> None:
    for name, content in (("a.onnx", b""), ("b.xml", b"<net/>"), ("c.onnx", bytes(1000)), ("d.pt", bytes(1000))):
        (tmp_path / name).write_bytes(content)
        assert not has_digest(tmp_path / name)
        verify_digest(tmp_path / name)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_checksum_is_that_of_the_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(with_digest(b"content", suffix))
    verify_digest(path)
    path.write_bytes(with_digest(b"content", suffix).replace(b"content", b"contend"))
    with pytest.raises(CheckpointError, match="damaged"):
        verify_digest(path)


def test_weights_that_are_not_finite_are_not_exported(suffix: str, model: torch.nn.Module, tmp_path: Path) -> None:
    import copy

    broken = copy.deepcopy(model)
    with torch.no_grad():
        next(broken.parameters()).flatten()[3] = float("nan")
    with pytest.raises(CheckpointError, match=r"export: NaN or infinite values in weight 'backbone.*'; export another"):
        build_onnx(tmp_path / f"m{suffix}", broken, METADATA, decodes=False)


def test_a_file_whose_heatmaps_are_not_finite_is_refused(
    suffix: str, model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copy

    from pose.export import write

    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.head[-1].bias.fill_(float("inf"))
    monkeypatch.setattr(write, "require_finite", lambda model: None)
    path = tmp_path / f"model{suffix}"
    with write_export(path, build_onnx(path, broken, METADATA, decodes=False), METADATA):
        pass
    with pytest.raises(CheckpointError, match="not finite"):
        ExportedPredictor(path, threads=1)
