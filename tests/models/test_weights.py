"""Weight files: atomic writes, no code execution, strict names and shapes."""

import os
import pickle
import resource
import stat
from pathlib import Path

import pytest
import torch

from pose.config.classification import ClassFoldersConfig, ClassificationConfig, ClassifierConfig
from pose.config.pose import Config, InputConfig, ModelConfig, TrainConfig
from pose.config.skeleton import SkeletonConfig, resolved
from pose.errors import CheckpointError, MediaError
from pose.models import build_classifier, build_pose_net
from pose.models.weights import (
    find_weights,
    load_classifier_for,
    load_pose_net,
    load_strict,
    load_weights_for,
    read_state_dict,
    read_weights,
    take_keypoints,
    write_weights,
)

CONFIG = Config(
    model=ModelConfig(width=0.35, head_width=0.25, dynamic_backbone=True), input=InputConfig(size_hw=(64, 64))
)


def changed(**sections):
    return CONFIG.model_copy(update=sections)


@pytest.fixture(scope="module")
def model():
    return build_pose_net(CONFIG)


@pytest.fixture
def content(model):
    return {"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}


@pytest.fixture
def file(content, tmp_path):
    write_weights(content, tmp_path / "best.pt")
    return tmp_path / "best.pt"


def assert_rejected(call, *parts):
    with pytest.raises(CheckpointError) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert all(str(part) in raised.value.args[0] for part in parts), raised.value.args[0]


def assert_same_state(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_model_is_loaded_as_it_was_saved(model, file):
    loaded, config = load_pose_net(file)
    images = torch.randn(2, 3, 64, 64)

    assert config == CONFIG
    assert not loaded.training
    assert_same_state(loaded.state_dict(), model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded.heatmaps(images), load_weights_for(CONFIG, file).heatmaps(images))


def test_path_may_be_a_string(file):
    assert load_pose_net(str(file))[1] == CONFIG


def test_write_creates_folders_and_keeps_other_content(tmp_path):
    path = tmp_path / "runs" / "one" / "last.pt"
    content = {"model": {}, "config": {"task": "pose"}, "progress": {"epoch": 3}}

    write_weights(content, path)

    assert read_weights(path) == content
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_weight_file_has_the_permissions_of_any_new_file(file, tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()

    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError("disk full"), MediaError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_failed_write_leaves_only_the_old_file(file, content, monkeypatch, error, raised):
    def partial_write(path, _):
        path.write_text("half")
        raise error

    before = file.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", partial_write)

    with pytest.raises(raised):
        write_weights(content, file)

    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_old_file_is_kept_until_the_new_one_is_complete(file, content, monkeypatch):
    before, write_bytes = file.read_bytes(), Path.write_bytes

    def checked_write(path, data):
        write_bytes(path, data)
        assert file.read_bytes() == before

    monkeypatch.setattr(Path, "write_bytes", checked_write)

    write_weights({**content, "more": 1}, file)

    assert read_weights(file)["more"] == 1


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99, 0.99999])
def test_truncated_weight_file_is_rejected(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])

    assert_rejected(lambda: read_weights(file), file, "not a readable weight file")


@pytest.mark.parametrize(
    "junk", [b".", b"hello", b"rx", b"\x80\x02.", b"<html>404</html>", bytes(range(256))], ids=repr
)
def test_file_without_tensors_is_rejected(tmp_path, junk):
    path = tmp_path / "junk.pt"
    path.write_bytes(junk)

    assert_rejected(lambda: read_weights(path), path, "not a readable weight file")


class RunsCode:
    """Creates a folder when unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, save_pickle])
def test_code_in_a_file_is_rejected_and_not_executed(tmp_path, save):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    save({"model": RunsCode(trace), "config": {"task": "pose"}}, path)

    assert_rejected(lambda: read_weights(path), path)
    assert_rejected(lambda: load_pose_net(path), path)
    assert_rejected(lambda: read_state_dict(path), path)

    assert not trace.exists()
    pickle.loads(pickle.dumps(RunsCode(trace)))
    assert trace.exists(), "the code does not run without protection either, so this test shows nothing"


def test_missing_weight_file_is_named(tmp_path):
    assert_rejected(lambda: read_weights(tmp_path / "none.pt"), tmp_path / "none.pt", "no such weight file")


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {}}, {"config": {}}, {"state_dict": {}}, torch.ones(3)], ids=repr
)
def test_file_without_model_and_config_is_rejected(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")

    assert_rejected(lambda: read_weights(tmp_path / "other.pt"), "other.pt", "'model' and 'config'")


def test_state_dict_is_read_as_it_was_saved(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "model.pth")

    state = read_state_dict(tmp_path / "model.pth")

    assert list(state) == list(model.state_dict())  # from_torchvision relies on the order
    assert_same_state(state, model.state_dict())


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.ones(3), {"epoch": 3}, {"model": {"a": torch.ones(1)}}, {1: torch.ones(1)}, None],
    ids=repr,
)
def test_other_content_than_a_state_dict_is_rejected(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")

    assert_rejected(lambda: read_state_dict(tmp_path / "other.pth"), "other.pth", "expected a state dict of tensors")


def test_read_state_dict_rejects_missing_truncated_and_weight_files(model, file, tmp_path):
    path = tmp_path / "model.pth"
    assert_rejected(lambda: read_state_dict(path), path, "no such weight file")
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert_rejected(lambda: read_state_dict(path), path, "not a readable weight file")
    assert_rejected(lambda: read_state_dict(file), file, "expected a state dict of tensors")


@pytest.mark.parametrize("config", [None, [1], {}, {"model": {"width": 1}}, {"task": "poses"}, {"task": [1]}], ids=str)
def test_config_without_known_task_is_rejected(content, tmp_path, config):
    write_weights({**content, "config": config}, tmp_path / "other.pt")

    assert_rejected(lambda: read_weights(tmp_path / "other.pt"), "other.pt", "task 'pose' or 'classification'")


@pytest.mark.parametrize("options", [{"model": {"widht": 1}}, {"model": {"width": -1}}], ids=str)
def test_config_with_invalid_options_is_rejected(content, tmp_path, options):
    write_weights({**content, "config": {"task": "pose", **options}}, tmp_path / "old.pt")

    assert_rejected(lambda: load_pose_net(tmp_path / "old.pt"), "old.pt", "does not fit this version")


def test_weights_of_another_shape_are_rejected(file):
    small = changed(model=CONFIG.model.model_copy(update={"width": 0.5}))

    assert_rejected(lambda: load_weights_for(small, file), file, "has shape", "expected", "differences")


def test_dynamic_weights_for_a_static_model_are_rejected(file):
    static = changed(model=CONFIG.model.model_copy(update={"dynamic_backbone": False}))

    assert_rejected(lambda: load_weights_for(static, file), file, "unexpected")


def test_weights_of_another_skeleton_are_rejected(file):
    assert_rejected(
        lambda: load_weights_for(changed(skeleton=SkeletonConfig(names=("a", "b"))), file),
        "trained with the keypoints ['nose', ",
        "the config says ['a', 'b']",
    )


def test_weights_trained_with_other_flip_pairs_are_rejected(file):
    unpaired = resolved(CONFIG.keypoints).model_copy(update={"flip_pairs": ()})

    assert_rejected(
        lambda: load_weights_for(changed(skeleton=unpaired), file), "flip pairs left_eye<->right_eye, ", "says none"
    )


def test_a_config_that_reads_annotations_takes_the_keypoints_of_the_weights(file):
    config = changed(skeleton="from_annotations")

    assert take_keypoints(config, file).keypoints == CONFIG.keypoints
    assert load_weights_for(take_keypoints(config, file), file).head[-1].out_channels == 17
    assert take_keypoints(CONFIG, file) is CONFIG


@pytest.mark.parametrize("edit", ["missing", "unexpected"])
def test_missing_or_unexpected_name_is_rejected_and_nothing_is_loaded(model, edit):
    state = {name: value + 1 for name, value in model.state_dict().items()}
    if edit == "missing":
        del state["head.7.bias"]
    else:
        state["head.7.more"] = torch.ones(1)
    other = build_pose_net(CONFIG)
    before = {name: value.clone() for name, value in other.state_dict().items()}

    assert_rejected(lambda: load_strict(other, state, Path("x.pt")), "x.pt", f"{edit} 'head.7", "(1 differences)")

    assert_same_state(other.state_dict(), before)


def test_moving_average_is_loaded_if_the_file_has_one(model, content, tmp_path):
    average = {name: value + 1 for name, value in model.state_dict().items()}
    write_weights({**content, "ema": average}, tmp_path / "with.pt")
    write_weights({**content, "ema": None}, tmp_path / "without.pt")

    assert_same_state(load_pose_net(tmp_path / "with.pt")[0].state_dict(), average)
    assert_same_state(load_pose_net(tmp_path / "without.pt")[0].state_dict(), model.state_dict())


def test_weights_of_another_loss_are_rejected(file):
    assert_rejected(
        lambda: load_weights_for(changed(train=TrainConfig(loss="cross_entropy")), file), file, "mse", "cross_entropy"
    )


def test_other_training_and_input_options_may_differ(file):
    config = changed(train=TrainConfig(batch_size=7, epochs=3), input=InputConfig(size_hw=(96, 64)))

    assert not load_weights_for(config, file).training


def touch(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))
    return path


def test_folder_gives_its_newest_best_file_or_else_its_newest_last_file(tmp_path):
    assert_rejected(lambda: find_weights(tmp_path), tmp_path, "neither best.pt nor last.pt")
    touch(tmp_path / ".best.pt.1a2b3c4d", 900)
    assert_rejected(lambda: find_weights(tmp_path), tmp_path)

    last = touch(tmp_path / "b" / "last.pt", 500)
    touch(tmp_path / "a" / "last.pt", 400)
    assert find_weights(tmp_path) == last

    touch(tmp_path / "a" / "best.pt", 200)
    best = touch(tmp_path / "0" / "deep" / "best.pt", 300)
    assert find_weights(tmp_path) == best
    assert find_weights(tmp_path / "b") == last


def test_run_folder_loads_its_weight_file(file):
    assert_same_state(load_pose_net(file.parent)[0].state_dict(), load_pose_net(file)[0].state_dict())
    assert_rejected(lambda: load_pose_net(file.parent / "none"), "no such weight file")


def test_classifier_weights_are_rejected_for_a_pose_model(tmp_path):
    config = ClassificationConfig(data=ClassFoldersConfig(classes=("a", "b")), model=ClassifierConfig(width=0.35))
    model = build_classifier(config)
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "best.pt")

    for call in (lambda: load_pose_net(tmp_path), lambda: load_weights_for(CONFIG, tmp_path)):
        assert_rejected(call, tmp_path, "expected weights of a pose model, got a classifier's", "train.start")
    loaded, classes = load_classifier_for(config, tmp_path)
    assert classes == ("a", "b")
    assert not loaded.training
    assert_same_state(loaded.state_dict(), model.state_dict())


def test_classifier_weights_must_name_their_classes(tmp_path):
    config = ClassificationConfig(model=ClassifierConfig(width=0.35))
    content = {"model": build_classifier(config).state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")

    assert_rejected(
        lambda: load_classifier_for(config, tmp_path / "best.pt"), "does not name the classes (data.classes)"
    )


@pytest.mark.parametrize("options", [{"width": 4}, {"head_width": 4}], ids=str)
def test_a_config_of_a_giant_model_is_refused_without_its_memory(options, content, tmp_path):
    content["config"]["model"] |= options
    write_weights(content, tmp_path / "best.pt")

    assert_rejected(lambda: load_pose_net(tmp_path), "made for another model")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KB
    assert used < 8 << 20


@pytest.mark.parametrize("options", [{"depth": 1e6}, {"num_kernels": 10**9}, {"width": 1e30}], ids=str)
def test_a_config_that_no_model_can_have_is_refused(options, content, tmp_path):
    content["config"]["model"] |= options
    write_weights(content, tmp_path / "best.pt")

    assert_rejected(lambda: load_pose_net(tmp_path), "its config")


def test_weights_in_half_precision_are_loaded_in_single_precision(model, content, tmp_path):
    half = {name: value.half() if value.dim() == 4 else value for name, value in model.state_dict().items()}
    write_weights({**content, "model": half}, tmp_path / "best.pt")

    loaded = load_pose_net(tmp_path)[0].state_dict()

    assert {value.dtype for value in loaded.values()} == {torch.float32, torch.int64}
    assert_same_state(loaded, {name: value.to(loaded[name].dtype) for name, value in half.items()})


def test_a_full_disk_is_one_line_and_keeps_the_older_file(file, content):
    before, (_, most) = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        with pytest.raises(MediaError, match=r"best\.pt: cannot write it \(File too large\)"):
            write_weights(content, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
