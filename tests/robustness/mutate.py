"""Damage to bytes, to trees of JSON values, and to text."""

import json
import math
from copy import deepcopy
from random import Random
from typing import Any


class Raw(str):
    """Text that `dump_json` writes as it is, for what no Python value gives: ``1e999``, 5,000 digits, deep nesting."""


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 255, 256, 257, 0.5, -0.5, 1.5, 1e-320, 3e38, -3e38, 1e300, 2**31, 2**53 + 1,
    2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40, "", "0", "0.9", "1", "x", "null", "NaN", "a\x00b", "\ud800",
    "ä" * 3, "../../x", "/dev/zero", ".", "a" * 300, "a" * 5000, [], {}, [0], [1, 2], ["0"], [[1]], {"id": 1},
    [None] * 4, Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-1e999"), Raw("9" * 400),
    Raw("9" * 5000), Raw("[" * 1000 + "]" * 1000), Raw("[" * 100000 + "]" * 100000), Raw("1e-999"), Raw("-0"),
    Raw("-0.0"), Raw("01"),
)  # fmt: skip


def brief(value: object) -> str:
    """Return a short text of a value."""
    text = f"Raw {value}" if isinstance(value, Raw) else repr(value)
    return text if len(text) <= 40 else f"{text[:30]}...({len(text)})"


# --- bytes


def damage_bytes(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Return damaged bytes, and what was done."""
    size = len(data)
    if not size:
        return rng.randbytes(16), "random bytes"
    start = rng.choice((0, min(64, size - 1), max(0, size - 64), rng.randrange(size), rng.randrange(size)))
    length = min(size - start, rng.choice((1, 2, 4, 16, 100, 1000)))
    match rng.randrange(12):
        case 0 | 1 | 2:
            bit = rng.randrange(8)
            changed = bytearray(data)
            changed[start] ^= 1 << bit
            return bytes(changed), f"bit {bit} of byte {start} of {size} flipped"
        case 3:
            return data[:start] + rng.randbytes(length) + data[start + length :], f"{length} random bytes at {start}"
        case 4 | 5:
            return data[:start], f"cut to {start} of {size} bytes"
        case 6:
            return data[:start] + bytes(length) + data[start + length :], f"{length} zeros at {start}"
        case 7:
            return data[:start] + data[start + length :], f"{length} bytes removed at {start}"
        case 8:
            return data[:start] + rng.randbytes(length) + data[start:], f"{length} bytes inserted at {start}"
        case 9:
            return data + rng.randbytes(rng.choice((1, 100))), "bytes appended"
        case 10:
            value = rng.choice((0, 0xFF, 0x7F, 0x80))
            changed = bytearray(data)
            changed[start : start + length] = bytes([value]) * length
            return bytes(changed), f"{length} times {value} at {start}"
        case _:
            return rng.choice(
                (b"", b"\x00", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", bytes(100), rng.randbytes(64))
            ), "other"


def damage_text(rng: Random, text: str) -> tuple[bytes, str]:
    """Return a damaged text file."""
    match rng.randrange(6):
        case 0:
            return b"\xef\xbb\xbf" + text.encode(), "byte order mark"
        case 1:
            return text.encode("utf-16"), "UTF-16"
        case 2:
            position = rng.randrange(len(text) + 1)
            extra = rng.choice((",", "{", "]", '"', "\x00", "\\", "\u2028", "\t", "#", ": ", "\n---\n", "💀"))
            return (text[:position] + extra + text[position:]).encode(), f"{extra!r} inserted"
        case _:
            return damage_bytes(rng, text.encode())


# --- trees


def paths_in(tree: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a tree of lists and mappings, the root's first."""
    found = [prefix]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for key, value in items:
        found += paths_in(value, (*prefix, key))
    return found


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path."""
    for key in path:
        tree = tree[key]
    return tree


def choose_path(rng: Random, tree: Any) -> tuple[Any, ...]:
    """Return a path: a random way down, so that a long list is not chosen more often than a short one."""
    path: tuple[Any, ...] = ()
    while True:
        value = at(tree, path)
        keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
        if not keys or (path and rng.random() < 0.2):
            return path
        path = (*path, rng.choice(keys))


def damage_tree(rng: Random, tree: Any, values: tuple[Any, ...] = VALUES) -> tuple[Any, str]:
    """Return a changed copy of a tree, and what was changed: a value replaced, removed, repeated or added."""
    tree = deepcopy(tree)
    path = choose_path(rng, tree)
    name = ".".join(map(str, path)) or "the whole"
    if not path:
        value = rng.choice(values)
        return value, f"the whole is {brief(value)}"
    parent, key = at(tree, path[:-1]), path[-1]
    match rng.randrange(10):
        case 0:
            del parent[key]
            return tree, f"{name} removed"
        case 1 if isinstance(parent, list):
            parent.insert(key, deepcopy(parent[key]))
            return tree, f"{name} repeated"
        case 2 if isinstance(parent, dict):
            parent["unknown"] = rng.choice(values)
            return tree, f"unknown key next to {name}"
        case 3 if isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * rng.choice((-1, 0, 10, 1e6, 1e18, 1e-6)) + rng.choice((0, 1, 0.5))
            return tree, f"{name} is {brief(parent[key])}"
        case 4:
            other = choose_path(rng, tree)
            value = deepcopy(at(tree, other))
            parent[key] = value
            return tree, f"{name} is the value of {'.'.join(map(str, other)) or 'the whole'}"
        case _:
            value = rng.choice(values)
            parent[key] = value
            return tree, f"{name} is {brief(value)}"


def same_numbers(tree: Any) -> Any:
    """Return a tree of the same meaning in other spellings: keys reversed, whole floats for integers in lists."""
    if isinstance(tree, dict):
        return {key: same_numbers(value) for key, value in reversed(tree.items())}
    if isinstance(tree, list):
        return [float(v) if type(v) is int and isinstance(tree, list) else same_numbers(v) for v in tree]
    return tree


def dump_json(tree: Any) -> str:
    """Return JSON, with `Raw` texts as they are."""
    raws: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw):
            raws.append(str(value))
            return f"@raw{len(raws) - 1}@"
        if isinstance(value, dict):
            return {key: marked(item) for key, item in value.items()}
        return [marked(item) for item in value] if isinstance(value, (list, tuple)) else value

    text = json.dumps(marked(tree))
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw{number}@"', raw)
    return text


def is_finite_tree(tree: Any) -> bool:
    """Return whether all floats in a tree of lists and mappings are finite."""
    return all(math.isfinite(v) for v in (at(tree, path) for path in paths_in(tree)) if isinstance(v, float))
