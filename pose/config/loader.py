"""Load configs from YAML files with base files and command-line overrides, and dump them.

A file contains what differs from the defaults and from its ``base:`` files (one or a list, relative to the file; later
bases override earlier ones, the file overrides its bases; mappings merge, lists and values are replaced). ``key=value``
overrides are applied last. The origin of every value is kept for error messages and for ``dyconv-pose print-config``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from pose.config.base import ExperimentConfig
from pose.config.classification import ClassificationConfig
from pose.config.errors import to_config_error
from pose.config.pose import Config
from pose.config.tree import Leaf, Tree, flatten, merge, origin, values
from pose.config.yaml_text import MAX_CHARACTERS, MAX_LEVELS, parse_yaml, write_yaml
from pose.errors import ConfigError, DataError, near_name, shorten

AnyConfig: TypeAlias = Config | ClassificationConfig
Task = Literal["pose", "classification"]
CONFIGS: dict[str, type[AnyConfig]] = {"pose": Config, "classification": ClassificationConfig}
"""Config class of each ``task``, which is pose if a file does not set it."""

_COMMAND_LINE = "command line"
_DEFAULT = "default"
_FILE_NAME = "file name"
MAX_BASES = 100
"""Length of a chain of base files; those of the package have 3."""

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
    return write_yaml(config.model_dump(mode="json"))


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
        if os.path.isfile(file):  # unlike Path.is_file, False for a name that no file can have
            return file
    name = str(path_or_name)
    path = folder / name
    is_name = path.name != "" and os.path.isdir(path.parent)
    siblings = [str(Path(name).with_name(file.name)) for file in path.parent.glob("*.yaml")] if is_name else []
    hint = near_name(name, siblings) or near_name(name.removesuffix(".yaml"), packaged_names())
    raise ConfigError(f"{name}: expected a YAML file or the name of a packaged config, found neither{hint}")


def _task(tree: Tree, where: str) -> str:
    node = tree.get("task", Leaf("pose", _DEFAULT))
    name = node.value if isinstance(node, Leaf) else values(node)
    if not isinstance(name, str) or name not in CONFIGS:
        expected = " or ".join(map(repr, CONFIGS))
        raise ConfigError(
            f"{origin(tree, ['task']) or where}: task: expected {expected}, got {shorten(repr(name))}"
            f"{near_name(str(name), CONFIGS)}"
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


def config_files(path_or_name: str | Path) -> list[Path]:
    """Return the files of a config: the file itself and all its base files.

    Raises:
        ConfigError: a file is missing or not a config.
    """
    trees: dict[Path, Tree] = {}
    _read_with_bases(_resolve(find_config(path_or_name)), (), trees)
    return [*trees]


def _read_tree(path: Path, overrides: Sequence[str]) -> Tree:
    tree = _read_with_bases(_resolve(path), (), {})
    for override in overrides:
        tree = merge(tree, _parse_override(override))
    return tree


def _read_with_bases(path: Path, children: tuple[Path, ...], trees: dict[Path, Tree]) -> Tree:
    """Return the options of a file and its bases; ``trees`` has those of the files that have been read before."""
    if path in trees:
        return trees[path]
    if path in children:
        cycle = " -> ".join(_display_path(file) for file in (*children[children.index(path) :], path))
        raise ConfigError(f"{_display_path(path)}: base files form a cycle, {cycle}; remove one 'base'")
    if len(children) == MAX_BASES:
        raise ConfigError(f"{_display_path(path)}: base files form a chain of more than {MAX_BASES}; merge some")
    tree = _read_file(path)
    merged: Tree = {}
    for base, where in _pop_bases(tree, path):
        try:
            file = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{where}: base {error}; bases are relative to the file that names them") from None
        merged = merge(merged, _read_with_bases(_resolve(file), (*children, path), trees))
    trees[path] = merge(merged, {"name": Leaf(path.stem, _FILE_NAME), **tree})
    return trees[path]


def _pop_bases(tree: Tree, path: Path) -> list[tuple[str, str]]:
    """Remove ``base`` from a file's tree; return (path, origin) of each base file."""
    node = tree.pop("base", Leaf([], ""))
    bases = node.value if isinstance(node, Leaf) else values(node)
    bases = [bases] if isinstance(bases, str) else bases
    where = origin({"base": node}, ["base"]) or _display_path(path)
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{where}: base: expected a file name or a list of them, got {shorten(repr(bases))}")
    return [(base, where) for base in bases]


def _read_file(path: Path) -> Tree:
    where = _display_path(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: expected YAML in UTF-8, got binary data; is this a config file?") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
    tree = parse_yaml(text, where, lambda line: f"{where}:{line}")
    if isinstance(tree, Leaf):
        got = "an empty file" if tree.value is None else shorten(repr(tree.value))
        raise ConfigError(f"{where}: expected a mapping of options (key: value), got {got}")
    return tree


def _parse_override(override: str) -> Tree:
    key, equals, value = override.partition("=")
    keys = key.split(".")
    if not equals or not all(keys) or len(keys) > MAX_LEVELS:
        raise ConfigError(f"{_COMMAND_LINE}: expected key=value, such as train.epochs=20, got '{shorten(override)}'")
    node = parse_yaml(value, f"{_COMMAND_LINE}: {key}", lambda line: _COMMAND_LINE)
    for part in reversed(keys[1:]):
        node = {part: node}
    return {keys[0]: node}


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links before Python 3.13


def _display_path(path: Path) -> str:
    """Return the path relative to the working directory if it is inside, else the absolute path."""
    path = _resolve(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
