"""Importing HRNet's code: missing dependencies are stubs, and no module remains afterwards."""

import re
import sys
from types import ModuleType

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks._hrnet import PACKAGES, hrnet_dataset, load_hrnet


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def checkout_modules():
    return [name for name in sys.modules if name.partition(".")[0] in (*PACKAGES, "json_tricks")]


def test_modules_load_with_their_imports_and_stubs(checkout):
    assert load_hrnet(checkout.path, "core.inference").to_image
    assert load_hrnet(checkout.path, "nms.nms").cpu_nms is None
    assert load_hrnet(checkout.path, "dataset.coco").COCODataset


def test_removed_numpy_aliases_exist_only_for_the_checkout(checkout):
    coco = load_hrnet(checkout.path, "dataset.coco")

    for module in (coco, sys.modules[__name__]):
        assert module.np.ndarray is np.ndarray
    assert (coco.np.float, coco.np.int) == (float, int)
    assert coco.oks_nms.__globals__["np"].int is int
    assert not hasattr(np, "float")
    assert not hasattr(np, "int")


def test_loading_changes_neither_the_checkout_nor_the_import_state(checkout, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before, path = files(checkout.path), list(sys.path)

    load_hrnet(checkout.path, "dataset.coco")

    assert files(checkout.path) == before
    assert (sys.path, sys.dont_write_bytecode) == (path, False)
    assert checkout_modules() == []


def test_modules_with_the_same_names_are_restored(checkout, monkeypatch):
    others = {"utils": ModuleType("utils"), "utils.transforms": ModuleType("utils.transforms")}
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, name, module)

    assert load_hrnet(checkout.path, "core.inference").to_image

    assert {name: sys.modules[name] for name in checkout_modules()} == others


def test_every_load_imports_the_module_anew(checkout):
    first = load_hrnet(checkout.path, "nms.nms")
    checkout.edit("nms/nms.py", "return list(", "return 2 * list(")

    assert load_hrnet(checkout.path, "nms.nms") is not first


def test_creating_a_dataset_prints_nothing(checkout, tiny_coco, tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    tiny_coco.annotations.rename(tmp_path / "annotations/person_keypoints_val2017.json")

    dataset = hrnet_dataset(checkout.path, tmp_path, "val2017", is_train=True)

    assert len(dataset) == 5
    assert dataset.is_train
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("subfolder", ["", "lib"])
def test_a_folder_that_is_not_a_checkout_is_an_error(checkout, subfolder, tmp_path):
    wrong = (checkout.path / subfolder) if subfolder else tmp_path / "none"

    with pytest.raises(PoseError) as caught:
        load_hrnet(wrong, "nms.nms")

    expected = rf"^--peer {wrong}: expected a checkout of https://\S+, got no \S+nms\.py"
    assert re.match(expected, caught.value.args[0])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import yet_another_package", "ModuleNotFoundError"),
        ("print 'Python 2'", "SyntaxError"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_an_import_error_is_one_line_and_leaves_no_modules(checkout, code, reason, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    checkout.edit("utils/transforms.py", "from pose.geometry", f"{code}\nfrom pose.geometry")

    with pytest.raises(PoseError, match=rf"inference\.py cannot be imported \({reason}"):
        load_hrnet(checkout.path, "core.inference")
    assert checkout_modules() == []
    assert not sys.dont_write_bytecode
