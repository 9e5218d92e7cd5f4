"""YAML files and the command line to one checked `Config`, and back.

A file says what differs from the defaults and from its ``base:`` files (one or a list, relative to the file; later
ones win, the file wins over all; mappings merge, lists and values replace). ``key=value`` overrides come last.
Every value remembers where it was written, for error messages and for ``tools/print_config.py``. This is the only
module that reads YAML.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import ValidationError

from pose.config.base import ExperimentConfig
from pose.config.classification import ClassificationConfig
from pose.config.errors import explain
from pose.config.pose import Config
from pose.config.tree import Leaf, Tree, flatten, merge, origin, values
from pose.errors import ConfigError, DataError, near_name

AnyConfig: TypeAlias = Config | ClassificationConfig
Task = Literal["pose", "classification"]
CONFIGS: dict[str, type[AnyConfig]] = {"pose": Config, "classification": ClassificationConfig}
"""By their ``task``, which is pose in files and weights that do not say."""

COMMAND_LINE = "command line"
DEFAULT = "default"
FILE_NAME = "file name"

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_FOLDER = next((f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir()), _PACKAGE)
"""The packaged configs: inside an installed package, beside it in a clone."""


def load_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config of pose estimation with its bases and apply overrides.

    Args:
        path_or_name: a YAML file, or the name of a packaged config such as ``quickstart``.
        overrides: ``key=value``, keys dotted (``train.epochs``), values in YAML (``[170, 200]``).

    Raises:
        ConfigError: naming file, line, key, what was expected and the nearest name.
    """
    config = _load(path_or_name, overrides, "pose", "train_imagenet and test_imagenet take")
    assert isinstance(config, Config)
    return config


def load_classification_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> ClassificationConfig:
    """Read a config of classification; arguments and errors as `load_config`."""
    config = _load(path_or_name, overrides, "classification", "train and test take")
    assert isinstance(config, ClassificationConfig)
    return config


def load_any_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a config of any task; arguments and errors as `load_config`."""
    path = find_config(path_or_name)
    return _check(_read_all(path, overrides), _shown(path))


def _load(path_or_name: str | Path, overrides: Sequence[str], task: Task, others: str) -> AnyConfig:
    path = find_config(path_or_name)
    tree = _read_all(path, overrides)
    found = _task(tree, _shown(path))
    if found != task:
        where = origin(tree, ["task"]) or _shown(path)
        raise ConfigError(f"{where}: expected a config of the task {task}, got {found}, which the tools {others}")
    return _check(tree, _shown(path))


def config_with_origin(path_or_name: str | Path, overrides: Sequence[str] = ()) -> list[tuple[str, Any, str]]:
    """Return (dotted key, value, origin) of every option.

    The origin is ``file:line``, ``file name`` (of ``name``), ``command line`` or ``default``.

    Raises:
        ConfigError: as `load_config`.
    """
    path = find_config(path_or_name)
    tree = _read_all(path, overrides)
    options = _check(tree, _shown(path)).model_dump(mode="json")
    return [(key, value, origin(tree, key.split(".")) or DEFAULT) for key, value in flatten(options)]


def dump(config: ExperimentConfig) -> str:
    """Return the whole config as YAML that `load_config` reads back equal."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def json_schema(task: str = "pose") -> dict[str, Any]:
    """Return a JSON schema of a task's config files, ``base`` included, for editors that complete and check YAML."""
    schema = CONFIGS[task].model_json_schema()
    schema["properties"]["base"] = {
        "description": "Config files that this one builds on, relative to it; later ones win.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def packaged_names() -> list[str]:
    """Names of the configs that come with the project, such as ``quickstart``; base files are left out."""
    files = (file.relative_to(CONFIG_FOLDER) for file in CONFIG_FOLDER.rglob("*.yaml"))
    return sorted(file.with_suffix("").as_posix() for file in files if file.parts[0] != "_base_")


def find_config(path_or_name: str | Path, folder: Path = Path()) -> Path:
    """Return the file of a path relative to ``folder``, or else of a packaged config's name.

    Raises:
        ConfigError: there is neither.
    """
    packaged = CONFIG_FOLDER / path_or_name
    for file in (folder / path_or_name, packaged, packaged.parent / f"{packaged.name}.yaml"):
        if file.is_file():
            return file
    name = str(path_or_name)
    wanted = folder / name
    siblings = [str(Path(name).with_name(file.name)) for file in wanted.parent.glob("*.yaml")] if wanted.name else []
    hint = near_name(name, siblings) or near_name(name.removesuffix(".yaml"), packaged_names())
    raise ConfigError(f"{name}: expected a YAML file or the name of a packaged config, found neither{hint}")


def _task(tree: Tree, where: str) -> str:
    node = tree.get("task", Leaf("pose", DEFAULT))
    name = node.value if isinstance(node, Leaf) else values(node)
    if not isinstance(name, str) or name not in CONFIGS:
        expected = " or ".join(map(repr, CONFIGS))
        raise ConfigError(
            f"{origin(tree, ['task']) or where}: task: expected {expected}, got {name!r}{near_name(str(name), CONFIGS)}"
        )
    return name


def _check(tree: Tree, where: str) -> AnyConfig:
    kind = CONFIGS[_task(tree, where)]
    try:
        return kind.model_validate(values(tree))
    except ValidationError as error:
        raise explain(error, kind, lambda keys: _place(tree, keys) or where) from None
    except DataError as error:  # from making the skeleton
        raise ConfigError(f"{origin(tree, ['skeleton']) or where}: {error}") from None


def _place(tree: Tree, keys: Sequence[str | int]) -> str | None:
    """Return where a value was written, or, if it is missing, the section around it."""
    return next((found for end in range(len(keys), 0, -1) if (found := origin(tree, keys[:end]))), None)


def _read_all(path: Path, overrides: Sequence[str]) -> Tree:
    tree = _read_with_bases(path.resolve(), ())
    for override in overrides:
        tree = merge(tree, _parse_override(override))
    return tree


def _read_with_bases(path: Path, children: tuple[Path, ...]) -> Tree:
    if path in children:
        circle = " -> ".join(_shown(file) for file in (*children[children.index(path) :], path))
        raise ConfigError(f"{_shown(path)}: base files form a circle, {circle}; remove one 'base'")
    tree = _read_file(path)
    merged: Tree = {}
    for base, where in _pop_bases(tree, path):
        try:
            file = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{where}: base {error}; bases are relative to their file") from None
        merged = merge(merged, _read_with_bases(file.resolve(), (*children, path)))
    return merge(merged, {"name": Leaf(path.stem, FILE_NAME), **tree})


def _pop_bases(tree: Tree, path: Path) -> list[tuple[str, str]]:
    """Take ``base`` out of a file's tree; returns each one's path and where it was written."""
    node = tree.pop("base", Leaf([], ""))
    bases = node.value if isinstance(node, Leaf) else values(node)
    bases = [bases] if isinstance(bases, str) else bases
    where = origin({"base": node}, ["base"]) or _shown(path)
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{where}: base: expected a file name or a list of them, got {bases!r}")
    return [(base, where) for base in bases]


def _read_file(path: Path) -> Tree:
    where = _shown(path)
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
        raise ConfigError(f"{COMMAND_LINE}: expected key=value, such as train.epochs=20, got '{override}'")
    node = _parse(value, f"{COMMAND_LINE}: {key}", lambda line: COMMAND_LINE)
    for part in reversed(keys[1:]):
        node = {part: node}
    return {keys[0]: node}


def _parse(text: str, where: str, place: Callable[[int], str]) -> Tree | Leaf:
    """Parse YAML text; ``where`` names it in errors, ``place`` names a line of it (counted from 1)."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return Leaf(None, place(1)) if node is None else _tree(loader, node, place)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}: not YAML{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # a forbidden character; an impossible date
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def _tree(loader: "_Loader", node: yaml.Node, place: Callable[[int], str]) -> Tree | Leaf:
    if not isinstance(node, yaml.MappingNode):
        return Leaf(loader.construct_object(node, deep=True), place(node.start_mark.line + 1))
    tree: Tree = {}
    for key_node, value_node in node.value:
        where = place(key_node.start_mark.line + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: expected a plain key, got a list or mapping as key")
        if key_node.value in tree:
            raise ConfigError(f"{where}: key '{key_node.value}' stands twice in the same mapping; keep one")
        tree[key_node.value] = _tree(loader, value_node, place)
    return tree


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1, which takes 1e-3 for text; pydantic makes it the number that was meant."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias (*) at line {self.line + 1}; share options through a base file instead")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        """Write lists on one line, as people do for sizes and milestones."""
        return super().represent_sequence(tag, sequence, flow_style=True)


def _shown(path: Path) -> str:
    """Return the path as a person in the working folder would write it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
