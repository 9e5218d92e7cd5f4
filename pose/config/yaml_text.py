"""YAML text of configs: read within limits into a tree with origins, and written. The only module that uses YAML.

Configs need scalars, lists and mappings only: no aliases and no tags, a few levels, integers of 64 bits, text without
control characters. Everything else is refused before a value is made of it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from pose.config.tree import Leaf, Tree
from pose.errors import ConfigError, shorten

MAX_CHARACTERS = 500_000
"""Length of a text; the resolved config of a data set of 20,000 classes has half of it."""
MAX_LEVELS = 20
"""Nesting of mappings and lists; configs have 4 levels."""
MAX_INTEGER = 2**63 - 1

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates, which YAML can write as escapes; no name and no path may have them."""


def parse_yaml(text: str, where: str, line_origin: Callable[[int], str]) -> Tree | Leaf:
    """Parse YAML text; ``where`` names the text in errors, ``line_origin`` returns the origin of a line (1-based).

    Raises:
        ConfigError: the text is not YAML, or leaves the limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{where}: expected a config of at most {MAX_CHARACTERS} characters; is this a config file?")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return Leaf(None, line_origin(1)) if node is None else _tree(loader, node, line_origin)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}: not YAML{line}: {error.problem or error.context}") from None
    except Exception as error:  # YAMLError, and what PyYAML raises for impossible dates (ValueError), 0x_, 1:1:...:1.5
        raise ConfigError(f"{where}: not YAML: {shorten(' '.join(str(error).split()), 120)}") from None


def write_yaml(options: Mapping[str, Any]) -> str:
    """Return options as YAML, with lists on one line."""
    return yaml.dump(dict(options), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _tree(loader: "_Loader", node: yaml.Node, line_origin: Callable[[int], str]) -> Tree | Leaf:
    if not isinstance(node, yaml.MappingNode):
        return Leaf(loader.construct_object(node, deep=True), line_origin(node.start_mark.line + 1))
    tree: Tree = {}
    for key_node, value_node in node.value:
        where = line_origin(key_node.start_mark.line + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: expected a scalar key, got a list or mapping as key")
        if key_node.value in tree:
            raise ConfigError(f"{where}: duplicate key '{shorten(key_node.value)}' in the same mapping; keep one")
        tree[key_node.value] = _tree(loader, value_node, line_origin)
    return tree


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1 loader within the limits. YAML 1.1 reads 1e-3 as text, which pydantic converts to a number."""

    levels = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; refuse an alias, a tag, a forbidden character and a node that is too deep."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        at = f"at line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias (*) {at}; share options through a base file instead")
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.YAMLError(f"a tag ({shorten(event.tag)}) {at}; write the plain value")
        if isinstance(event, yaml.ScalarEvent) and (found := _FORBIDDEN.search(event.value)):
            raise yaml.YAMLError(f"the character {found.group()!r} {at}; remove it")
        if self.levels == MAX_LEVELS:
            raise yaml.YAMLError(f"more than {MAX_LEVELS} levels of lists and mappings {at}")
        self.levels += 1
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Construct an integer of 64 bits; one of many thousand digits would take long and cannot be printed."""
        value = super().construct_yaml_int(node) if len(node.value) < 100 else MAX_INTEGER + 1
        if abs(value) > MAX_INTEGER:
            raise yaml.YAMLError(f"an integer beyond 64 bits at line {node.start_mark.line + 1}")
        return int(value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        """Write lists on one line."""
        return super().represent_sequence(tag, sequence, flow_style=True)
