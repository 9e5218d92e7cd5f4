"""tools/count_complexity.py: its tables, its file, and their copy in docs/complexity.md."""

import json
from pathlib import Path

import pytest

from pose.cli import run
from pose.config.loader import load_config, packaged_names
from pose.models.complexity import count_config
from pose.models.published import PUBLISHED
from pose.tools.count_complexity import main

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"config", "backbone_params", "backbone_madds", "head_params", "head_madds"}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_configs_are_counted_with_their_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new/counts.json"
    main(["--cfg", "quickstart", "imagenet/dy_resnet10", "--json", str(file), "model.num_kernels=2"])

    pose, classifier = json.loads(file.read_text())
    assert set(pose) == set(classifier) == KEYS
    assert pose == {"config": "quickstart", **count_config(load_config("quickstart", ["model.num_kernels=2"]))}
    assert (classifier["config"], classifier["head_madds"]) == ("dy_resnet10", 512_000)
    _, _, first, second = capsys.readouterr().out.splitlines()
    assert cells(first)[0] == "quickstart"
    assert cells(second)[:1] + cells(second)[3:5] == ["dy_resnet10", "0.51", "0.5"]
    whole = (classifier["backbone_params"] + classifier["head_params"]) / 1e6
    assert cells(second)[5] == f"{whole:.2f}"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What --all prints, and its file."""
    file = tmp_path_factory.mktemp("counts") / "counts.json"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        main(["--all", "--json", str(file)])
    return "\n".join(printed), file


def test_all_sets_the_paper_beside_ours(everything: tuple[str, Path]) -> None:
    printed, file = everything
    table, _, notes = printed.partition("\n\n")
    lines = table.splitlines()[2:]
    counts = {row["config"]: row for row in json.loads(file.read_text())}
    assert len(lines) == len(PUBLISHED)
    assert len(counts) == len({row.config for row in PUBLISHED})
    assert all(set(row) == KEYS for row in counts.values())
    for line, row in zip(lines, PUBLISHED, strict=True):
        name, part, params, paper_params, _, _, paper_madds, _, numbers = cells(line)
        assert (name, part) == (row.config.split("/")[1], row.part)
        assert (float(paper_params), float(paper_madds)) == (row.params, row.madds)
        if part != "classifier":
            assert params == f"{counts[name][f'{part}_params'] / 1e6:.2f}"
        for note in row.notes:
            assert any(f"{number}. {note}" in notes.splitlines() for number in numbers.split(", "))
    assert cells(lines[7])[2:8] == ["2.69", "2.8", "-4.0%", "63.3", "62.0", "+2.1%"]


def test_the_complexity_page_shows_what_the_tool_prints(everything: tuple[str, Path]) -> None:
    assert everything[0] in (ROOT / "docs/complexity.md").read_text(encoding="utf-8")


def test_the_model_zoo_lists_every_config_with_its_counts(everything: tuple[str, Path]) -> None:
    counted = {row["config"]: row for row in json.loads(everything[1].read_text())}
    lines = (ROOT / "configs/README.md").read_text(encoding="utf-8").splitlines()
    rows = {row[0].partition("](")[2].removesuffix(".yaml)"): row for row in map(cells, lines) if "](" in row[0]}

    assert set(rows) >= set(packaged_names())
    for row in PUBLISHED:
        count = counted[row.config.split("/")[1]]
        params, madds = (sum(count[f"{part}_{what}"] for part in ("backbone", "head")) for what in ("params", "madds"))
        assert rows[row.config][3:5] == [f"{params / 1e6:.2f}", f"{madds / 1e6:.1f}"]


@pytest.mark.parametrize("words", [[], ["--all", "--cfg", "quickstart"], ["--cfg"]])
def test_either_configs_or_all(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_a_config_that_is_not_there_is_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, ["--cfg", "quickstart", "quickstrat"])
    assert caught.value.code == 2
    assert "did you mean 'quickstart'" in capsys.readouterr().err
