"""The crop cache through the command line: built with the words that train, used by training, refused when stale."""

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
def _own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    return ("--cfg", "quickstart", "data.root=people", "data.crop_cache=train.crops", *TINY)


def build(*words: str) -> None:
    tool = runpy.run_path(str(TOOL))
    tool["run"](tool["main"], list(words))


def test_it_is_built_once_and_says_what_it_costs(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    build(*words)
    first = capsys.readouterr().out
    build(*words)

    content = json.loads(Path("people/annotations/person_keypoints_train.json").read_bytes())
    persons = sum(one["num_keypoints"] > 0 and not one["iscrowd"] for one in content["annotations"])
    assert first.startswith(f"people/train.crops: {persons} persons, 0.00 GB, ")
    assert first.endswith(" KB each\n")
    assert capsys.readouterr().out == first.replace("\n", "; was up to date\n")


def test_training_reads_crops_and_no_image(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from pose.datasets import samples

    build(*words)
    asked = []
    monkeypatch.setattr(samples, "read_crop", lambda *given: asked.append(given))

    run(train, [*words[:2], "--device", "cpu", "--run-dir", "run", *words[2:]])

    assert not asked
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["train", "validation"]
    assert f"crops of {Path('people/train.crops')}" in Path("run/train.log").read_text()


def test_training_without_its_cache_says_how_to_build_it(words: tuple[str, ...], refusal: Callable[..., str]) -> None:
    line = refusal(lambda: run(train, [*words[:2], "--device", "cpu", *words[2:]]))

    assert "people/train.crops: no such crop cache; build it with data/build_cache.py" in line


def test_training_refuses_a_cache_of_other_options(words: tuple[str, ...], refusal: Callable[..., str]) -> None:
    build(*words)

    line = refusal(lambda: run(train, [*words[:2], "--device", "cpu", *words[2:], "augment.rotation_limit_deg=30"]))

    assert "stale crop cache: augment.rotation_limit_deg was 20.0 and is 30.0; build it with" in line
    assert not list(Path("runs").rglob("*.pt"))


def test_a_cache_without_a_name_is_asked_for_one(words: tuple[str, ...], refusal: Callable[..., str]) -> None:
    line = refusal(lambda: build(*words, "data.crop_cache=null"))

    assert "data.crop_cache=train.crops" in line


def test_a_cache_can_lie_anywhere(words: tuple[str, ...], tmp_path: Path) -> None:
    build(*words, f"data.crop_cache={tmp_path}/fast/quick.crops")

    assert (tmp_path / "fast/quick.crops").stat().st_size > 1000
    assert not Path("people/train.crops").exists()


def test_the_embedded_images_are_drawn_again_beside_a_cache_of_others(words: tuple[str, ...]) -> None:
    build(*words)
    drawn_otherwise = (*words, "data.synthetic.seed=5")

    build(*drawn_otherwise)
    build(*drawn_otherwise)

    assert Path("people/train.crops").exists()
