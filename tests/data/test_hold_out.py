"""Holding out: two files that part one, by nothing but ids and seed, and the one that is read stays as it was."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "data/hold_out.py"
SHARED = Path(__file__).resolve().parents[2] / "../shared/data/coco_person_small/annotations"

Content = dict[str, Any]


def content(image_ids: range | list[int], persons: int = 2) -> Content:
    """Images with ``persons`` persons each, and keys that the project does not read."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48, "flickr_url": "x"} for i in image_ids]
    annotations = [
        {
            "id": 10 * image["id"] + person,
            "image_id": image["id"],
            "category_id": 1,
            "bbox": [1, 2, 30, 40],
            "keypoints": [5, 6, 2] * 17,
            "segmentation": {"counts": "abc"},
        }
        for image in images
        for person in range(persons)
    ]
    return {
        "info": {"year": 2026},
        "licenses": [{"id": 3}],
        "images": images,
        "annotations": annotations[::-1],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose"] * 17}],
    }


class Folder:
    """Where the tool reads one file and writes two."""

    def __init__(self, path: Path) -> None:
        self.people, self.kept, self.held_out = (path / name for name in ("people.json", "out/a.json", "out/b.json"))

    def write(self, made: Content) -> None:
        self.people.write_text(json.dumps(made), encoding="utf-8")

    def run(self, *words: str) -> int | str | None:
        """Call the tool as the command line does, and return its exit status."""
        tool = runpy.run_path(str(TOOL))
        files = ["--annotations", str(self.people), "--kept", str(self.kept), "--held-out", str(self.held_out)]
        try:
            tool["run"](tool["main"], [*files, *words])
        except SystemExit as end:
            return end.code
        return 0

    def held_out_ids(self, *words: str) -> set[int]:
        """Run the tool anew."""
        for file in (self.kept, self.held_out):
            file.unlink(missing_ok=True)
        assert self.run(*words) == 0
        return {image["id"] for image in read(self.held_out)["images"]}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write(content(range(1, 201)))
    return made


def read(path: Path) -> Content:
    found: Content = json.loads(path.read_bytes())
    return found


def by_id(records: list[Content]) -> list[Content]:
    return sorted(records, key=lambda record: record["id"])


def test_the_two_files_part_images_and_annotations_and_keep_the_rest(folder: Folder) -> None:
    whole, before = read(folder.people), folder.people.read_bytes()

    assert folder.run("--fraction", "0.3") == 0

    kept, held_out = read(folder.kept), read(folder.held_out)
    for name in ("images", "annotations"):
        assert by_id(kept[name] + held_out[name]) == by_id(whole[name])
        assert kept[name] == [record for record in whole[name] if record in kept[name]]  # in their order
    for part in (kept, held_out):
        pictures = {image["id"] for image in part["images"]}
        assert {one["image_id"] for one in part["annotations"]} == pictures  # whole images with all their persons
        assert {name: part[name] for name in part if name not in ("images", "annotations")} == {
            name: whole[name] for name in ("info", "licenses", "categories")
        }
    assert folder.people.read_bytes() == before


def test_the_share_is_about_the_fraction(folder: Folder) -> None:
    folder.write(content(range(2000), persons=1))

    for fraction in (0.05, 0.3, 0.9):
        count = len(folder.held_out_ids("--fraction", str(fraction)))
        deviation = (2000 * fraction * (1 - fraction)) ** 0.5
        assert abs(count - 2000 * fraction) < 4 * deviation


def test_what_is_written_is_said(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(folder.held_out_ids("--fraction", "0.3"))

    assert capsys.readouterr().out == (
        f"{folder.kept}: {200 - count} images, {2 * (200 - count)} annotations\n"
        f"{folder.held_out}: {count} images, {2 * count} annotations\n"
    )


def test_ids_and_seed_alone_decide(folder: Folder) -> None:
    first = folder.held_out_ids("--fraction", "0.3")
    other_order = content(range(200, 0, -1), persons=1)
    for image in other_order["images"]:
        image["file_name"] = "moved/" + image["file_name"]
    folder.write(other_order)
    assert folder.held_out_ids("--fraction", "0.3") == first
    assert folder.held_out_ids("--fraction", "0.3", "--seed", "0") == first
    assert folder.held_out_ids("--fraction", "0.3", "--seed", "1") != first


def test_images_added_later_do_not_move_the_others(folder: Folder) -> None:
    first = folder.held_out_ids("--fraction", "0.3")
    folder.write(content(range(-50, 400)))

    assert {number for number in folder.held_out_ids("--fraction", "0.3") if 1 <= number <= 200} == first


def test_a_larger_fraction_holds_out_the_same_images_and_more(folder: Folder) -> None:
    assert folder.held_out_ids("--fraction", "0.2") < folder.held_out_ids("--fraction", "0.5")


def test_the_choice_is_the_same_on_every_machine(folder: Folder) -> None:
    """Measured once: with another choice an old run's settings were chosen by images that a new one is fitted to."""
    folder.write(content(range(1, 31)))

    assert folder.held_out_ids("--fraction", "0.25") == {7, 15, 18, 20, 25}


def refused(folder: Folder, capsys: pytest.CaptureFixture[str], words: list[str], *parts: str) -> None:
    before = {file: file.read_bytes() for file in folder.people.parent.rglob("*.json")}
    assert folder.run(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error
    assert {file: file.read_bytes() for file in folder.people.parent.rglob("*.json")} == before  # nothing was written


@pytest.mark.parametrize("fraction", ["0", "1", "-0.1", "5", "nan", "inf"])
def test_a_fraction_that_is_none_is_refused(fraction: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    refused(folder, capsys, [f"--fraction={fraction}"], "--fraction", "between 0 and 1")


@pytest.mark.parametrize("which", ["kept", "held_out"])
def test_a_file_that_exists_is_not_written_over(which: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    file: Path = getattr(folder, which)
    file.parent.mkdir()
    file.write_text("precious", encoding="utf-8")

    refused(folder, capsys, [], str(file), "exists")


def test_the_file_that_is_read_is_not_written_over(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.kept = folder.people

    refused(folder, capsys, [], str(folder.people), "exists")


def test_one_name_for_both_parts_is_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.held_out = folder.kept.parent / ".." / "out" / "a.json"

    refused(folder, capsys, [], "the same file")


def test_a_part_without_annotations_is_refused_before_anything_is_written(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(folder, capsys, ["--fraction", "0.000001"], str(folder.held_out), "no annotations", "--fraction")
    refused(folder, capsys, ["--fraction", "0.999999"], str(folder.kept), "no annotations", "--fraction")


def test_a_test_sets_image_info_has_nothing_to_hold_out(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    info = content(range(10))
    del info["annotations"]
    folder.write(info)

    refused(folder, capsys, [], "no annotations")


def test_what_are_no_annotations_is_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.people.write_text("[]", encoding="utf-8")
    refused(folder, capsys, [], str(folder.people), "expected COCO annotations")
    folder.people.unlink()
    refused(folder, capsys, [], str(folder.people), "no such file")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/coco_person_small")
def test_real_people_are_parted(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.people = SHARED / "person_keypoints_val.json"

    assert folder.run("--fraction", "0.2") == 0

    whole, kept, held_out = (read(file) for file in (folder.people, folder.kept, folder.held_out))
    assert len(kept["images"]) + len(held_out["images"]) == len(whole["images"]) == 224
    assert by_id(kept["annotations"] + held_out["annotations"]) == by_id(whole["annotations"])
    assert 20 < len(held_out["images"]) < 70
