"""Weight files: whole or not at all, never a door for code, and only for the model they were made for."""

import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from pose.config.classification import ClassFoldersConfig, ClassificationConfig
from pose.config.pose import BackboneConfig, Config, InputConfig, ModelConfig, SkeletonConfig, TrainConfig
from pose.errors import CheckpointError
from pose.models import build_classifier, build_pose_net
from pose.models.weights import (
    find_weights,
    load_classifier_for,
    load_pose_net,
    load_strict,
    load_weights_for,
    read_state_dict,
    read_weights,
    write_weights,
)

CONFIG = Config(
    model=ModelConfig(width=0.35, head_width=0.25, dynamic_backbone=True), input=InputConfig(size_hw=(64, 64))
)


def changed(**sections):
    return CONFIG.model_copy(update=sections)


@pytest.fixture(scope="module")
def net():
    return build_pose_net(CONFIG)


@pytest.fixture
def content(net):
    return {"model": net.state_dict(), "config": CONFIG.model_dump(mode="json")}


@pytest.fixture
def file(content, tmp_path):
    write_weights(content, tmp_path / "best.pt")
    return tmp_path / "best.pt"


def refused(call, *parts):
    with pytest.raises(CheckpointError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(str(part) in str(caught.value) for part in parts), str(caught.value)


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_model_comes_back_as_it_was(net, file):
    loaded, config = load_pose_net(file)
    images = torch.randn(2, 3, 64, 64)

    assert config == CONFIG
    assert not loaded.training
    assert_same_state(loaded.state_dict(), net.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded.heatmaps(images), load_weights_for(CONFIG, file).heatmaps(images))


def test_a_path_may_be_a_string(file):
    assert load_pose_net(str(file))[1] == CONFIG


def test_folders_are_made_and_other_content_is_kept(tmp_path):
    path = tmp_path / "runs" / "one" / "last.pt"

    write_weights({"model": {}, "config": {}, "progress": {"epoch": 3}}, path)

    assert read_weights(path) == {"model": {}, "config": {}, "progress": {"epoch": 3}}
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_others_may_read_a_weight_file_as_any_new_file(file, tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()

    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(file, content, monkeypatch, error):
    def half_a_save(_, path):
        path.write_bytes(b"half")
        raise error

    before = file.read_bytes()
    monkeypatch.setattr(torch, "save", half_a_save)

    with pytest.raises(type(error)):
        write_weights(content, file)

    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_old_file_stands_until_the_new_one_is_whole(file, content, monkeypatch):
    before, save = file.read_bytes(), torch.save

    def watched(*arguments):
        save(*arguments)
        assert file.read_bytes() == before

    monkeypatch.setattr(torch, "save", watched)

    write_weights({**content, "more": 1}, file)

    assert read_weights(file)["more"] == 1


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99, 0.99999])
def test_a_truncated_file_is_refused(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])

    refused(lambda: read_weights(file), file, "not a readable weight file")


@pytest.mark.parametrize(
    "junk", [b".", b"hello", b"rx", b"\x80\x02.", b"<html>404</html>", bytes(range(256))], ids=repr
)
def test_what_is_no_weight_file_is_refused(tmp_path, junk):
    path = tmp_path / "junk.pt"
    path.write_bytes(junk)

    refused(lambda: read_weights(path), path, "not a readable weight file")


class RunsCode:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, save_pickle])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, save):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    save({"model": RunsCode(trace), "config": {}}, path)

    refused(lambda: read_weights(path), path)
    refused(lambda: load_pose_net(path), path)
    refused(lambda: read_state_dict(path), path)

    assert not trace.exists()
    pickle.loads(pickle.dumps(RunsCode(trace)))
    assert trace.exists(), "the code of this test does not run when it may"


def test_a_missing_file_is_named(tmp_path):
    refused(lambda: read_weights(tmp_path / "none.pt"), tmp_path / "none.pt", "no such weight file")


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {}}, {"config": {}}, {"state_dict": {}}, torch.ones(3)], ids=repr
)
def test_a_file_of_another_make_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")

    refused(lambda: read_weights(tmp_path / "other.pt"), "other.pt", "'model' and 'config'")


def test_a_bare_state_dict_is_read_as_it_was_saved(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "model.pth")

    state = read_state_dict(tmp_path / "model.pth")

    assert list(state) == list(net.state_dict())  # the order tells torchvision's layers
    assert_same_state(state, net.state_dict())


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.ones(3), {"epoch": 3}, {"model": {"a": torch.ones(1)}}, {1: torch.ones(1)}, None],
    ids=repr,
)
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")

    refused(lambda: read_state_dict(tmp_path / "other.pth"), "other.pth", "expected a state dict of tensors")


def test_a_state_dict_that_is_missing_cut_or_one_of_our_files_is_refused(net, file, tmp_path):
    path = tmp_path / "model.pth"
    refused(lambda: read_state_dict(path), path, "no such weight file")
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: read_state_dict(path), path, "not a readable weight file")
    refused(lambda: read_state_dict(file), file, "expected a state dict of tensors")


@pytest.mark.parametrize("config", [None, {"model": {"widht": 1}}, {"model": {"width": -1}}, [1]], ids=str)
def test_a_config_of_another_version_is_refused(content, tmp_path, config):
    write_weights({**content, "config": config}, tmp_path / "old.pt")

    refused(lambda: load_pose_net(tmp_path / "old.pt"), "old.pt", "does not fit this version")


def test_weights_of_another_shape_are_refused(file):
    small = changed(model=CONFIG.model.model_copy(update={"width": 0.5}))

    refused(lambda: load_weights_for(small, file), file, "the model has", "differences")


def test_weights_of_another_kind_of_model_are_refused(file):
    static = changed(model=CONFIG.model.model_copy(update={"dynamic_backbone": False}))

    refused(lambda: load_weights_for(static, file), file, "which the model has not")


def test_weights_of_another_skeleton_are_refused(file):
    refused(lambda: load_weights_for(changed(skeleton=SkeletonConfig(names=("a", "b"))), file), "is [17, ", "has [2, ")


@pytest.mark.parametrize("edit", ["lacks", "more"])
def test_one_name_too_few_or_too_many_is_refused_and_nothing_is_loaded(net, edit):
    state = {name: value + 1 for name, value in net.state_dict().items()}
    if edit == "lacks":
        del state["head.7.bias"]
    else:
        state["head.7.more"] = torch.ones(1)
    other = build_pose_net(CONFIG)
    before = {name: value.clone() for name, value in other.state_dict().items()}

    refused(lambda: load_strict(other, state, Path("x.pt")), "x.pt", "head.7", "(1 differences)")

    assert_same_state(other.state_dict(), before)


def test_the_moving_average_is_preferred_where_the_run_kept_one(net, content, tmp_path):
    average = {name: value + 1 for name, value in net.state_dict().items()}
    write_weights({**content, "ema": average}, tmp_path / "with.pt")
    write_weights({**content, "ema": None}, tmp_path / "without.pt")

    assert_same_state(load_pose_net(tmp_path / "with.pt")[0].state_dict(), average)
    assert_same_state(load_pose_net(tmp_path / "without.pt")[0].state_dict(), net.state_dict())


def test_a_model_trained_with_another_loss_is_refused(file):
    refused(
        lambda: load_weights_for(changed(train=TrainConfig(loss="cross_entropy")), file), file, "mse", "cross_entropy"
    )


def test_other_options_of_testing_and_training_do_no_harm(file):
    other = changed(train=TrainConfig(batch_size=7, epochs=3), input=InputConfig(size_hw=(96, 64)))

    assert not load_weights_for(other, file).training


def touch(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))
    return path


def test_a_folder_gives_its_newest_best_weights_else_its_newest_last_ones(tmp_path):
    refused(lambda: find_weights(tmp_path), tmp_path, "neither best.pt nor last.pt")
    touch(tmp_path / ".best.pt.1a2b3c4d", 900)
    refused(lambda: find_weights(tmp_path), tmp_path)

    last = touch(tmp_path / "b" / "last.pt", 500)
    touch(tmp_path / "a" / "last.pt", 400)
    assert find_weights(tmp_path) == last

    touch(tmp_path / "a" / "best.pt", 200)
    best = touch(tmp_path / "0" / "deep" / "best.pt", 300)
    assert find_weights(tmp_path) == best
    assert find_weights(tmp_path / "b") == last


def test_a_run_folder_is_as_good_as_its_file(file):
    assert_same_state(load_pose_net(file.parent)[0].state_dict(), load_pose_net(file)[0].state_dict())
    refused(lambda: load_pose_net(file.parent / "none"), "no such weight file")


def test_weights_of_a_classifier_are_not_a_pose_nets(tmp_path):
    config = ClassificationConfig(data=ClassFoldersConfig(classes=("a", "b")), model=BackboneConfig(width=0.35))
    net = build_classifier(config)
    write_weights({"model": net.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "best.pt")

    for call in (lambda: load_pose_net(tmp_path), lambda: load_weights_for(CONFIG, tmp_path)):
        refused(call, tmp_path, "expected weights of a pose model, got a classifier's", "train.start")
    loaded, classes = load_classifier_for(config, tmp_path)
    assert classes == ("a", "b")
    assert not loaded.training
    assert_same_state(loaded.state_dict(), net.state_dict())


def test_a_classifier_must_name_its_classes(tmp_path):
    config = ClassificationConfig(model=BackboneConfig(width=0.35))
    content = {"model": build_classifier(config).state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "best.pt")

    refused(lambda: load_classifier_for(config, tmp_path / "best.pt"), "does not name the classes (data.classes)")
