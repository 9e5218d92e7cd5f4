import contextlib
import json
import math
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pose.config.loader import (
    CONFIG_FOLDER,
    config_with_origin,
    dump,
    json_schema,
    load_any_config,
    load_config,
    packaged_names,
)
from pose.config.pose import Config, SyntheticConfig
from pose.config.tree import Leaf, Tree, merge, values
from pose.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(path: Path | str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value), "an error is one line"
    return str(caught.value)


# --- what a file means


def test_a_file_says_what_differs_from_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "train: {epochs: 3}"))
    assert config == Config(name="mine", train=Config().train.model_copy(update={"epochs": 3}))


def test_the_name_is_the_files_and_not_its_bases(tmp_path: Path) -> None:
    write(tmp_path, "name: base_name\nseed: 1", "base.yaml")
    assert load_config(write(tmp_path, "base: base.yaml")).name == "mine"
    assert load_config(write(tmp_path, "base: base.yaml\nname: given")).name == "given"
    assert load_config(tmp_path / "mine.yaml", ["name=other"]).name == "other"


def test_later_bases_win_and_the_file_wins_over_all(tmp_path: Path) -> None:
    write(tmp_path, "train: {epochs: 1, batch_size: 1, workers: 1, milestones: [1, 2, 3]}", "a.yaml")
    write(tmp_path, "train: {epochs: 2, batch_size: 2}", "b.yaml")
    train = load_config(write(tmp_path, "base: [a.yaml, b.yaml]\ntrain: {epochs: 3, milestones: [9]}")).train
    assert (train.epochs, train.batch_size, train.workers, train.milestones) == (3, 2, 1, (9,))


def test_bases_are_relative_to_their_file_and_may_have_bases(tmp_path: Path) -> None:
    write(tmp_path, "seed: 7", "deep/down/root.yaml")
    write(tmp_path, "base: down/root.yaml", "deep/middle.yaml")
    assert load_config(write(tmp_path, "base: deep/middle.yaml")).seed == 7


def test_two_bases_may_share_a_base(tmp_path: Path) -> None:
    write(tmp_path, "seed: 7", "root.yaml")
    write(tmp_path, "base: root.yaml", "a.yaml")
    write(tmp_path, "base: root.yaml", "b.yaml")
    assert load_config(write(tmp_path, "base: [a.yaml, b.yaml]")).seed == 7


def test_a_base_may_be_a_packaged_config(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "base: quickstart\nseed: 5"))
    assert config.model == load_config("quickstart").model
    assert config.seed == 5


def test_null_takes_a_section_of_the_base_away_and_a_mapping_brings_it_back(tmp_path: Path) -> None:
    write(tmp_path, "data: {synthetic: {train_images: 5}}", "base.yaml")
    path = write(tmp_path, "base: base.yaml\ndata: {synthetic: null}")
    assert load_config(path).data.synthetic is None
    assert load_config(path, ["data.synthetic={}"]).data.synthetic == SyntheticConfig()
    assert load_config(path, ["data.synthetic.seed=3"]).data.synthetic == SyntheticConfig(seed=3)


def test_overrides_are_yaml_and_the_last_one_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1")
    config = load_config(
        path,
        [
            "seed=2",
            "train.milestones=[3, 4]",
            "model={width: 0.5, head: type_a}",
            "test.flip=false",
            "seed=3",
            "data.root=a=b",
        ],
    )
    assert (config.seed, config.train.milestones, config.model.width, config.test.flip) == (3, (3, 4), 0.5, False)
    assert config.data.root == Path("a=b")


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_numbers_may_be_written_as_python_prints_them(value: float) -> None:
    assert load_config("quickstart", [f"train.learning_rate={value!r}"]).train.learning_rate == value


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "1.e-3", "1.0e-3", "0.001", ".001", "10e-4"])
def test_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, f"train: {{learning_rate: {text}}}")).train.learning_rate == 1e-3


# --- merging, as algebra

KEYS = st.sampled_from("abc")
PLAIN = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
OPTIONS = st.dictionaries(KEYS, PLAIN, max_size=3)


def as_tree(options: dict[str, Any]) -> Tree:
    return {k: as_tree(v) if isinstance(v, dict) else Leaf(v, "somewhere") for k, v in options.items()}


@given(OPTIONS)
def test_merging_with_nothing_or_itself_changes_nothing(options: dict[str, Any]) -> None:
    tree = as_tree(options)
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree
    assert values(tree) == options


@given(OPTIONS, OPTIONS)
def test_after_a_merge_the_upper_options_all_hold(under: dict[str, Any], over: dict[str, Any]) -> None:
    merged = values(merge(as_tree(under), as_tree(over)))

    def holds(wanted: Any, got: Any) -> bool:
        if isinstance(wanted, dict):
            return isinstance(got, dict) and all(key in got and holds(wanted[key], got[key]) for key in wanted)
        return bool(wanted == got)

    assert holds(over, merged)
    assert set(merged) == set(under) | set(over)


# --- where values come from


def test_every_option_has_its_origin(tmp_path: Path) -> None:
    write(tmp_path, "seed: 4\ntrain:\n  epochs: 8\n  workers: 0\n", "base.yaml")
    path = write(tmp_path, "base: base.yaml\n\ntrain:\n  workers: 1\n  milestones: [1,\n    2]\n")
    rows = {key: (value, origin) for key, value, origin in config_with_origin(path, ["test.flip=false"])}
    assert rows["seed"] == (4, f"{tmp_path / 'base.yaml'}:1")
    assert rows["train.epochs"] == (8, f"{tmp_path / 'base.yaml'}:3")
    assert rows["train.workers"] == (1, f"{path}:4")
    assert rows["train.milestones"] == ([1, 2], f"{path}:5")
    assert rows["test.flip"] == (False, "command line")
    assert rows["model.width"] == (1.0, "default")
    assert rows["name"] == ("mine", "file name")


def test_a_file_below_the_working_folder_is_shown_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "seed: 4", "configs/mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert ("seed", 4, str(Path("configs/mine.yaml:1"))) in config_with_origin("configs/mine.yaml")


# --- there and back

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)
CONFIGS = st.builds(
    lambda name, seed, rate, limits, clip, root, skeleton: Config.model_validate(
        {
            "name": name,
            "seed": seed,
            "skeleton": skeleton,
            "train": {"learning_rate": rate, "gradient_clip": clip},
            "augment": {"scale_limits": limits},
            "data": {"root": root, "synthetic": {"seed": seed}},
        }
    ),
    NAMES
    | st.sampled_from(["1e-3", "null", "yes", "0x1F", "1_000", "~", "2020-01-01", "a: b", "# c", "1:30", "=", "<<"]),
    st.integers(min_value=0),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.tuples(st.floats(0.01, 1), st.floats(1, 100)),
    st.none() | st.floats(1e-300, 1),
    NAMES,
    st.just("coco") | st.builds(lambda names: {"names": names}, st.lists(NAMES, min_size=1, max_size=4, unique=True)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CONFIGS)
def test_a_dump_loads_back_equal(tmp_path: Path, config: Config) -> None:
    assert load_config(write(tmp_path, dump(config), "other_name.yaml")) == config


def test_a_dump_is_yaml_for_everybody_and_short_lists_stay_on_their_line() -> None:
    config = load_config("quickstart")
    assert yaml.safe_load(dump(config)) == config.model_dump(mode="json")
    assert "  size_hw: [128, 96]\n" in dump(config)


def test_the_schema_knows_every_option_and_base() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {*Config.model_fields, "base"}
    assert schema["$defs"]["TrainConfig"]["properties"]["epochs"]["description"] == "Passes over the training persons."
    assert schema["$defs"]["TrainConfig"]["additionalProperties"] is False


# --- the packaged configs


def all_files() -> list[Path]:
    return sorted(CONFIG_FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.stem)
def test_a_packaged_config_loads_and_says_what_it_is(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    load_any_config(path)
    if path.parent.name != "_base_":
        assert f"--cfg configs/{path.relative_to(CONFIG_FOLDER).as_posix()}" in second


@pytest.mark.parametrize("name", [name for name in packaged_names() if name.startswith("pose/")])
def test_the_name_of_a_pose_config_says_what_the_model_is(name: str) -> None:
    config = load_config(name)
    head, kind = config.name.split("_")[:2]
    model = config.model
    assert model.head == {"A": "type_a", "B": "type_b"}[head]
    dynamic = {"static": (False, False), "dy": (True, True), "dybackbone": (True, False), "dyhead": (False, True)}[kind]
    assert (model.dynamic_backbone, model.dynamic_head) == dynamic
    assert math.isclose(model.width, float(config.name.split("_w")[1].split("_")[0]) if "_w" in config.name else 1.0)
    assert config.name.split("_", 2)[2].startswith(model.backbone.replace("_v", "v"))
    assert "x".join(map(str, config.input.size_hw)) in config.name


def test_a_packaged_config_is_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart") == load_config("quickstart.yaml") == load_config(CONFIG_FOLDER / "quickstart.yaml")
    (tmp_path / "quickstart").mkdir()  # a folder of that name is not a config
    assert load_config("quickstart").name == "quickstart"


# --- mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train:\n  epoch: 3", ":2: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("trian: {}", ": unknown key 'trian'; did you mean 'train'?"),
        ("trian: {epochs: 2}", ":1: unknown key 'trian'; did you mean 'train'?"),
        ("learning_rate: 1", ":1: unknown key 'learning_rate'; did you mean 'train.learning_rate'?"),
        ("xyzzy: 1", ":1: unknown key 'xyzzy'"),
        ("on: 1", ":1: unknown key 'on'"),
        ("1: 1", ":1: unknown key '1'"),
        ("train: {epochs: ten}", ":1: train.epochs: expected a valid integer"),
        ("train: {epochs: 0}", ":1: train.epochs: expected greater than 0, got 0"),
        ("train: {epochs:}", ":1: train.epochs: expected a valid integer, got nothing"),
        ("train: {learning_rate: .nan}", ":1: train.learning_rate: expected a finite number, got nan"),
        ("train:\n  loss: mes", ":2: train.loss: expected 'mse' or 'cross_entropy', got 'mes'; did you mean 'mse'?"),
        ("train: 3", ":1: train: expected a mapping of options, got 3"),
        ("train:", ":1: train: expected a mapping of options, got nothing"),
        ("input:\n  size_hw: [256]", ":2: input.size_hw.1: expected a value, got none"),
        ("input: {size_hw: [256, 192, 1]}", ":1: input.size_hw: expected at most 2 items, not 3"),
        ("input: {size_hw: [250, 192]}", ":1: input: size_hw must be multiples of 32"),
        ("skeleton: people", ":1: skeleton: expected 'coco' or a mapping of options, got 'people'"),
        ("skeleton: {names: [a], limb: []}", ":1: unknown key 'skeleton.limb'; did you mean 'skeleton.limbs'?"),
        ("skeleton: {limbs: []}", ":1: skeleton.names: expected a value, got none"),
        ("seed: 1\nskeleton: {names: [a, a]}", ":2: skeleton: expected different, non-empty keypoint names"),
        ("model: {head: type_a, dynamic_head: true}", ":1: model: dynamic_head needs head: type_b"),
        ("model:\n  head: type_a\n  dynamic_head: true", ":3: model: dynamic_head needs head: type_b"),
        ("model: {num_kernels: 0}", ":1: model.num_kernels: expected greater than 0 or a list, got 0"),
        ("model: {num_kernels: [4, 0, 4]}", ":1: model.num_kernels.1: expected greater than 0, got 0"),
        ("model: {num_kernels: [4, 4]}", ":1: model: num_kernels must be one K, or one for each of the 3"),
        ("train: {batch_size: 3, accumulate: 2}", ": train.batch_size 3 must be a multiple of train.accumulate 2"),
        ("seed: 1\nseed: 2", ":2: key 'seed' stands twice"),
        ("train:\n  epochs: 1\n  epochs: 1", ":3: key 'epochs' stands twice"),
        ("", ": expected a mapping of options (key: value), got an empty file"),
        ("# only a comment", ": expected a mapping of options (key: value), got an empty file"),
        ("- a\n- b", ": expected a mapping of options (key: value), got ['a', 'b']"),
        ("hello", ": expected a mapping of options (key: value), got 'hello'"),
        ("train: {epochs: 1", ": not YAML at line 1"),
        ("a: b: c", ": not YAML at line 1, column 5"),
        ("seed: !!python/object:os.system x", ": not YAML at line 1"),
        ("seed: 1\n---\nseed: 2", ": not YAML at line 2"),
        ("train: &x {epochs: 1}\ntest: *x", ": not YAML: an alias (*) at line 2"),
        ("train: &x {epochs: *x}", ": not YAML: an alias (*) at line 1"),
        ("seed: \x07", ": not YAML: unacceptable character"),
        ("[a]: 1", ":1: expected a plain key"),
        ("seed: 2020-99-99", ": not YAML: month must be in 1..12"),
        ("base: {a: 1}", ":1: base: expected a file name or a list of them, got {'a': 1}"),
        ("base: [1]", ":1: base: expected a file name or a list of them, got [1]"),
        ("seed: 1\nbase: nope.yaml", ":2: base nope.yaml: expected a YAML file or the name of a packaged config"),
        ("base: mine.yaml", ": base files form a circle"),
        ("base:", ":1: base: expected a file name or a list of them, got None"),
    ],
)
def test_a_mistake_in_a_file_is_explained_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    assert message(path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "command line: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("train.epochs=x", "command line: train.epochs: expected a valid integer"),
        ("train.epochs.more=1", "command line: train.epochs: expected a valid integer, got {'more': 1}"),
        ("train.epochs", "command line: expected key=value, such as train.epochs=20, got 'train.epochs'"),
        ("=3", "command line: expected key=value"),
        ("train..epochs=3", "command line: expected key=value"),
        ("base=quickstart", "command line: unknown key 'base'"),
        ("train.milestones=[1", "command line: train.milestones: not YAML at line 1, column 3"),
        ("model={width: 1, width: 2}", "command line: key 'width' stands twice"),
    ],
)
def test_a_mistake_in_an_override_is_explained(override: str, expected: str) -> None:
    assert message("quickstart", override).startswith(expected)


def test_all_mistakes_are_told_at_once_each_with_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "train: {epochs: x}", "base.yaml")
    path = write(tmp_path, "base: base.yaml\nsede: 1")
    text = message(path, "test.flop=1")
    assert text.startswith("3 problems: (1) ")
    assert f"{tmp_path / 'base.yaml'}:1: train.epochs" in text
    assert f"{path}:2: unknown key 'sede'; did you mean 'seed'?" in text
    assert "command line: unknown key 'test.flop'; did you mean 'test.flip'?" in text


def test_a_circle_of_bases_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "base: b.yaml", "a.yaml")
    write(tmp_path, "base: a.yaml", "b.yaml")
    assert "a.yaml -> b.yaml -> a.yaml" in message("a.yaml")


def test_a_config_that_is_not_there_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1", "experiment.yaml")
    assert "did you mean 'quickstart'?" in message("quickstrat")
    assert f"did you mean '{tmp_path / 'experiment.yaml'}'?" in message(tmp_path / "experimant.yaml")
    assert "expected a YAML file" in message(tmp_path)
    assert "expected a YAML file" in message("")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    assert message(path) == f"{path}: expected YAML in UTF-8, got binary data; is this a config file?"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(string.printable, max_size=40))
def test_no_text_brings_anything_but_a_config_or_a_config_error(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with contextlib.suppress(ConfigError):
        load_config(path)
