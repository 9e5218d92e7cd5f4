"""Config files and overrides on the command line."""

import math
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import yaml
from harness import Answer, Case, command
from mutate import damage_text

from kinds.coco_files import link
from pose.config.loader import config_with_origin, dump, load_any_config

YAML_VALUES = (
    "", "null", "true", "no", "1", "0", "-1", "1.5", "1e-3", "1e999", ".inf", "-.inf", ".nan", "0x" + "f" * 5000,
    "9" * 400, "9" * 5000, "1" * 18 + "e" + "9" * 400, "[1, 2]", "[]", "{}", "{a: 1}", "[[1]]", "[" * 2000,
    "[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "!!int ''", "!!int x", "!!bool x", "!!timestamp x",
    "!!float x", "!!binary x", "!!null x", "!!python/object:os.system x", "!!python/object/apply:os.system [x]",
    "!!set {a}", "!!omap [a: 1]", "!!pairs x", "2024-99-99", "2024-01-01", "12:30:45", "&a [1]", "*a", "&a [*a]",
    "'x", '"x', "|", ">", "@", "`", "%", "? a", "<<: {a: 1}", "x" * 300, "x" * 5000, "../../x", "/dev/zero", "a\x00b",
    "a/b", "\u2028", "\ud7ff", "ä", "é" * 200, "-", "- 1", ": ", "~", "y", "0o17", "0b1", "1_000", "+1", "1:30", "=",
    "coco", "from_annotations", "{names: [a, a]}", "{names: []}", "{names: [a, b]}",
    "{names: [a, b], flip_pairs: [[a, c]]}", "{names: [a, b], sigmas: [0.1]}", "{names: [a, b], limbs: [[0, 9]]}",
)  # fmt: skip
KEYS = (
    "base",
    "name",
    "task",
    "unknown",
    "model.unknown",
    "train",
    "model.width.x",
    "",
    ".",
    "a..b",
    "a" * 300,
    ".".join("a" * 3000),
)
BUILDABLE = {"model.width", "model.depth", "model.head_width", "input.size_hw", "model.num_kernels", "model.reduction"}


@lru_cache
def option_keys(path: Path) -> tuple[str, ...]:
    """Return the dotted keys of all options of a config, and some that are none."""
    return (*(key for key, _, _ in config_with_origin(path)), *KEYS)


def configs(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged config file, or of overrides."""
    text = (world / rng.choice(("config.yaml", "config.yaml", "classes.yaml"))).read_text()
    overrides: list[str] = []
    kind = rng.random()
    if kind < 0.25:
        content, what = damage_text(rng, text)
    elif kind < 0.55:
        lines = text.splitlines()
        row = rng.randrange(len(lines))
        value = rng.choice(YAML_VALUES)
        lines[row] = f"{lines[row].partition(':')[0]}: {value}"
        content, what = "\n".join(lines).encode("utf-8", "surrogatepass"), f"{lines[row][:60]!r}"
    elif kind < 0.62:
        content, what = _bases(rng, folder, text)
    else:
        content, what = text.encode(), "overrides"
        keys = option_keys(world / "config.yaml")
        for _ in range(rng.choice((1, 1, 2))):
            key, value = rng.choice(keys), rng.choice(YAML_VALUES)
            if rng.random() < 0.1:
                key, value = rng.choice(("", "train.epochs", "=")), rng.choice(("", "=", "a"))
            overrides.append(f"{key}={value}" if rng.random() < 0.97 else key)
        what += f" {overrides}"
    (folder / "config.yaml").write_bytes(content)
    link(world, folder, "persons.json", "boxes.json", "images", "classes")
    overrides = [text for text in overrides if "\x00" not in text]  # no process can be given a NUL
    target = rng.random()
    if target < 0.55:
        return Case(f"print-config --yaml: {what}", _print("--yaml", overrides), check=lambda a: _check_yaml(a, folder))
    if target < 0.8:
        return Case(f"print-config: {what}", _print("", overrides), check=_check_table)
    if target < 0.9:
        return Case(f"load: {what}", lambda: load_any_config("config.yaml", overrides), check=_check_loaded)
    if target < 0.96:
        return Case(f"count-complexity: {what}", command("count-complexity", "--cfg", "config.yaml", *overrides))
    return Case(f"check-data: {what}", command("check-data", "--cfg", "config.yaml", *overrides))


def _print(flag: str, overrides: list[str]) -> Any:
    return command("print-config", "--cfg", "config.yaml", *([flag] if flag else []), *overrides)


def _bases(rng: Random, folder: Path, text: str) -> tuple[bytes, str]:
    """Write base files: chains that double the work at each level, cycles, missing files."""
    match rng.randrange(4):
        case 0:
            for level in range(25):
                below = f"base: [b{level + 1}.yaml, b{level + 1}.yaml]\n" if level < 24 else "base: quickstart\n"
                (folder / f"b{level}.yaml").write_text(below)
            return text.replace("base: quickstart", "base: b0.yaml").encode(), "bases that double 25 times"
        case 1:
            (folder / "b0.yaml").write_text("base: config.yaml\n")
            return text.replace("base: quickstart", "base: b0.yaml").encode(), "a cycle of bases"
        case 2:
            for level in range(1200):
                (folder / f"b{level}.yaml").write_text(f"base: b{level + 1}.yaml\n")
            return text.replace("base: quickstart", "base: b0.yaml").encode(), "a chain of 1200 bases"
        case _:
            value = rng.choice(
                ("nothing", "''", "..", "/", "[1]", "{a: 1}", "images", "/dev/zero", "x" * 300, "[" * 50)
            )
            return text.replace("base: quickstart", f"base: {value}").encode(), f"base: {value[:40]}"


def _check_yaml(answer: Answer, folder: Path) -> str | None:
    """The printed YAML loads to the same config."""
    (folder / "printed.yaml").write_text(answer.stdout, encoding="utf-8")
    again = dump(load_any_config(folder / "printed.yaml"))
    if again != answer.stdout:
        return "the printed YAML loads to another config"
    return _wrong_values(yaml.safe_load(answer.stdout))


def _check_table(answer: Answer) -> str | None:
    rows = answer.stdout.strip().split("\n")
    return None if all("  # " in row for row in rows) else "a row without an origin"


def _check_loaded(answer: Answer) -> str | None:
    return _wrong_values(answer.value.model_dump(mode="json"))


def _wrong_values(tree: Any) -> str | None:
    if isinstance(tree, dict):
        name = tree.get("name")
        if (
            isinstance(name, str)
            and "task" in tree
            and ("/" in name or name in ("", ".", "..") or len(name.encode()) > 255)
        ):
            return f"the name {name[:40]!r} of the run folder"
        return next(filter(None, map(_wrong_values, tree.values())), None)
    if isinstance(tree, list):
        return next(filter(None, map(_wrong_values, tree)), None)
    if isinstance(tree, float) and not math.isfinite(tree):
        return "a number that is not finite"
    if isinstance(tree, int) and abs(tree) >= 2**63:
        return "an integer beyond 64 bits"
    return None
