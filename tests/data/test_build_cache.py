"""The command build-cache: builds a crop cache that training uses, or rejects if it is stale."""

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.tools.train import main as train

TOOL = Path(__file__).resolve().parents[2] / "data/build_cache.py"
TINY = (
    "data.synthetic.train_images=8",
    "data.synthetic.val_images=3",
    "data.synthetic.image_wh=[120,90]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.batch_size=8",
    "train.epochs=1",
    "train.workers=0",
)


@pytest.fixture(autouse=True)
def _restore_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    return ("--cfg", "quickstart", "data.root=people", "data.crop_cache=train.crops", *TINY)


def build(*arguments: str) -> None:
    tool = runpy.run_path(str(TOOL))
    tool["run"](tool["main"], list(arguments))


def test_the_cache_is_built_once_and_its_size_is_printed(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    build(*arguments)
    first = capsys.readouterr().out
    build(*arguments)

    content = json.loads(Path("people/annotations/person_keypoints_train.json").read_bytes())
    persons = sum(one["num_keypoints"] > 0 and not one["iscrowd"] for one in content["annotations"])
    assert first.startswith(f"people/train.crops: {persons} persons, 0.00 GB, ")
    assert first.endswith(" KB each\n")
    assert capsys.readouterr().out == first.replace("\n", "; was up to date\n")


def test_training_reads_the_cache_and_no_images(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from pose.datasets import samples

    build(*arguments)
    calls = []
    monkeypatch.setattr(samples, "read_crop", lambda *arguments: calls.append(arguments))

    run(train, [*arguments[:2], "--device", "cpu", "--run-dir", "run", *arguments[2:]])

    assert not calls
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["train", "epoch", "validation"]
    assert f"crops of {Path('people/train.crops')}" in Path("run/train.log").read_text()


def test_the_error_of_a_missing_cache_names_the_build_command(
    arguments: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    line = refusal(lambda: run(train, [*arguments[:2], "--device", "cpu", *arguments[2:]]))

    assert "people/train.crops: no such crop cache; build it with dyconv-pose build-cache" in line


def test_training_rejects_a_cache_of_other_options(arguments: tuple[str, ...], refusal: Callable[..., str]) -> None:
    build(*arguments)

    line = refusal(
        lambda: run(train, [*arguments[:2], "--device", "cpu", *arguments[2:], "augment.rotation_limit_deg=30"])
    )

    assert "stale crop cache: augment.rotation_limit_deg was 20.0 and is 30.0; build it with" in line
    assert not list(Path("runs").rglob("*.pt"))


def test_a_config_without_crop_cache_is_rejected(arguments: tuple[str, ...], refusal: Callable[..., str]) -> None:
    line = refusal(lambda: build(*arguments, "data.crop_cache=null"))

    assert "data.crop_cache=train.crops" in line


def test_a_cache_can_be_outside_the_data_set_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    build(*arguments, f"data.crop_cache={tmp_path}/fast/quick.crops")

    assert (tmp_path / "fast/quick.crops").stat().st_size > 1000
    assert not Path("people/train.crops").exists()


def test_a_synthetic_data_set_with_a_crop_cache_is_replaced(arguments: tuple[str, ...]) -> None:
    build(*arguments)
    other_seed = (*arguments, "data.synthetic.seed=5")

    build(*other_seed)
    build(*other_seed)

    assert Path("people/train.crops").exists()
