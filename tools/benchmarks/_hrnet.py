"""Parts of HRNet's public code as the baseline, imported from an unmodified checkout.

The code was written for libraries of 2019 and compiles two extension modules that are not used here. Aliases removed
from NumPy, those modules and ``json_tricks`` are replaced by stubs; the stub for the latter is the standard library's
json, which is faster. Nothing is installed, and the modules of the checkout cannot be imported afterwards.
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
"""Its name in the rows."""
PIXEL_STD = 200
"""Its scales are the width and height of a view divided by this number of pixels."""
SOURCE = "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch"
PACKAGES = ("core", "dataset", "nms", "utils")
"""Folders of ``lib/``, which import each other by these names."""


def add_peer_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer``."""
    parser.add_argument(
        "--peer", type=Path, metavar="PATH", help=f"checkout of HRNet's public code, which is run ({SOURCE})"
    )


def load_hrnet(checkout: Path, name: str) -> Any:
    """Import one module of a checkout, such as ``nms.nms``.

    Args:
        checkout: folder that contains ``lib/``; its code is run.
        name: of the module, relative to ``lib/``.

    Raises:
        PoseError: the module does not exist or cannot be imported.
    """
    file = checkout / "lib" / (name.replace(".", "/") + ".py")
    if not file.is_file():
        raise PoseError(
            f"--peer {checkout}: expected a checkout of {SOURCE}, got no {file}; clone it or correct the path"
        )
    stubs = {package: _module(package, __path__=[str(checkout / "lib" / package)]) for package in PACKAGES}
    stubs |= {f"nms.{kind}_nms": _module(kind, **{f"{kind}_nms": None}) for kind in ("cpu", "gpu")}
    try:
        module, imported = _import(name, stubs | {"json_tricks": json})
    except Exception as error:  # external code may raise anything
        raise PoseError(
            f"--peer {checkout}: {file} cannot be imported ({type(error).__name__}: {error}); is it HRNet's code?"
        ) from error
    for other in imported:
        logging.getLogger(other.__name__).setLevel(logging.WARNING)  # silence its progress messages
        if getattr(other, "np", None) is np:
            vars(other)["np"] = _OLD_NUMPY
    return module


def hrnet_dataset(checkout: Path, root: Path, image_set: str, is_train: bool, transform: Any = None) -> Any:
    """Return HRNet's COCO dataset of annotated boxes.

    Args:
        checkout: see `load_hrnet`.
        root: contains ``annotations/person_keypoints_<image_set>.json``; images are ``images/<image_set>/<id>.jpg``.
        image_set: such as ``val2017``.
        is_train: whether samples are augmented.
        transform: maps the (h, w, 3) uint8 RGB crop to the model input.

    Raises:
        PoseError: see `load_hrnet`.
    """
    dataset_class = load_hrnet(checkout, "dataset.coco").COCODataset
    with redirect_stdout(StringIO()):
        return dataset_class(hrnet_config(), str(root), image_set, is_train, transform)


def hrnet_config() -> SimpleNamespace:
    """Return the config values that its code reads, as in its 256x192 COCO experiments with annotated boxes."""
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


def _import(name: str, stubs: dict[str, ModuleType]) -> tuple[ModuleType, list[ModuleType]]:
    """Import a module with ``stubs`` in ``sys.modules``; returns it and all modules of these packages."""
    packages = {stub.partition(".")[0] for stub in stubs}
    before, wrote_bytecode = _pop_modules(packages), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # do not write into the checkout
    sys.modules.update(stubs)
    try:
        module = import_module(name)
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        imported = _pop_modules(packages)
        sys.modules.update(before)
    return module, list(imported.values())


def _pop_modules(packages: set[str]) -> dict[str, ModuleType]:
    """Remove the modules of these top-level packages from ``sys.modules`` and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}
