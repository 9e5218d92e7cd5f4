"""Config trees: nested options before validation, each value with the place where it was written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union


@dataclass(frozen=True)
class Leaf:
    """A scalar or list with its origin, such as ``quickstart.yaml:12``."""

    value: Any
    origin: str


Tree: TypeAlias = dict[str, Union["Tree", Leaf]]


def merge(base: Tree, override: Tree) -> Tree:
    """Return ``base`` updated by ``override``: mappings merge recursively, all other values are replaced."""
    merged = dict(base)
    for key, value in override.items():
        current = base.get(key)
        merged[key] = merge(current, value) if isinstance(current, dict) and isinstance(value, dict) else value
    return merged


def values(tree: Tree) -> dict[str, Any]:
    """Return the values without their origins."""
    return {key: node.value if isinstance(node, Leaf) else values(node) for key, node in tree.items()}


def origin(tree: Tree, keys: Sequence[str | int]) -> str | None:
    """Return the origin of the value at a path of keys, or None if it is not in the tree.

    A path that continues inside a leaf (the index of a list item) has the origin of the leaf; a section has the origin
    of its last value.
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
    """Yield (dotted key, value) of every value that is not a mapping."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
