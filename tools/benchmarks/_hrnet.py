"""Parts of HRNet's public code, to measure against, taken from a checkout that stays as it is.

That code was written for libraries of 2019 and compiles two modules that nothing measured here calls. Names that are
gone from NumPy, those modules and ``json_tricks`` are stood in for; the latter by the standard library's json, which is
faster. Nothing is installed, and afterwards no module of the checkout is found by an import.
"""

import argparse
import json
import logging
import sys
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from pose.errors import PoseError

HRNET = "HRNet's code"
PIXEL_STD = 200
"""Its scales are sides of a view over this many pixels."""
SOURCE = "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch"
PACKAGES = ("core", "dataset", "nms", "utils")
"""Folders of ``lib/`` that import each other by these names."""


def add_peer_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer``."""
    parser.add_argument(
        "--peer", type=Path, metavar="PATH", help=f"a checkout of HRNet's public code, which is run ({SOURCE})"
    )


def load_hrnet(checkout: Path, name: str) -> Any:
    """Import one module of a checkout, such as ``nms.nms``.

    Args:
        checkout: its folder, with ``lib/``; its code is run.
        name: of the module, from ``lib/`` on.

    Raises:
        PoseError: there is no such module, or it cannot be imported.
    """
    file = checkout / "lib" / (name.replace(".", "/") + ".py")
    if not file.is_file():
        raise PoseError(
            f"--peer {checkout}: expected a checkout of {SOURCE}, got no {file}; clone it, or mend the path"
        )
    stand_ins = {package: _module(package, __path__=[str(checkout / "lib" / package)]) for package in PACKAGES}
    stand_ins |= {f"nms.{kind}_nms": _module(kind, **{f"{kind}_nms": None}) for kind in ("cpu", "gpu")}
    try:
        module, brought = _import(name, stand_ins | {"json_tricks": json})
    except Exception as error:  # whatever the code of others may raise
        raise PoseError(
            f"--peer {checkout}: {file} cannot be imported ({type(error).__name__}: {error}); is it HRNet's?"
        ) from error
    for other in brought:
        logging.getLogger(other.__name__).setLevel(logging.WARNING)  # it tells what it does
        if getattr(other, "np", None) is np:
            vars(other)["np"] = _OLD_NUMPY
    return module


def hrnet_data_set(checkout: Path, root: Path, image_set: str, is_train: bool, transform: Any = None) -> Any:
    """Return its COCO data set of annotated boxes.

    Args:
        checkout: see `load_hrnet`.
        root: holds ``annotations/person_keypoints_<image_set>.json``; images are ``images/<image_set>/<id>.jpg``.
        image_set: such as ``val2017``.
        is_train: whether samples are augmented.
        transform: from its (h, w, 3) uint8 RGB crop to the model's input.

    Raises:
        PoseError: see `load_hrnet`.
    """
    data_set = load_hrnet(checkout, "dataset.coco").COCODataset
    with redirect_stdout(StringIO()):
        return data_set(hrnet_config(), str(root), image_set, is_train, transform)


def hrnet_config() -> SimpleNamespace:
    """Return what is read of its config, as its 256x192 experiments on COCO have it, with annotated boxes."""
    return SimpleNamespace(
        OUTPUT_DIR="",
        RANK=0,
        DATASET=SimpleNamespace(
            DATA_FORMAT="jpg",
            COLOR_RGB=True,
            FLIP=True,
            SCALE_FACTOR=0.35,
            ROT_FACTOR=45,
            PROB_HALF_BODY=0.3,
            NUM_JOINTS_HALF_BODY=8,
            SELECT_DATA=False,
        ),
        MODEL=SimpleNamespace(TARGET_TYPE="gaussian", IMAGE_SIZE=[192, 256], HEATMAP_SIZE=[48, 64], SIGMA=2),
        LOSS=SimpleNamespace(USE_DIFFERENT_JOINTS_WEIGHT=False),
        TEST=SimpleNamespace(
            POST_PROCESS=True,
            USE_GT_BBOX=True,
            COCO_BBOX_FILE="",
            IMAGE_THRE=0.0,
            NMS_THRE=1.0,
            OKS_THRE=0.9,
            IN_VIS_THRE=0.2,
            SOFT_NMS=False,
        ),
    )


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


_OLD_NUMPY = _module("numpy", **{**vars(np), "float": float, "int": int})


def _import(name: str, stand_ins: dict[str, ModuleType]) -> tuple[ModuleType, list[ModuleType]]:
    """Import a module that finds ``stand_ins`` and what lies in them; returns it, and all that it brought along."""
    tops = {stand_in.partition(".")[0] for stand_in in stand_ins}
    before, wrote_bytecode = _take_out(tops), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # the checkout stays as it is
    sys.modules.update(stand_ins)
    try:
        module = import_module(name)
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        brought = _take_out(tops)
        sys.modules.update(before)
    return module, list(brought.values())


def _take_out(tops: set[str]) -> dict[str, ModuleType]:
    """Let Python forget the modules of these top names."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in tops}
