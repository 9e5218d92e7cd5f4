"""Loading HRNet's code: everything it misses is stood in for, and nothing of that stays behind."""

import sys
from types import ModuleType

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks._hrnet import PACKAGES, hrnet_data_set, load_hrnet


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def theirs():
    return [name for name in sys.modules if name.partition(".")[0] in (*PACKAGES, "json_tricks")]


def test_modules_are_loaded_that_import_each_other_and_what_is_missing(checkout):
    assert load_hrnet(checkout.path, "core.inference").to_image
    assert load_hrnet(checkout.path, "nms.nms").cpu_nms is None
    assert load_hrnet(checkout.path, "dataset.coco").COCODataset


def test_names_that_numpy_has_dropped_are_there_for_that_code_only(checkout):
    coco = load_hrnet(checkout.path, "dataset.coco")

    for module in (coco, sys.modules[__name__]):
        assert module.np.ndarray is np.ndarray
    assert (coco.np.float, coco.np.int) == (float, int)
    assert coco.oks_nms.__globals__["np"].int is int
    assert not hasattr(np, "float")
    assert not hasattr(np, "int")


def test_neither_the_checkout_nor_what_can_be_imported_has_changed(checkout, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before, path = files(checkout.path), list(sys.path)

    load_hrnet(checkout.path, "dataset.coco")

    assert files(checkout.path) == before
    assert (sys.path, sys.dont_write_bytecode) == (path, False)
    assert theirs() == []


def test_modules_of_the_same_names_are_put_back(checkout, monkeypatch):
    others = {"utils": ModuleType("utils"), "utils.transforms": ModuleType("utils.transforms")}
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, name, module)

    assert load_hrnet(checkout.path, "core.inference").to_image

    assert {name: sys.modules[name] for name in theirs()} == others


def test_every_load_is_a_fresh_one(checkout):
    first = load_hrnet(checkout.path, "nms.nms")
    checkout.edit("nms/nms.py", "return list(", "return 2 * list(")

    assert load_hrnet(checkout.path, "nms.nms") is not first


def test_a_data_set_is_made_in_silence(checkout, tiny_coco, tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    tiny_coco.annotations.rename(tmp_path / "annotations/person_keypoints_val2017.json")

    data_set = hrnet_data_set(checkout.path, tmp_path, "val2017", is_train=True)

    assert len(data_set) == 5
    assert data_set.is_train
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["", "lib"])
def test_a_folder_that_is_no_checkout_is_named(checkout, place, tmp_path):
    wrong = (checkout.path / place) if place else tmp_path / "none"

    with pytest.raises(PoseError, match=rf"^--peer {wrong}: expected a checkout of https://\S+, got no \S+nms\.py"):
        load_hrnet(wrong, "nms.nms")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import yet_another_package", "ModuleNotFoundError"),
        ("print 'Python 2'", "SyntaxError"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_code_that_cannot_be_imported_is_one_line_and_leaves_nothing(checkout, code, reason, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    checkout.edit("utils/transforms.py", "from pose.geometry", f"{code}\nfrom pose.geometry")

    with pytest.raises(PoseError, match=rf"inference\.py cannot be imported \({reason}"):
        load_hrnet(checkout.path, "core.inference")
    assert theirs() == []
    assert not sys.dont_write_bytecode
