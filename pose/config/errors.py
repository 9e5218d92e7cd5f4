"""What pydantic found wrong with a config, in one line: where it was written, what was expected, what came."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pose.errors import ConfigError, near_name

Keys = tuple[str | int, ...]


def explain(error: ValidationError, model: type[BaseModel], origin: Callable[[Keys], str]) -> ConfigError:
    """Return one error with a message for every problem.

    Args:
        error: of validating ``model``.
        model: the outermost model, for the names that are known.
        origin: gives the place where the value at a path of keys was written.
    """
    details: dict[Keys, list[ErrorDetails]] = {}
    for detail in error.errors():
        details.setdefault(_without_union_tags(detail["loc"], model), []).append(detail)
    # A union blames the value as a whole for one member and something inside it for another: the latter says more.
    deepest = [keys for keys in details if not any(other[: len(keys)] == keys != other for other in details)]
    problems = [f"{origin(keys)}: {_sentence(details[keys], keys, model)}" for keys in deepest]
    if len(problems) == 1:
        return ConfigError(problems[0])
    numbered = (f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
    return ConfigError(f"{len(problems)} problems: {' '.join(numbered)}")


def _sentence(details: Sequence[ErrorDetails], keys: Keys, model: type[BaseModel]) -> str:
    """Say what is wrong with one value; a union gives several details, one a member."""
    dotted = ".".join(map(str, keys))
    kind = details[0]["type"]
    if kind == "extra_forbidden":
        return f"unknown key '{dotted}'{_near_key(keys, model)}"
    if kind == "missing":
        return f"{dotted}: expected a value, got none"
    if kind == "value_error":
        message = details[0]["msg"].removeprefix("Value error, ")
        return f"{dotted}: {message}" if dotted else message
    expected = " or ".join(_expected(detail["msg"]) for detail in details)
    given = details[0]["input"]
    hint = near_name(str(given), re.findall(r"'(.+?)'", expected))
    return f"{dotted}: expected {expected}, got {_shown(given)}{hint}"


def _expected(message: str) -> str:
    """Turn pydantic's "Input should be ..." into what was expected, without the names of classes."""
    message = re.sub(r"a valid dictionary or instance of \w+", "a mapping of options", message)
    return (
        message.removeprefix("Input should be ")
        .removeprefix("Tuple should have ")
        .replace("items after validation", "items")
        .replace("a valid tuple", "a list")
    )


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _near_key(keys: Keys, model: type[BaseModel]) -> str:
    """Suggest a key of the same section, else the same key in another section."""
    prefix = ".".join(map(str, keys[:-1]))
    name = str(keys[-1])
    known = list(_known_keys(model))
    section = [key for key in known if key.rpartition(".")[0] == prefix]
    close = near_name(".".join(map(str, keys)), section)
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    return close or (f"; did you mean '{elsewhere[0]}'?" if elsewhere else "")


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _inner_model(field.annotation)
        if inner is not None:
            yield from _known_keys(inner, f"{prefix}{name}.")


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field's type is, or has as a member of its union."""
    members = (annotation, *get_args(annotation))
    return next((m for m in members if isinstance(m, type) and issubclass(m, BaseModel)), None)


def _without_union_tags(location: Sequence[str | int], model: type[BaseModel]) -> Keys:
    """Drop the union members' names that pydantic puts between the keys."""
    keys: list[str | int] = []
    current: type[BaseModel] | None = model
    for index, part in enumerate(location):
        if current is not None and part in current.model_fields:
            keys.append(part)
            current = _inner_model(current.model_fields[str(part)].annotation)
        elif isinstance(part, int) or (index == len(location) - 1 and _may_be_key(part, current)):
            keys.append(part)
    return tuple(keys)


def _may_be_key(part: str, model: type[BaseModel] | None) -> bool:
    """Whether it may be a key that ``model`` does not know; where there is no model there are no keys."""
    return model is not None and "[" not in part and part != model.__name__
