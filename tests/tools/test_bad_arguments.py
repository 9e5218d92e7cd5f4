"""Every option of every command with bad values: exit status 2 and one short line on stderr, never a traceback."""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pose.cli import ToolParser, run
from pose.errors import MAX_LINE

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    f"pose.{folder}.{file.stem}"
    for folder in ("tools", "data")
    for file in sorted((ROOT / folder).glob("[a-z]*.py"))
    if file.stem != "benchmark"  # needs a clone
]
POSITIONALS = {
    "inputs": ["missing.jpg"],
    "action": ["set"],
    "detector": ["missing.onnx"],
    "files": ["a.json", "b.json"],
}
"""Values of positional arguments."""


class ParserFoundError(Exception):
    """Raised in place of parsing."""


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> ToolParser:
    def capture(parser: ToolParser, args: object = None, namespace: object = None) -> None:
        raise ParserFoundError(parser)

    with monkeypatch.context() as patch, pytest.raises(ParserFoundError) as caught:
        patch.setattr(ToolParser, "parse_args", capture)
        importlib.import_module(module).main([])
    return caught.value.args[0]


def bad_values(folder: Path) -> Iterator[str]:
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    yield from ("", "nan", "1e999", "-1", "x" * 300, "x" * 5000, "9" * 5000, "\udcff", "a\x1b[31mb", "🦋" * 90)
    yield from (str(folder / name) for name in ("file", "folder", "loop", "file/x", "loop/x", "n" * 256, "n/" * 3000))
    yield from ("/proc/none/x", "/dev/null", "/dev/zero", "~", "[", "*", "http://", "\n")


def plausible(action: argparse.Action) -> list[str]:
    """Return a value of an option that ends a command before it does work: all inputs are missing."""
    if not action.option_strings:
        return POSITIONALS.get(action.dest, [])
    name = {"--output": "new.json", "--kept": "kept.json", "--held-out": "held_out.json", "--runs": "a=missing"}
    return [action.option_strings[0], name.get(action.option_strings[0], "missing")]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_bad_value_of_any_option_is_one_short_line_and_exit_status_2(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = parser_of(module, monkeypatch)
    main = importlib.import_module(module).main
    needed = [a for a in parser._actions if a.required or a.dest in ("weights", "cfg", "runs", *POSITIONALS)]
    excluded = (
        "--results",
        "--all",
        "--from-csv",
        "--browser",
    )  # those of which --weights, --cfg ... is another choice
    values = list(bad_values(tmp_path / "bad"))
    for action in parser._actions:
        option = action.option_strings[:1]
        if action.nargs == 0 or (option and option[0] in excluded):
            continue
        for value in values:
            others = [word for other in needed if other is not action for word in plausible(other)]
            arguments = [*others, *option, value] if option else [value, *others]
            capsys.readouterr()
            with pytest.raises(SystemExit) as caught:
                run(main, arguments)
            error = capsys.readouterr().err
            shown = f"{arguments!r:.300}: {error:.600}"
            assert caught.value.code == 2, shown
            assert error.endswith("\n"), shown
            last = error[:-1].rpartition("\n")[2]
            assert last.startswith("error: "), shown
            assert last.isprintable(), shown
            assert len(last) <= MAX_LINE, shown
            assert "Traceback" not in error, shown
    assert (tmp_path / "bad" / "file").read_text() == "x"
