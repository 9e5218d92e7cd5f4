"""tools/count_complexity.py: its tables, its file, and their copy in docs/complexity.md."""

import json
import re
from pathlib import Path

import pytest

from pose.cli import run
from pose.config.loader import load_any_config, load_config, packaged_names
from pose.models.complexity import count_config
from pose.models.published import PUBLISHED, SECTIONS
from pose.tools.count_complexity import main

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"config", "backbone_params", "backbone_madds", "head_params", "head_madds"}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_cfg_counts_configs_with_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new/counts.json"
    main(["--cfg", "quickstart", "imagenet/dy_resnet10", "--json", str(file), "model.num_kernels=2"])

    pose, classifier = json.loads(file.read_text())
    assert set(pose) == set(classifier) == KEYS
    assert pose == {"config": "quickstart", **count_config(load_config("quickstart", ["model.num_kernels=2"]))}
    assert (classifier["config"], classifier["head_madds"]) == ("dy_resnet10", 512_000)
    _, _, first, second = capsys.readouterr().out.splitlines()
    assert cells(first)[0] == "quickstart"
    assert cells(second)[:1] + cells(second)[3:5] == ["dy_resnet10", "0.51", "0.5"]
    total = (classifier["backbone_params"] + classifier["head_params"]) / 1e6
    assert cells(second)[5] == f"{total:.2f}"


@pytest.fixture(scope="module")
def output_of_all(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The text printed by --all, and its JSON file."""
    file = tmp_path_factory.mktemp("counts") / "counts.json"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *values, **_: printed.append(" ".join(map(str, values))))
        main(["--all", "--json", str(file)])
    return "\n".join(printed), file


def test_all_compares_our_counts_with_the_paper(output_of_all: tuple[str, Path]) -> None:
    printed, file = output_of_all
    *blocks, notes = printed.split("\n\n")
    assert blocks[::2] == [f"### {heading}" for heading in SECTIONS]
    lines = [line for block in blocks[1::2] for line in block.splitlines()[2:]]
    counts = {row["config"]: row for row in json.loads(file.read_text())}
    assert len(lines) == len(PUBLISHED)
    assert len(counts) == len({row.model for row in PUBLISHED})
    assert all(set(row) == KEYS for row in counts.values())
    for line, row in zip(lines, PUBLISHED, strict=True):
        name, part, params, *rest = cells(line)
        assert (name, part) == (row.model.rpartition("/")[2], row.part)
        if part != "classifier":
            assert params == f"{counts[name][f'{part}_params'] / 1e6:.2f}"
        if len(rest) == 1:
            assert row.params is None
            continue
        paper_params, _, _, paper_madds, _, numbers = rest
        assert (paper_params, paper_madds) == tuple("-" if v is None else str(v) for v in (row.params, row.madds))
        for note in row.notes:
            assert any(f"{number}. {note}" in notes.splitlines() for number in numbers.split(", "))
    (narrow,) = (cells(line) for line in lines if cells(line)[0] == "dy_mobilenetv2_w0.35")
    assert narrow[2:8] == ["2.69", "2.8", "-4.0%", "63.3", "62.0", "+2.1%"]


def test_the_complexity_page_shows_what_the_tool_prints(output_of_all: tuple[str, Path]) -> None:
    assert output_of_all[0] in (ROOT / "docs/complexity.md").read_text(encoding="utf-8")


def test_the_page_of_the_paper_has_every_config_and_the_counts_of_published_rows(
    output_of_all: tuple[str, Path],
) -> None:
    page = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    counted = {row["config"]: row for row in json.loads(output_of_all[1].read_text())}
    named = set(re.findall(r"`((?:imagenet|pose)/\w[\w./]+)`", page)) - {"pose/models/heads.py"}
    for command in re.findall(r"--cfg ((?:imagenet|pose)/[^`\n\\]+)", page):
        name, *words = command.split()
        load_any_config(name, [word for word in words if "=" in word])
        named.add(name)

    assert named <= set(packaged_names())
    assert {
        name for name in packaged_names() if "ablation/kernels" not in name and name.startswith("imagenet/")
    } <= named
    assert {row.config for row in PUBLISHED} <= named
    for row in PUBLISHED:
        if row.params is not None:
            parts = ("backbone", "head") if row.part == "classifier" else (row.part,)
            count = counted[row.model.rpartition("/")[2]]
            params, madds = (sum(count[f"{part}_{what}"] for part in parts) / 1e6 for what in ("params", "madds"))
            separator = ", " if row.part == "classifier" else " | "
            figures = f"{params:.2f} ({row.params}){separator}{madds:.1f} ({row.madds})"
            assert any(row.config in line and figures in line for line in page.splitlines()), row


def test_the_model_zoo_lists_every_config_with_its_counts(output_of_all: tuple[str, Path]) -> None:
    counted = {row["config"]: row for row in json.loads(output_of_all[1].read_text())}
    lines = (ROOT / "configs/README.md").read_text(encoding="utf-8").splitlines()
    rows = {row[0].partition("](")[2].removesuffix(".yaml)"): row for row in map(cells, lines) if "](" in row[0]}

    assert set(rows) >= set(packaged_names())
    for config in packaged_names():
        count = counted.get(config.rpartition("/")[2]) or count_config(load_any_config(config))
        params, madds = (sum(count[f"{part}_{what}"] for part in ("backbone", "head")) for what in ("params", "madds"))
        assert rows[config][3:5] == [f"{params / 1e6:.2f}", f"{madds / 1e6:.1f}"]


@pytest.mark.parametrize("arguments", [[], ["--all", "--cfg", "quickstart"], ["--cfg"]])
def test_requires_either_cfg_or_all(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(main, arguments)
    assert raised.value.code == 2


def test_unknown_config_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(main, ["--cfg", "quickstart", "quickstrat"])
    assert raised.value.code == 2
    assert "did you mean 'quickstart'" in capsys.readouterr().err
