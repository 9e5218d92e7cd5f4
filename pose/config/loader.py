"""Load configs from YAML files with base files and command-line overrides, and dump them.

A file contains what differs from the defaults and from its ``base:`` files (one or a list, relative to the file; later
bases override earlier ones, the file overrides its bases; mappings merge, lists and values are replaced). ``key=value``
overrides are applied last. The origin of every value is kept for error messages and for ``dyconv-pose print-config``.
This is the only module that reads YAML.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import ValidationError

from pose.config.base import ExperimentConfig
from pose.config.classification import ClassificationConfig
from pose.config.errors import to_config_error
from pose.config.pose import Config
from pose.config.tree import Leaf, Tree, flatten, merge, origin, values
from pose.errors import ConfigError, DataError, near_name

AnyConfig: TypeAlias = Config | ClassificationConfig
Task = Literal["pose", "classification"]
CONFIGS: dict[str, type[AnyConfig]] = {"pose": Config, "classification": ClassificationConfig}
"""Config class of each ``task``, which is pose if a file does not set it."""

_COMMAND_LINE = "command line"
_DEFAULT = "default"
_FILE_NAME = "file name"

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_FOLDER = next((f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir()), _PACKAGE)
"""Folder of the packaged configs: inside the package if installed, next to it in a clone."""


def load_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a pose estimation config.

    Args:
        path_or_name: a YAML file, or the name of a packaged config such as ``quickstart``.
        overrides: ``key=value`` with dotted keys (``train.epochs``) and values in YAML (``[170, 200]``).

    Raises:
        ConfigError: with file, line, key, what was expected and the nearest name.
    """
    config = _load(path_or_name, overrides, "pose", "train_imagenet and test_imagenet take")
    assert isinstance(config, Config)
    return config


def load_classification_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> ClassificationConfig:
    """Load a classification config; arguments and errors as in `load_config`."""
    config = _load(path_or_name, overrides, "classification", "train and test take")
    assert isinstance(config, ClassificationConfig)
    return config


def load_any_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Load a config of any task; arguments and errors as in `load_config`."""
    path = find_config(path_or_name)
    return _validate(_read_tree(path, overrides), _display_path(path))


def _load(path_or_name: str | Path, overrides: Sequence[str], task: Task, other_tools: str) -> AnyConfig:
    """Load a config of one task; ``other_tools`` says which tools take the configs of the other."""
    path = find_config(path_or_name)
    tree = _read_tree(path, overrides)
    actual = _task(tree, _display_path(path))
    if actual != task:
        where = origin(tree, ["task"]) or _display_path(path)
        raise ConfigError(f"{where}: expected a config of the task {task}, got {actual}, which the tools {other_tools}")
    return _validate(tree, _display_path(path))


def config_with_origin(path_or_name: str | Path, overrides: Sequence[str] = ()) -> list[tuple[str, Any, str]]:
    """Return (dotted key, value, origin) of every option.

    The origin is ``file:line``, ``file name`` (for ``name``), ``command line`` or ``default``.

    Raises:
        ConfigError: as in `load_config`.
    """
    path = find_config(path_or_name)
    tree = _read_tree(path, overrides)
    options = _validate(tree, _display_path(path)).model_dump(mode="json")
    return [(key, value, origin(tree, key.split(".")) or _DEFAULT) for key, value in flatten(options)]


def dump(config: ExperimentConfig) -> str:
    """Return a config as YAML with all options, which loads back to an equal config."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def json_schema(task: str = "pose") -> dict[str, Any]:
    """Return the JSON schema of a task's config files, for YAML completion and validation in editors."""
    schema = CONFIGS[task].model_json_schema()
    schema["properties"]["base"] = {
        "description": "Config files to build on, relative to this file; later ones override earlier ones.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def packaged_names() -> list[str]:
    """Return the names of the packaged configs, such as ``quickstart``, without base files."""
    files = (file.relative_to(CONFIG_FOLDER) for file in CONFIG_FOLDER.rglob("*.yaml"))
    return sorted(file.with_suffix("").as_posix() for file in files if file.parts[0] != "_base_")


def find_config(path_or_name: str | Path, folder: Path = Path()) -> Path:
    """Return the config file at a path relative to ``folder`` or, if there is none, the packaged config of that name.

    Raises:
        ConfigError: there is no such file and no such packaged config.
    """
    packaged = CONFIG_FOLDER / path_or_name
    for file in (folder / path_or_name, packaged, packaged.parent / f"{packaged.name}.yaml"):
        if file.is_file():
            return file
    name = str(path_or_name)
    path = folder / name
    siblings = [str(Path(name).with_name(file.name)) for file in path.parent.glob("*.yaml")] if path.name else []
    hint = near_name(name, siblings) or near_name(name.removesuffix(".yaml"), packaged_names())
    raise ConfigError(f"{name}: expected a YAML file or the name of a packaged config, found neither{hint}")


def _task(tree: Tree, where: str) -> str:
    node = tree.get("task", Leaf("pose", _DEFAULT))
    name = node.value if isinstance(node, Leaf) else values(node)
    if not isinstance(name, str) or name not in CONFIGS:
        expected = " or ".join(map(repr, CONFIGS))
        raise ConfigError(
            f"{origin(tree, ['task']) or where}: task: expected {expected}, got {name!r}{near_name(str(name), CONFIGS)}"
        )
    return name


def _validate(tree: Tree, where: str) -> AnyConfig:
    config_class = CONFIGS[_task(tree, where)]
    try:
        return config_class.model_validate(values(tree))
    except ValidationError as error:
        raise to_config_error(error, config_class, lambda keys: _nearest_origin(tree, keys) or where) from None
    except DataError as error:  # from make_skeleton
        raise ConfigError(f"{origin(tree, ['skeleton']) or where}: {error}") from None


def _nearest_origin(tree: Tree, keys: Sequence[str | int]) -> str | None:
    """Return the origin of a value or, if it is missing, of the innermost section that is there."""
    origins = (origin(tree, keys[:end]) for end in range(len(keys), 0, -1))
    return next(filter(None, origins), None)


def _read_tree(path: Path, overrides: Sequence[str]) -> Tree:
    tree = _read_with_bases(path.resolve(), ())
    for override in overrides:
        tree = merge(tree, _parse_override(override))
    return tree


def _read_with_bases(path: Path, children: tuple[Path, ...]) -> Tree:
    if path in children:
        cycle = " -> ".join(_display_path(file) for file in (*children[children.index(path) :], path))
        raise ConfigError(f"{_display_path(path)}: base files form a cycle, {cycle}; remove one 'base'")
    tree = _read_file(path)
    merged: Tree = {}
    for base, where in _pop_bases(tree, path):
        try:
            file = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{where}: base {error}; bases are relative to the file that names them") from None
        merged = merge(merged, _read_with_bases(file.resolve(), (*children, path)))
    return merge(merged, {"name": Leaf(path.stem, _FILE_NAME), **tree})


def _pop_bases(tree: Tree, path: Path) -> list[tuple[str, str]]:
    """Remove ``base`` from a file's tree; return (path, origin) of each base file."""
    node = tree.pop("base", Leaf([], ""))
    bases = node.value if isinstance(node, Leaf) else values(node)
    bases = [bases] if isinstance(bases, str) else bases
    where = origin({"base": node}, ["base"]) or _display_path(path)
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{where}: base: expected a file name or a list of them, got {bases!r}")
    return [(base, where) for base in bases]


def _read_file(path: Path) -> Tree:
    where = _display_path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: expected YAML in UTF-8, got binary data; is this a config file?") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
    tree = _parse(text, where, lambda line: f"{where}:{line}")
    if isinstance(tree, Leaf):
        got = "an empty file" if tree.value is None else repr(tree.value)[:60]
        raise ConfigError(f"{where}: expected a mapping of options (key: value), got {got}")
    return tree


def _parse_override(override: str) -> Tree:
    key, equals, value = override.partition("=")
    keys = key.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{_COMMAND_LINE}: expected key=value, such as train.epochs=20, got '{override}'")
    node = _parse(value, f"{_COMMAND_LINE}: {key}", lambda line: _COMMAND_LINE)
    for part in reversed(keys[1:]):
        node = {part: node}
    return {keys[0]: node}


def _parse(text: str, where: str, line_origin: Callable[[int], str]) -> Tree | Leaf:
    """Parse YAML text; ``where`` names the text in errors, ``line_origin`` returns the origin of a line (1-based)."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return Leaf(None, line_origin(1)) if node is None else _tree(loader, node, line_origin)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}: not YAML{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # a forbidden character; an impossible date
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def _tree(loader: "_Loader", node: yaml.Node, line_origin: Callable[[int], str]) -> Tree | Leaf:
    if not isinstance(node, yaml.MappingNode):
        return Leaf(loader.construct_object(node, deep=True), line_origin(node.start_mark.line + 1))
    tree: Tree = {}
    for key_node, value_node in node.value:
        where = line_origin(key_node.start_mark.line + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: expected a scalar key, got a list or mapping as key")
        if key_node.value in tree:
            raise ConfigError(f"{where}: duplicate key '{key_node.value}' in the same mapping; keep one")
        tree[key_node.value] = _tree(loader, value_node, line_origin)
    return tree


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1 loader without aliases. YAML 1.1 reads 1e-3 as text, which pydantic converts to a number."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias (*) at line {self.line + 1}; share options through a base file instead")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        """Write lists on one line."""
        return super().represent_sequence(tag, sequence, flow_style=True)


def _display_path(path: Path) -> str:
    """Return the path relative to the working directory if it is inside, else the absolute path."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
