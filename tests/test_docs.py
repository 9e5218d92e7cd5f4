"""The documentation: pages, links, paths, commands and examples exist as they are written."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pose.config.loader import load_any_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md"]

LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:href|src)=\"([^\"]+)\"")
EXTERNAL = re.compile(r"[a-z]+:|#")
REPOSITORY_PATH = re.compile(r"(?<![\w./-])(?:configs|data|docs|pose|tests|tools)/[\w./-]+\.(?:md|py|yaml)\b")
PLACEHOLDER = re.compile(r"NAME|ROW")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOOL = re.compile(r"(?:tools|data)/\w+\.py|dyconv-pose [a-z]")
OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")

OPTION = re.compile(r"`((?:train|test|model|data|input|augment)\.[a-z_.]+)(?:=[^`]*)?`")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nav_pages(entry: Any) -> Iterator[str]:
    """Files of the navigation, at any depth."""
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_pages(child)


def blocks(path: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def commands(path: Path) -> Iterator[list[str]]:
    """Command lines that run a tool: its file, then the words that follow."""
    for block in blocks(path, "sh", "console", ""):
        for line in filter(TOOL.search, block.replace("\\\n", " ").splitlines()):
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for place, word in enumerate(words):
                if TOOL.fullmatch(word):
                    yield words[place:]
                elif word == "dyconv-pose":
                    yield [tool_file(words[place + 1]), *words[place + 2 :]]


def tool_file(command: str) -> str:
    """File of a sub-command of dyconv-pose."""
    name = f"{command.replace('-', '_')}.py"
    return f"data/{name}" if (ROOT / "data" / name).is_file() else f"tools/{name}"


NAV = list(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


@pytest.mark.parametrize("page", NAV)
def test_every_page_of_the_navigation_exists(page: str) -> None:
    path = page.removeprefix("repository/") if page.startswith("repository/") else f"docs/{page}"
    assert (ROOT / path).is_file()


def test_every_page_is_in_the_navigation_or_an_experiment() -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert {page for page in pages if not page.startswith("experiments/")} <= set(NAV)


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_every_relative_link_leads_to_a_file(path: Path) -> None:
    links = [first or second for first, second in LINK.findall(path.read_text(encoding="utf-8"))]
    targets = [link.partition("#")[0] for link in links if not EXTERNAL.match(link)]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_every_path_in_the_text_exists(path: Path) -> None:
    mentioned = {name for name in REPOSITORY_PATH.findall(path.read_text("utf-8")) if not PLACEHOLDER.search(name)}
    assert sorted(name for name in mentioned if not (ROOT / name).is_file()) == []


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_python_examples_compile_and_import_names_that_exist(path: Path) -> None:
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pose":
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("path", TEXTS, ids=shown)
def test_commands_name_options_that_their_tool_has(path: Path) -> None:
    shared = (ROOT / "pose/cli/__init__.py").read_text(encoding="utf-8")
    for tool, *words in commands(path):
        source = (ROOT / tool).read_text(encoding="utf-8") + shared
        if tool == "tools/benchmark.py":
            files = [*(ROOT / "tools/benchmarks").glob("_*.py"), ROOT / f"tools/benchmarks/{words[0]}.py"]
            source += "".join(file.read_text(encoding="utf-8") for file in files)
        unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in source]
        assert unknown == [], f"{tool} {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_configs_load_with_the_overrides_of_commands(path: Path) -> None:
    for _, *words in commands(path):
        if "--cfg" in words:
            config = words[words.index("--cfg") + 1]
            overrides = [word for word in words if OVERRIDE.match(word)]
            if (ROOT / config).is_file() and "train.epoch=2" not in overrides:
                load_any_config(ROOT / config, overrides)


def test_documented_api_exists() -> None:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE) + re.findall(r"<!-- options ([\w.]+) ", text)
    assert len(names) > 30
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_options_that_the_text_names_exist() -> None:
    known = {key for name in ("quickstart", "imagenet/dy_mobilenetv2_w0.5") for key in option_names(name)}
    for path in PAGES:
        named = {name for name in OPTION.findall(path.read_text("utf-8")) if not name.endswith((".py", ".log"))}
        assert sorted(named - known) == [], shown(path)


def option_names(config: str) -> Iterator[str]:
    for section, options in load_any_config(config).model_dump().items():
        if isinstance(options, dict):
            yield from (f"{section}.{option}" for option in options)
