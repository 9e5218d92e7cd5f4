"""Nested options whose values remember where they were written: what config files are before they are checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union


@dataclass(frozen=True)
class Leaf:
    """A value that does not merge, and its origin, such as ``quickstart.yaml:12``."""

    value: Any
    origin: str


Tree: TypeAlias = dict[str, Union["Tree", Leaf]]


def merge(under: Tree, over: Tree) -> Tree:
    """Return both in one: mappings merge, everything else of ``over`` replaces."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def values(tree: Tree) -> dict[str, Any]:
    """Return the plain values."""
    return {key: node.value if isinstance(node, Leaf) else values(node) for key, node in tree.items()}


def origin(tree: Tree, keys: Sequence[str | int]) -> str | None:
    """Return where the value at a path of keys was written; None if nobody wrote it.

    A path may go on inside a leaf (the index of a list item) or end above one (a section: its last line counts).
    """
    node: Tree | Leaf | None = tree
    for key in keys:
        if not isinstance(node, dict):
            break
        node = node.get(str(key))
    while isinstance(node, dict) and node:
        node = list(node.values())[-1]
    return node.origin if isinstance(node, Leaf) else None


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every value that is not itself a mapping."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
