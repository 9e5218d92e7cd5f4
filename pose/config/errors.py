"""Convert pydantic validation errors of a config to a one-line message: where, what was expected, what was given."""

import re
from collections.abc import Callable, Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pose.errors import ConfigError, near_name, shorten

MAX_DETAILS = 40
"""Number of pydantic's errors that are described; the line of a command shows only a few."""

Keys = tuple[str | int, ...]
"""Path of a value: option names and list indices."""


def to_config_error(error: ValidationError, model: type[BaseModel], origin: Callable[[Keys], str]) -> ConfigError:
    """Return one error that describes all problems.

    Args:
        error: raised by the validation of ``model``.
        model: the config class, for the names of known options.
        origin: returns the origin of the value at a path of keys.
    """
    details: dict[Keys, list[ErrorDetails]] = {}
    for detail in error.errors()[:MAX_DETAILS]:
        details.setdefault(_keys(detail["loc"], model), []).append(detail)
    # A union reports the whole value for one member and a part of it for another; keep the more specific error.
    deepest = [keys for keys in details if not any(other[: len(keys)] == keys != other for other in details)]
    problems = [f"{origin(keys)}: {_describe(details[keys], keys, model)}" for keys in deepest]
    if len(problems) == 1:
        return ConfigError(problems[0])
    numbered = (f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
    return ConfigError(f"{len(problems)} problems: {' '.join(numbered)}")


def _describe(details: Sequence[ErrorDetails], keys: Keys, model: type[BaseModel]) -> str:
    """Describe the error of one value; a union has several details, one per member."""
    dotted = ".".join(map(str, keys))
    error_type = details[0]["type"]
    if error_type == "extra_forbidden":
        return f"unknown key '{shorten(dotted)}'{_near_key(keys, model)}"
    if error_type == "missing":
        return f"{dotted}: expected a value, got none"
    if error_type == "value_error":
        message = details[0]["msg"].removeprefix("Value error, ")
        return f"{dotted}: {message}" if dotted else message
    expected = " or ".join(_expected(detail["msg"]) for detail in details)
    value = details[0]["input"]
    hint = near_name(str(value), re.findall(r"'(.+?)'", expected))
    return f"{dotted}: expected {expected}, got {'nothing' if value is None else shorten(repr(value))}{hint}"


def _expected(message: str) -> str:
    """Return what was expected according to pydantic's "Input should be ...", without class names."""
    message = re.sub(r"a valid dictionary or instance of \w+", "a mapping of options", message)
    message = re.sub(r"Input is not a valid path for .*", "a path", message)
    return (
        message.removeprefix("Input should be ")
        .removeprefix("Tuple should have ")
        .replace("items after validation", "items")
        .replace("a valid tuple", "a list")
    )


def _near_key(keys: Keys, model: type[BaseModel]) -> str:
    """Suggest a similar key of the same section, else the same key of another section."""
    prefix = ".".join(map(str, keys[:-1]))
    name = str(keys[-1])
    known = list(_known_keys(model))
    section = [key for key in known if key.rpartition(".")[0] == prefix]
    hint = near_name(".".join(map(str, keys)), section)
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    return hint or (f"; did you mean '{elsewhere[0]}'?" if elsewhere else "")


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all options and sections."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield from _known_keys(inner, f"{prefix}{name}.")


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the section class in a field's type, which may be a union; None if there is none."""
    members = (annotation, *get_args(annotation))
    return next((m for m in members if isinstance(m, type) and issubclass(m, BaseModel)), None)


def _keys(location: Sequence[str | int], model: type[BaseModel]) -> Keys:
    """Return the path of keys of a pydantic location, which contains the name of a union member after a union's key."""
    keys: list[str | int] = []
    current: type[BaseModel] | None = model
    parts = iter(location)
    for part in parts:
        keys.append(part)
        field = current.model_fields.get(str(part)) if current is not None else None
        annotation = None if field is None else field.annotation
        if _is_union(annotation):
            next(parts, None)
        current = _inner_model(annotation)
    return tuple(keys)


def _is_union(annotation: Any) -> bool:
    """Return whether a type is a union of several members. None does not count: pydantic omits it from locations."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and len(members) > 1
