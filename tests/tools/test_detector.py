"""tools/detector.py from the command line."""

from pathlib import Path

import pytest

from pose.cli import run
from pose.tools.detector import main


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    import torch

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.delenv("DYCONV_POSE_DETECTOR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_set_show_and_unset(home, capsys):
    setting = home / "dyconv-pose/detector"
    main(["show"])
    assert capsys.readouterr().out == (
        "auto: ssdlite320_mobilenet_v3_large of torchvision (not downloaded yet); no detector is set\n"
    )
    main(["set", "none"])
    assert capsys.readouterr().out == f"auto: none, from {setting}\n"
    assert setting.read_text() == "none\n"
    main(["unset"])
    assert capsys.readouterr().out.startswith(f"{setting}: removed\nauto: ssdlite320")
    main(["unset"])
    assert capsys.readouterr().out.startswith(f"{setting}: nothing was set\n")


def test_show_names_the_environment_variable(home, capsys, monkeypatch):
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "/models/person.onnx")
    main(["show"])
    assert capsys.readouterr().out == (
        "auto: /models/person.onnx, from the environment variable DYCONV_POSE_DETECTOR\n"
    )


def test_a_file_that_is_no_detector_is_refused_and_not_stored(home, refusal):
    (home / "bad.onnx").write_bytes(b"bad")
    assert "bad.onnx: not an ONNX model" in refusal(lambda: run(main, ["set", str(home / "bad.onnx")]))
    assert "no such detector file" in refusal(lambda: run(main, ["set", str(home / "no.onnx")]))
    assert not (home / "dyconv-pose").exists()


@pytest.mark.parametrize("argv", [["set"], ["show", "a.onnx"], ["reset"], []])
def test_wrong_arguments_exit_with_status_2(argv):
    with pytest.raises(SystemExit) as caught:
        run(main, argv)
    assert caught.value.code == 2


@pytest.mark.parametrize("file", ["data/detector/yolox_nano.onnx", "detector/rtmdet_nano_person.onnx"])
def test_a_real_detector_is_set_and_used(home, shared, file, capsys, caplog):
    pytest.importorskip("onnxruntime")
    from pose.tools.demo_video import main as demo

    main(["set", str(shared / file)])
    assert f"auto: {shared / file}, from" in capsys.readouterr().out
    image = sorted((shared / "data/coco_person_small/val").iterdir())[0]
    with caplog.at_level("INFO"):
        demo(["--input", str(image), "--output", str(home / "drawn.jpg"), "--no-flip"])
    assert f"detector: {shared / file}, from {home}/dyconv-pose/detector" in caplog.messages
