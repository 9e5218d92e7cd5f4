"""MkDocs hooks: pages for linked files outside ``docs/``, and tables of config options.

A link such as ``../data/README.md`` works in the repository and on the site: the files that pages link to become pages
under ``repository/``. Markdown files become pages, source files pages with highlighted code, folders their README or a
list of their files; all others are copied. Links of the added pages are followed in the same way.

A line ``<!-- options pose.config.pose.TrainConfig train -->`` becomes a table of the options of that section.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "repository/"
WIDE = ("complexity.md", "repository/configs/README.md")
"""Pages whose tables need the room of the table of contents."""
LINK = re.compile(r"(\]\(|\b(?:href|src)=\")([^)\s\"#:]+)")
"""Opening and target of ``[text](target)``, ``href="target"`` and ``src="target"``."""
OPTIONS = re.compile(r"<!-- options ([\w.]+)\.(\w+) ([\w.]+) -->")
"""Module, class, and the section's name in a config."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cfg": "ini", ".toml": "toml", "": "text"}
"""Of the files that become pages with code, by suffix."""
CODE_PAGE = "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n# {path}\n\n````{language}\n{text}\n````\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the navigation that lie outside ``docs/``, and the files that pages link to."""
    pending = [uri.removeprefix(PREFIX) for uri in _nav_uris(config.nav) if uri.startswith(PREFIX)]
    for file in files.documentation_pages():
        pending += _links(f"docs/{file.src_uri}", file.content_string)
    added: set[str] = set()
    while pending:
        path = _file(pending.pop())
        if path is None or path in added or path.startswith("docs/"):
            continue
        added.add(path)
        text = _markdown(path)
        source: dict[str, str] = {"abs_src_path": str(ROOT / path)} if text is None else {"content": text}
        files.append(File.generated(config, _uri(path), inclusion=InclusionLevel.NOT_IN_NAV, **source))
        if path.endswith(".md"):
            pending += _links(path, text or "")
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the added pages, insert the option tables, and render the Markdown inside ``<details>``."""
    uri = page.file.src_uri
    path = uri.removeprefix(PREFIX) if uri.startswith(PREFIX) else f"docs/{uri}"
    if uri in WIDE:
        page.meta["hide"] = ["toc"]

    def to_page(link: re.Match[str]) -> str:
        target = _file(_resolve(path, link[2]))
        return link[0] if target is None else link[1] + posixpath.relpath(_uri(target), posixpath.dirname(uri))

    markdown = OPTIONS.sub(lambda match: _option_table(*match.groups()), markdown)
    return LINK.sub(to_page, markdown).replace("<details>", '<details markdown="1">')


def _nav_uris(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from _nav_uris(child)


def _links(path: str, markdown: str) -> Iterator[str]:
    """Yield the paths in the repository that the links of a file lead to."""
    return (_resolve(path, link[2]) for link in LINK.finditer(markdown))


def _resolve(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _file(path: str) -> str | None:
    """Return the path of the file or folder to show, the README of a folder that has one; None if there is none."""
    if path.startswith("..") or not (ROOT / path).exists():
        return None
    return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path


def _uri(path: str) -> str:
    """Return the page of a path in the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{PREFIX}{path}/index.md"
    return f"{PREFIX}{path}{'.md' if Path(path).suffix in LANGUAGES else ''}"


def _markdown(path: str) -> str | None:
    """Return the Markdown of a page; None for a file that is copied."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(f"{entry.name}{'/' * entry.is_dir()}" for entry in file.iterdir() if entry.name[0] not in "._")
        return f"# {path}/\n\n" + "".join(f"- `{name}`\n" for name in names)
    if file.suffix == ".md":
        return file.read_text(encoding="utf-8")
    if file.suffix not in LANGUAGES:
        return None
    text = file.read_text(encoding="utf-8")
    return CODE_PAGE.format(path=path, language=LANGUAGES[file.suffix], text=text)


def _option_table(module: str, name: str, section: str) -> str:
    """Return a Markdown table of a config section: option, default, meaning."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for key, field in getattr(import_module(module), name).model_fields.items():
        value = None if field.is_required() else field.default
        default = str(value) if isinstance(value, str | Path) else json.dumps(value)
        choices = _choices(field.annotation)
        meaning = " ".join((field.description or "").split())
        if value in choices and len(choices) > 1:
            meaning += f" Choices: {', '.join(f'`{choice}`' for choice in choices)}."
        cells = (f"`{section}.{key}`", "required" if field.is_required() else f"`{default}`", meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return '<div class="options" markdown="1">\n\n' + "\n".join(rows) + "\n\n</div>"


def _choices(annotation: Any) -> list[Any]:
    """Return the values of the `Literal` in a type, if there is one."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]
