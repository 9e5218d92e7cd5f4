"""The command hold-out: splits a file in two by image id and seed, and does not change the input file."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "data/hold_out.py"
SHARED = Path(__file__).resolve().parents[2] / "../shared/data/coco_person_small/annotations"

Content = dict[str, Any]


def content(image_ids: range | list[int], persons: int = 2) -> Content:
    """Images with ``persons`` persons each, and keys that the package does not use."""
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
    """Input and output files of the command."""

    def __init__(self, path: Path) -> None:
        self.people, self.kept, self.held_out = (path / name for name in ("people.json", "out/a.json", "out/b.json"))

    def write(self, annotations: Content) -> None:
        self.people.write_text(json.dumps(annotations), encoding="utf-8")

    def run(self, *arguments: str) -> int | str | None:
        """Run the command and return its exit status."""
        tool = runpy.run_path(str(TOOL))
        files = ["--annotations", str(self.people), "--kept", str(self.kept), "--held-out", str(self.held_out)]
        try:
            tool["run"](tool["main"], [*files, *arguments])
        except SystemExit as end:
            return end.code
        return 0

    def held_out_ids(self, *arguments: str) -> set[int]:
        """Run the command again and return the ids of the held-out images."""
        for file in (self.kept, self.held_out):
            file.unlink(missing_ok=True)
        assert self.run(*arguments) == 0
        return {image["id"] for image in read(self.held_out)["images"]}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.write(content(range(1, 201)))
    return folder


def read(path: Path) -> Content:
    annotations: Content = json.loads(path.read_bytes())
    return annotations


def by_id(records: list[Content]) -> list[Content]:
    return sorted(records, key=lambda record: record["id"])


def test_images_and_annotations_are_split_and_other_keys_kept(folder: Folder) -> None:
    original, before = read(folder.people), folder.people.read_bytes()

    assert folder.run("--fraction", "0.3") == 0

    kept, held_out = read(folder.kept), read(folder.held_out)
    for name in ("images", "annotations"):
        assert by_id(kept[name] + held_out[name]) == by_id(original[name])
        assert kept[name] == [record for record in original[name] if record in kept[name]]  # order is kept
    for part in (kept, held_out):
        image_ids = {image["id"] for image in part["images"]}
        assert {one["image_id"] for one in part["annotations"]} == image_ids  # all persons of an image are in one part
        assert {name: part[name] for name in part if name not in ("images", "annotations")} == {
            name: original[name] for name in ("info", "licenses", "categories")
        }
    assert folder.people.read_bytes() == before


def test_about_the_given_fraction_of_images_is_held_out(folder: Folder) -> None:
    folder.write(content(range(2000), persons=1))

    for fraction in (0.05, 0.3, 0.9):
        count = len(folder.held_out_ids("--fraction", str(fraction)))
        deviation = (2000 * fraction * (1 - fraction)) ** 0.5
        assert abs(count - 2000 * fraction) < 4 * deviation


def test_the_sizes_of_both_files_are_printed(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(folder.held_out_ids("--fraction", "0.3"))

    assert capsys.readouterr().out == (
        f"{folder.kept}: {200 - count} images, {2 * (200 - count)} annotations\n"
        f"{folder.held_out}: {count} images, {2 * count} annotations\n"
    )


def test_the_split_depends_only_on_ids_and_seed(folder: Folder) -> None:
    first = folder.held_out_ids("--fraction", "0.3")
    other_order = content(range(200, 0, -1), persons=1)
    for image in other_order["images"]:
        image["file_name"] = "moved/" + image["file_name"]
    folder.write(other_order)
    assert folder.held_out_ids("--fraction", "0.3") == first
    assert folder.held_out_ids("--fraction", "0.3", "--seed", "0") == first
    assert folder.held_out_ids("--fraction", "0.3", "--seed", "1") != first


def test_added_images_do_not_change_the_split_of_the_others(folder: Folder) -> None:
    first = folder.held_out_ids("--fraction", "0.3")
    folder.write(content(range(-50, 400)))

    assert {image_id for image_id in folder.held_out_ids("--fraction", "0.3") if 1 <= image_id <= 200} == first


def test_a_larger_fraction_holds_out_a_superset(folder: Folder) -> None:
    assert folder.held_out_ids("--fraction", "0.2") < folder.held_out_ids("--fraction", "0.5")


def test_the_split_is_the_same_on_every_machine(folder: Folder) -> None:
    """Expected values were recorded once: another split would train on images that earlier settings were chosen on."""
    folder.write(content(range(1, 31)))

    assert folder.held_out_ids("--fraction", "0.25") == {7, 15, 18, 20, 25}


def assert_rejected(folder: Folder, capsys: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> None:
    before = {file: file.read_bytes() for file in folder.people.parent.rglob("*.json")}
    assert folder.run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error
    assert {file: file.read_bytes() for file in folder.people.parent.rglob("*.json")} == before  # nothing was written


@pytest.mark.parametrize("fraction", ["0", "1", "-0.1", "5", "nan", "inf"])
def test_an_invalid_fraction_is_rejected(fraction: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert_rejected(folder, capsys, [f"--fraction={fraction}"], "--fraction", "between 0 and 1")


@pytest.mark.parametrize("option", ["kept", "held_out"])
def test_an_existing_file_is_not_overwritten(option: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    file: Path = getattr(folder, option)
    file.parent.mkdir()
    file.write_text("precious", encoding="utf-8")

    assert_rejected(folder, capsys, [], str(file), "exists")


def test_the_input_file_is_not_overwritten(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.kept = folder.people

    assert_rejected(folder, capsys, [], str(folder.people), "is an input")


def test_the_same_file_for_both_parts_is_rejected(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.held_out = folder.kept.parent / ".." / "out" / "a.json"

    assert_rejected(folder, capsys, [], "is another output")


def test_a_full_disk_leaves_neither_part(folder: Folder) -> None:
    """The second part does not fit; the first one alone would look like a complete split."""
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    folder.write(content(range(1, 31)))
    files = ["--annotations", folder.people, "--kept", folder.kept, "--held-out", folder.held_out, "--fraction", "0.8"]
    done = subprocess.run([sys.executable, "-Bc", code, TOOL, *files], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder.held_out}: cannot write it (File too large)")
    assert done.stderr.count("\n") == 1
    assert not folder.kept.exists()
    assert not folder.held_out.exists()


def test_a_part_without_annotations_is_rejected_before_writing(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_rejected(folder, capsys, ["--fraction", "0.000001"], str(folder.held_out), "no annotations", "--fraction")
    assert_rejected(folder, capsys, ["--fraction", "0.999999"], str(folder.kept), "no annotations", "--fraction")


def test_an_image_info_file_is_rejected(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    info = content(range(10))
    del info["annotations"]
    folder.write(info)

    assert_rejected(folder, capsys, [], "no annotations")


def test_files_without_annotations_are_rejected(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.people.write_text("[]", encoding="utf-8")
    assert_rejected(folder, capsys, [], str(folder.people), "expected COCO keypoint annotations")
    folder.people.unlink()
    assert_rejected(folder, capsys, [], str(folder.people), "no such file")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/coco_person_small")
def test_a_data_set_of_real_people_is_split(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.people = SHARED / "person_keypoints_val.json"

    assert folder.run("--fraction", "0.2") == 0

    original, kept, held_out = (read(file) for file in (folder.people, folder.kept, folder.held_out))
    assert len(kept["images"]) + len(held_out["images"]) == len(original["images"]) == 224
    assert by_id(kept["annotations"] + held_out["annotations"]) == by_id(original["annotations"])
    assert 20 < len(held_out["images"]) < 70
