"""tools/plot_perceptron.py from the command line."""

from pathlib import Path

import pytest

from pose.cli import run
from pose.tools.plot_perceptron import main

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")


def test_prints_the_outputs_at_the_corners_and_writes_the_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--output", str(tmp_path / "perceptron.svg")])

    _, *rows, file = capsys.readouterr().out.splitlines()
    printed = [[float(value) for value in row.split()] for row in rows]
    assert [(x1, x2, xor) for x1, x2, xor, *_ in printed] == [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    assert [relu for *_, relu, _ in printed] == [0, 1, 1, 0]
    assert {static for *_, static in printed} == {1.0}
    assert Path(file).read_text(encoding="utf-8").lstrip().startswith("<?xml")


@pytest.mark.parametrize("arguments", [[], ["--output", "perceptron.txt"]])
def test_user_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(main, arguments)
    assert raised.value.code == 2
