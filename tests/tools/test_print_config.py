import json
from pathlib import Path

import pytest

from pose.cli import run
from pose.config.loader import load_config, packaged_names
from pose.errors import ConfigError
from pose.tools.print_config import main


def test_each_value_is_printed_with_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\n", encoding="utf-8")
    main(["--cfg", str(path), "train.epochs=7"])
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    assert lines["seed"].startswith("3 ")
    assert lines["seed"].endswith(f"# {path}:1")
    assert lines["train.epochs"].startswith("7 ")
    assert lines["train.epochs"].endswith("# command line")
    assert lines["train.milestones"].endswith("# default")


def test_yaml_loads_to_an_equal_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--cfg", "quickstart", "--yaml", "seed=9"])
    path = tmp_path / "resolved.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(path) == load_config("quickstart", ["seed=9"])


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--schema"])
    assert "train" in json.loads(capsys.readouterr().out)["properties"]


def test_classification_configs_are_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--cfg", "imagenet/dy_mobilenetv2", "--yaml"])
    assert "mixup: 0.2" in capsys.readouterr().out
    main(["--schema", "classification"])
    assert "mixup" in capsys.readouterr().out


def test_every_packaged_config_is_listed_once_in_a_group_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list"])

    *blocks, closing = capsys.readouterr().out.strip().split("\n\n")
    groups = [block.splitlines() for block in blocks]
    listed = [line.split(maxsplit=1) for _, *lines in groups for line in lines]
    assert sorted(name for name, _ in listed) == packaged_names()
    assert all(len(description) > 20 and not description.startswith("#") for _, description in listed)
    assert all(title.endswith(":") for title, *_ in groups)
    assert "Other:" not in {title for title, *_ in groups}
    assert "--cfg NAME" in closing


def test_the_configs_for_fine_tuning_are_a_group_before_those_that_need_gpus(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--list"])

    text = capsys.readouterr().out
    finetune = text[text.index("Your own people") : text.index("A few thousand people")]
    assert [line.split()[0] for line in finetune.strip().splitlines()[1:]] == [
        "pose/B_dy_mobilenetv2_256x192_finetune",
        "pose/B_static_mobilenetv2_224x160_finetune",
        "pose/B_static_mobilenetv2_256x192_finetune",
    ]
    assert text.index("Your own people") < text.index("needs GPUs")


def test_a_config_is_required() -> None:
    with pytest.raises(ConfigError, match="--cfg"):
        main([])


def test_two_output_formats_are_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, ["--cfg", "quickstart", "--yaml", "--schema"])
    assert caught.value.code == 2
