import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pose.cli import ToolParser, add_config_arguments, dispatch, let_threads_sleep, run
from pose.errors import DataError, PoseError

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def exit_code(main: Callable[[Sequence[str] | None], None]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def raising(error: BaseException) -> Callable[[Sequence[str] | None], None]:
    def main(argv: Sequence[str] | None) -> None:
        raise error

    return main


def test_a_users_mistake_is_one_line_on_stderr_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(DataError("a.json: no such\nfile"))) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: a.json: no such file\n"
    assert captured.out == ""


def test_our_own_mistake_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_an_interrupt_exits_as_shells_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""


def test_a_tool_that_is_done_returns() -> None:
    seen: list[Sequence[str] | None] = []
    run(seen.append, ["a"])
    assert seen == [["a"]]


def test_a_reader_that_leaves_ends_the_tool_quietly() -> None:
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


# --- arguments


def parser() -> ToolParser:
    made = ToolParser("What it does.\n\nExamples:\n  keep   this")
    add_config_arguments(made)
    made.add_argument("--resume", nargs="?", const="newest")
    made.add_argument("--output")
    return made


@pytest.mark.parametrize(
    ("words", "resume", "overrides"),
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
def test_overrides_are_never_taken_for_an_options_value(words: str, resume: str | None, overrides: list[str]) -> None:
    args = parser().parse_args(words.split())
    assert (args.cfg, args.resume, args.overrides) == ("q", resume, overrides)


def test_an_option_that_does_not_exist_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--cfg", "q", "--nope", "a=1"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --nope" in capsys.readouterr().err


def test_a_parser_without_overrides_leaves_equal_signs_alone() -> None:
    plain = ToolParser(None)
    plain.add_argument("--output")
    assert plain.parse_args(["--output", "a=1"]).output == "a=1"


def test_help_shows_the_docstring_as_it_is_written() -> None:
    assert "\nExamples:\n  keep   this\n" in parser().format_help()


# --- dyconv-pose


def dispatched(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["dyconv-pose", *words])
    dispatch()


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_command_lists_every_tool_with_its_first_line(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatched(monkeypatch, *words)
    shown = capsys.readouterr().out
    for file in TOOLS.glob("[a-z]*.py"):
        first = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("r").strip('"')
        assert first.endswith("."), f"{file.name}: the first line of its docstring is what help shows"
        assert f"  {file.stem.replace('_', '-')} " in shown
        assert first in shown


@pytest.mark.parametrize("name", ["print-config", "print_config"])
def test_the_command_runs_a_tool(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatched(monkeypatch, name, "--cfg", "quickstart", "seed=41")
    assert "seed" in capsys.readouterr().out


def test_a_tools_help_names_the_sub_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        dispatched(monkeypatch, "print-config", "--help")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: dyconv-pose print-config ")


def test_a_misspelt_tool_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        dispatched(monkeypatch, "print-confg")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: no tool 'print-confg'; did you mean 'print-config'?")


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pose import __version__

    dispatched(monkeypatch, "--version")
    assert capsys.readouterr().out == f"dyconv-pose {__version__}\n"


@pytest.mark.parametrize("file", sorted(TOOLS.glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_tool_explains_itself_with_an_example(file: Path) -> None:
    done = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python tools/{file.name}" in done.stdout


def test_errors_of_users_have_one_root() -> None:
    assert issubclass(DataError, PoseError)


def test_threads_spin_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    let_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    let_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_no_module_that_a_tool_needs_to_start_imports_torch() -> None:
    # else the settings would come too late for it
    code = "import sys, pose.cli, pose.config.loader, pose.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a matter of Linux")
def test_freed_memory_stays_with_the_process() -> None:
    code = """
import resource
from pose.cli import keep_freed_memory
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.empty(64 << 20, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
spun = faults()
keep_freed_memory()
faults()
print(spun, faults())
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    if before < 100:
        pytest.skip("this machine's pages are too large to tell")
    assert after < before / 5
