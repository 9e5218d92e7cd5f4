"""The command line: exit codes, arguments, the commands of ``dyconv-pose``, process settings."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pose.cli import ToolParser, add_config_arguments, dispatch, limit_thread_spinning, run
from pose.cli.arguments import output_file, output_folder
from pose.errors import DataError, MediaError, PoseError

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted((ROOT / "tools").glob("[a-z]*.py"))
DATA_COMMANDS = sorted((ROOT / "data").glob("[a-z]*.py"))


def exit_code(main: Callable[[Sequence[str] | None], None]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def raising(error: BaseException) -> Callable[[Sequence[str] | None], None]:
    def main(argv: Sequence[str] | None) -> None:
        raise error

    return main


def test_a_user_error_prints_one_line_to_stderr_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(DataError("a.json: no such\nfile"))) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: a.json: no such file\n"
    assert captured.out == ""


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_an_interrupt_exits_with_130_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("x" * 5000 + ": bad"), None),
        (DataError("a\x1b[31m\0b"), "error: a\\x1b[31m\\x00b"),
        (OSError(36, "File name too long", "n" * 5000), None),
        (OSError(28, "No space left on device"), "error: standard output: No space left on device; check the path"),
        (ConnectionResetError(104, "Connection reset by peer"), "error: a file: Connection reset by peer; check the"),
        (MemoryError("Unable to allocate 80 GiB"), "error: out of memory (Unable to allocate 80 GiB); use smaller"),
        (MemoryError(), "error: out of memory (no details); use smaller"),
    ],
)
def test_what_the_operating_system_refuses_is_one_short_printable_line(
    error: Exception, line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line or "error: ")
    assert printed.removesuffix("\n").isprintable()
    assert len(printed) <= 301


def script(body: str, stdout: Any, *arguments: str) -> "subprocess.Popen[bytes]":
    code = f"import sys\nfrom pose.cli import run\ndef main(argv):\n    {body}\nrun(main)"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "body", ["print('x')", "print('x' * 1_000_000)", "print('x'); sys.exit(0)"], ids=["short", "long", "exit"]
)
def test_a_full_standard_output_is_one_line_and_exit_status_2(
    body: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "wb") as full:
        tool = script(body, full)
        _, errors = tool.communicate(timeout=60)
    assert errors.startswith(b"error: standard output: No space left on device; check")
    assert (errors.count(b"\n"), tool.returncode) == (1, 2)


def test_a_name_that_is_not_utf8_is_printed_with_an_escape() -> None:
    tool = script("print('image', sys.argv[1])", subprocess.PIPE, os.fsdecode(b"\xff.jpg"))
    assert tool.communicate(timeout=60) == (b"image \\udcff.jpg\n", b"")


def test_a_closed_standard_output_is_no_error() -> None:
    code = "from pose.cli import run; run(lambda argv: print('x'))"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&-', sys.executable, code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_run_returns_when_main_returns() -> None:
    calls: list[Sequence[str] | None] = []
    run(calls.append, ["a"])
    assert calls == [["a"]]


def test_a_closed_output_pipe_ends_the_tool_without_an_error() -> None:
    code = (
        "from pose.cli import run\ndef main(argv):\n    for _ in range(100_000):\n        print('x' * 100)\nrun(main)"
    )
    tool = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tool.stdout is not None
    assert tool.stderr is not None
    tool.stdout.readline()
    tool.stdout.close()
    assert tool.stderr.read() == b""
    assert tool.wait(timeout=60) == 0


def test_help_into_a_closed_pipe_ends_without_an_error() -> None:
    code = "from pose.cli import ToolParser, run; run(ToolParser('x').parse_args, ['-h'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


# --- arguments


def parser() -> ToolParser:
    tool_parser = ToolParser("What it does.\n\nExamples:\n  keep   this")
    add_config_arguments(tool_parser)
    tool_parser.add_argument("--resume", nargs="?", const="newest")
    tool_parser.add_argument("--output")
    return tool_parser


@pytest.mark.parametrize(
    ("arguments", "resume", "overrides"),
    [
        ("--cfg q", None, []),
        ("--cfg q a.b=1 c=2", None, ["a.b=1", "c=2"]),
        ("--cfg q --resume", "newest", []),
        ("--cfg q --resume x.pt", "x.pt", []),
        ("--cfg q --resume a.b=1", "newest", ["a.b=1"]),
        ("--cfg q --resume x.pt a.b=1", "x.pt", ["a.b=1"]),
        ("--cfg q a.b=1 --resume", "newest", ["a.b=1"]),
        ("--cfg q a.b=1 --resume c=x=y", "newest", ["a.b=1", "c=x=y"]),
        ("--cfg=q a.b=[1,2]", None, ["a.b=[1,2]"]),
        ("--cfg q forgotten", None, ["forgotten"]),
    ],
)
def test_overrides_are_never_parsed_as_the_value_of_an_option(
    arguments: str, resume: str | None, overrides: list[str]
) -> None:
    args = parser().parse_args(arguments.split())
    assert (args.cfg, args.resume, args.overrides) == ("q", resume, overrides)


def test_an_unknown_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(parser().parse_args, ["--cfg", "q", "--nope", "a=1"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unrecognized arguments: --nope; see ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--cfg", ""], ["--cfg", "q", "--output", ""], ["--cfg", "q", "--output="]])
def test_an_empty_argument_is_refused(arguments: list[str]) -> None:
    with pytest.raises(PoseError, match="an argument is empty; is a variable"):
        parser().parse_args(arguments)


def output_parser() -> ToolParser:
    tool_parser = ToolParser(None)
    tool_parser.add_argument("--input", nargs="*", default=[])
    tool_parser.add_argument("--weights", type=Path)
    tool_parser.add_argument("--json", type=output_file)
    tool_parser.add_argument("--csv", type=output_file)
    tool_parser.add_argument("--folder", type=output_folder)
    return tool_parser


@pytest.mark.parametrize(
    "arguments",
    [
        "--input a --json a",
        "--input b a --json a",
        "--weights a --json x/../a",
        "--weights a --json linked",
        "--weights linked --csv a",
        "--json new --csv new",
        "--json new --csv ./new",
    ],
)
def test_an_output_that_is_the_file_of_another_argument_is_refused(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).write_text("")
    Path("x").mkdir()
    Path("linked").symlink_to("a")
    with pytest.raises(MediaError, match=r"is an?(other output| input) of the same command"):
        output_parser().parse_args(arguments.split())


def test_a_folder_may_be_read_and_written(tmp_path: Path) -> None:
    folder = str(tmp_path)
    args = output_parser().parse_args(["--input", folder, "--folder", folder, "--json", f"{folder}/out.json"])
    assert args.json == tmp_path / "out.json"


def test_a_parser_without_overrides_accepts_values_with_an_equals_sign() -> None:
    tool_parser = ToolParser(None)
    tool_parser.add_argument("--output")
    assert tool_parser.parse_args(["--output", "a=1"]).output == "a=1"


def test_help_prints_the_docstring_unchanged() -> None:
    assert "\nExamples:\n  keep   this\n" in parser().format_help()


# --- dyconv-pose


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Call ``dyconv-pose`` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["dyconv-pose", *map(str, arguments)])
    dispatch()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_with_the_first_line_of_its_docstring(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    for file in (*TOOLS, *DATA_COMMANDS):
        first = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("r").strip('"')
        assert first.endswith("."), f"{file.name}: help shows the first line of the docstring, which must be a sentence"
        assert any(line.split(maxsplit=1) == [file.stem.replace("_", "-"), first] for line in lines)


NEEDS_A_CLONE = ("tools/benchmark.py", "tools/render_benchmarks.py", "tools/__init__.py")
"""Benchmarks measure a clone, and say so."""
SOURCES = [
    path
    for folder in ("pose", "tools", "data")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "benchmarks" not in path.parts and path.relative_to(ROOT).as_posix() not in NEEDS_A_CLONE
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_help_and_messages_name_commands_instead_of_files_of_a_clone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commands = {file.stem.replace("_", "-") for file in (*TOOLS, *DATA_COMMANDS)}
    assert re.findall(r"\b(?:tools|data)/[a-z_]+\.py", text) == []
    assert set(re.findall(r"dyconv-pose ([a-z]+(?:-[a-z0-9]+)*)", text)) <= commands


@pytest.mark.parametrize("name", ["build-cache", "check-data", "hold-out"])
def test_help_lists_the_data_commands(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--help")
    assert f"\n  {name} " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["print-config", "print_config"])
def test_dispatch_runs_the_named_tool(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, name, "--cfg", "quickstart", "seed=41")
    assert "seed" in capsys.readouterr().out


def test_help_of_a_command_shows_the_dyconv_pose_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, "print-config", "--help")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: dyconv-pose print-config ")


@pytest.mark.parametrize("name", ["check-data", "check_data"])
def test_dispatch_runs_check_data(
    name: str, tiny_coco: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, name, "--annotations", tiny_coco.annotations, "--images", tiny_coco.images)
    assert capsys.readouterr().err == ""


def test_dispatch_runs_hold_out(tiny_coco: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, held_out = tmp_path / "kept.json", tmp_path / "held_out.json"
    files = ("--annotations", tiny_coco.annotations, "--kept", kept, "--held-out", held_out)
    call(monkeypatch, "hold-out", *files, "--fraction", "0.5")
    images = [json.loads(file.read_text())["images"] for file in (kept, held_out)]
    assert len(images[0]) + len(images[1]) == 3


def test_dispatch_runs_build_cache(tiny_coco: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {
        "root": tiny_coco.annotations.parent,
        "train_annotations": tiny_coco.annotations.name,
        "train_images": tiny_coco.images.name,
        "crop_cache": "train.crops",
        "synthetic": "null",
    }
    call(monkeypatch, "build-cache", "--cfg", "quickstart", *(f"data.{key}={value}" for key, value in data.items()))
    assert (data["root"] / "train.crops").is_file()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("print-confg", "print-config"),
        ("chek-data", "check-data"),
        ("build_cash", "build-cache"),
        ("holdout", "hold-out"),
    ],
)
def test_an_unknown_command_suggests_the_nearest_name(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, name)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: unknown command '{name}'; did you mean '{nearest}'?")


def test_an_unknown_command_without_a_near_name_refers_to_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, "xyzzy")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: unknown command 'xyzzy'; `dyconv-pose --help` lists all commands\n"


def test_version_prints_the_version_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pose import __version__

    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"dyconv-pose {__version__}\n"


@pytest.mark.parametrize("file", [*TOOLS, *DATA_COMMANDS], ids=lambda file: file.stem)
def test_help_of_every_command_contains_an_example(file: Path) -> None:
    done = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    needs_a_clone = file.relative_to(ROOT).as_posix() in NEEDS_A_CLONE
    command = f"python tools/{file.name}" if needs_a_clone else f"dyconv-pose {file.stem.replace('_', '-')}"
    assert f"{command} " in done.stdout


def test_data_errors_are_pose_errors() -> None:
    assert issubclass(DataError, PoseError)


def test_the_spin_count_is_set_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    limit_thread_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    limit_thread_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_command_line_modules_do_not_import_torch() -> None:
    # Otherwise the process settings would come too late.
    code = "import sys, pose.cli, pose.config.loader; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_is_kept_by_the_process() -> None:
    code = """
import resource
from pose.cli import keep_freed_memory
import numpy as np
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.empty(64 << 20, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = page_faults()
keep_freed_memory()
page_faults()
print(before, page_faults())
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    if before < 100:
        pytest.skip("the pages of this machine are too large for this test")
    assert after < before / 5
