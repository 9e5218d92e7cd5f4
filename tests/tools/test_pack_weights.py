"""tools/pack_weights.py: a packed file predicts like the trained model and contains nothing else."""

from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.config.pose import Config
from pose.models import build_pose_net
from pose.models.weights import load_pose_net, write_weights
from pose.tools.pack_weights import main

CONFIG = Config.model_validate(
    {
        "model": {"width": 0.35, "depth": 0.4, "head_width": 0.25, "dynamic_backbone": True},
        "input": {"size_hw": [64, 64]},
        "data": {"root": "/somewhere/private"},
        "train": {"start": "/somewhere/else.pt", "teacher": "/somewhere/teacher.onnx", "ema_decay": 0.5},
    }
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The checkpoint of a run with a moving average that differs from the last weights."""
    last, average = build_pose_net(CONFIG), build_pose_net(CONFIG)
    path = tmp_path / "best.pt"
    content = {"model": last.state_dict(), "ema": average.state_dict(), "optimizer": {"state": torch.zeros(1000)}}
    write_weights({**content, "config": CONFIG.model_dump(mode="json")}, path)
    return path


def pack(*arguments: object) -> int:
    """Run the tool and return its exit status."""
    try:
        run(main, [str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def test_packed_model_predicts_like_the_moving_average_within_half_precision(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed.pt"
    pack("--weights", checkpoint, "--output", output)

    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    original, packed = (load_pose_net(path)[0] for path in (checkpoint, output))
    with torch.no_grad():
        expected, heatmaps = original.heatmaps(inputs), packed.heatmaps(inputs)
    assert (heatmaps - expected).abs().max() < 0.01 * expected.abs().max()
    assert not torch.equal(heatmaps, expected), "nothing was rounded, so nothing is in half precision"
    assert all(value.dtype == torch.float32 for value in packed.parameters())


def test_packed_file_is_small_and_has_no_paths(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed.pt"
    pack("--weights", checkpoint, "--output", output)

    content = torch.load(output, weights_only=True)
    assert content.keys() == {"model", "config"}
    assert "somewhere" not in str(content["config"])
    weights = sum(value.numel() for value in build_pose_net(CONFIG).state_dict().values())
    assert output.stat().st_size < 2.3 * weights + 200_000


def test_several_files_are_averaged(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    other = {name: value + 2 if value.is_floating_point() else value for name, value in content["ema"].items()}
    write_weights({**content, "ema": other}, tmp_path / "other.pt")

    pack("--weights", checkpoint, tmp_path / "other.pt", "--output", tmp_path / "mean.pt")

    averaged = torch.load(tmp_path / "mean.pt", weights_only=True)["model"]
    for name, value in content["ema"].items():
        if value.is_floating_point():
            torch.testing.assert_close(averaged[name].float(), value + 1, rtol=1e-3, atol=1e-3)


def test_existing_file_is_not_overwritten(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = checkpoint.read_bytes()

    assert pack("--weights", checkpoint, "--output", checkpoint) == 2
    assert "is an input of the same command" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_missing_weight_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack("--weights", tmp_path / "none.pt", "--output", tmp_path / "out.pt") == 2
    assert "none.pt" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()
