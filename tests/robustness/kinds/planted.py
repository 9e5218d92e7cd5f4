"""Faults of every class on purpose, with which `test_harness` tests the harness itself. Not part of a normal run."""

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import harness
import numpy as np
from harness import Case

from pose.errors import DataError


class WholeTextError(DataError):
    """An error whose text is not brought to one line."""

    __str__ = Exception.__str__


def planted(rng: Random, world: Path, folder: Path) -> Case:
    """Make the next case of `FAULTS`."""
    harness.MAX_GROWTH_BYTES = 20 << 20  # to touch more takes seconds on some machines
    faults = list(FAULTS)
    name = faults[_number(folder) % len(faults)]
    (folder / "input.json").write_text("{}")
    act, options = FAULTS[name]
    return Case(name, act, **options)


def _number(folder: Path) -> int:
    counter = folder.parent.parent.parent / "planted_count"
    number = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(number + 1))
    return number


def _raise(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def _command(stderr: str, status: int) -> Callable[[], Any]:
    def act() -> None:
        print(stderr, file=sys.stderr)
        sys.exit(status)

    return act


def _write(name: str, content: str, then: Callable[[], Any] = lambda: None) -> Callable[[], Any]:
    def act() -> None:
        Path(name).write_text(content)
        then()

    return act


def _memory() -> None:
    np.ones(3 << 27)  # 3 GB of float64: refused by the limit


def _much_memory() -> None:
    np.ones(8 << 20)  # 64 MB


def _wait_in_c() -> None:
    ctypes.CDLL(None).sleep(60)


refuse = _raise(DataError("persons.json: expected a list"))
FAULTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "right": (lambda: 5, {"check": lambda answer: None if answer.value == 5 else "not 5"}),
    "refused": (refuse, {}),
    "refused by a command": (_command("loading\nerror: x: expected y", 2), {}),
    "traceback": (_raise(KeyError("x")), {}),
    "traceback of a command": (_command("Traceback (most recent call last)\nerror: x", 2), {}),
    "message of two lines": (_raise(WholeTextError("a\nb")), {}),
    "message that is long": (_raise(WholeTextError("a" * 301)), {}),
    "message that is missing": (_command("", 2), {}),
    "exit status": (_command("error: x", 1), {}),
    "wrong answer": (lambda: 6, {"check": lambda answer: "6 is not 5"}),
    "accepted": (lambda: 6, {"expected": "refused"}),
    "valid input refused": (refuse, {"expected": "right"}),
    "JSON with NaN": (_write("out.json", json.dumps([float("nan")])), {}),
    "JSON beyond range": (_write("out.json", "[1e999]"), {}),
    "lost file": (lambda: os.remove("input.json"), {}),
    "changed file": (_write("input.json", "[]"), {}),
    "changed file allowed": (_write("input.json", "[]"), {"writes": frozenset({"input.json"})}),
    "changed file although refused": (_write("input.json", "[]", refuse), {"writes": frozenset({"input.json"})}),
    "left-over file": (_write(".input.1.partial.json", "{}"), {}),
    "empty file although refused": (_write("out.json", "", refuse), {}),
    "file outside": (_write("../elsewhere", "x"), {}),
    "hang": (lambda: time.sleep(60), {}),
    "hang in C": (_wait_in_c, {}),
    "segmentation fault": (lambda: ctypes.string_at(0), {}),
    "process ends": (lambda: os._exit(7), {}),
    "memory bomb": (_memory, {}),
    "much memory": (_much_memory, {}),
}
"""What is done, and the options of the case, by the name of the fault."""
