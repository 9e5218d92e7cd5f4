"""Loading, merging and dumping of configs, the packaged configs, and error messages."""

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

from pose.config.data import SyntheticConfig
from pose.config.loader import (
    CONFIG_FOLDER,
    config_files,
    config_with_origin,
    dump,
    json_schema,
    load_any_config,
    load_config,
    packaged_names,
)
from pose.config.pose import Config
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
    assert "\n" not in str(caught.value), "an error message is one line"
    return str(caught.value.args[0])  # whole: the folders of tests are long


# --- files, bases and overrides


def test_a_file_overrides_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "train: {epochs: 3}"))
    assert config == Config(name="mine", train=Config().train.model_copy(update={"epochs": 3}))


def test_the_name_comes_from_the_file_and_not_from_its_bases(tmp_path: Path) -> None:
    write(tmp_path, "name: base_name\nseed: 1", "base.yaml")
    assert load_config(write(tmp_path, "base: base.yaml")).name == "mine"
    assert load_config(write(tmp_path, "base: base.yaml\nname: given")).name == "given"
    assert load_config(tmp_path / "mine.yaml", ["name=other"]).name == "other"


def test_later_bases_override_earlier_ones_and_the_file_overrides_all(tmp_path: Path) -> None:
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


def test_null_removes_a_section_of_the_base_and_a_mapping_restores_it(tmp_path: Path) -> None:
    write(tmp_path, "data: {synthetic: {train_images: 5}}", "base.yaml")
    path = write(tmp_path, "base: base.yaml\ndata: {synthetic: null}")
    assert load_config(path).data.synthetic is None
    assert load_config(path, ["data.synthetic={}"]).data.synthetic == SyntheticConfig()
    assert load_config(path, ["data.synthetic.seed=3"]).data.synthetic == SyntheticConfig(seed=3)


def test_overrides_are_yaml_and_the_last_one_is_used(tmp_path: Path) -> None:
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
def test_numbers_as_python_prints_them_are_read_exactly(value: float) -> None:
    assert load_config("quickstart", [f"train.learning_rate={value!r}"]).train.learning_rate == value


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "1.e-3", "1.0e-3", "0.001", ".001", "10e-4"])
def test_scientific_notation_is_read_as_a_number(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, f"train: {{learning_rate: {text}}}")).train.learning_rate == 1e-3


# --- merging

KEYS = st.sampled_from("abc")
PLAIN = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
OPTIONS = st.dictionaries(KEYS, PLAIN, max_size=3)


def as_tree(options: dict[str, Any]) -> Tree:
    """Convert plain options to a config tree."""
    return {k: as_tree(v) if isinstance(v, dict) else Leaf(v, "somewhere") for k, v in options.items()}


@given(OPTIONS)
def test_merging_with_an_empty_tree_or_itself_changes_nothing(options: dict[str, Any]) -> None:
    tree = as_tree(options)
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree
    assert values(tree) == options


@given(OPTIONS, OPTIONS)
def test_a_merged_tree_contains_all_overriding_options(base: dict[str, Any], override: dict[str, Any]) -> None:
    merged = values(merge(as_tree(base), as_tree(override)))

    def contains(actual: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return isinstance(actual, dict) and all(
                key in actual and contains(actual[key], expected[key]) for key in expected
            )
        return bool(actual == expected)

    assert contains(merged, override)
    assert set(merged) == set(base) | set(override)


# --- origins


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


def test_a_file_in_the_working_directory_has_a_relative_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "seed: 4", "configs/mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert ("seed", 4, str(Path("configs/mine.yaml:1"))) in config_with_origin("configs/mine.yaml")


# --- dumping


def is_folder_name(text: str) -> bool:
    return text not in (".", "..") and not {*"/\\"} & {*text} and len(text.encode()) <= 200


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
    NAMES.filter(is_folder_name)
    | st.sampled_from(["1e-3", "null", "yes", "0x1F", "1_000", "~", "2020-01-01", "a: b", "# c", "1:30", "=", "<<"]),
    st.integers(0, 2**63 - 1),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.tuples(st.floats(0.01, 1), st.floats(1, 100)),
    st.none() | st.floats(1e-300, 1),
    NAMES,
    st.just("coco") | st.builds(lambda names: {"names": names}, st.lists(NAMES, min_size=1, max_size=4, unique=True)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CONFIGS)
def test_a_dump_loads_to_an_equal_config(tmp_path: Path, config: Config) -> None:
    assert load_config(write(tmp_path, dump(config), "other_name.yaml")) == config


def test_a_dump_is_standard_yaml_with_lists_on_one_line() -> None:
    config = load_config("quickstart")
    assert yaml.safe_load(dump(config)) == config.model_dump(mode="json")
    assert "  size_hw: [128, 96]\n" in dump(config)


def test_json_schema_contains_every_option_and_base() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {*Config.model_fields, "base"}
    assert schema["$defs"]["TrainConfig"]["properties"]["epochs"]["description"].endswith(
        "passes over the training persons."
    )
    assert schema["$defs"]["TrainConfig"]["additionalProperties"] is False


# --- packaged configs


def all_files() -> list[Path]:
    return sorted(CONFIG_FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.stem)
def test_a_packaged_config_loads_and_has_a_comment_with_its_command(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    load_any_config(path)
    if path.parent.name != "_base_":
        assert f"--cfg configs/{path.relative_to(CONFIG_FOLDER).as_posix()}" in second


@pytest.mark.parametrize("name", [name for name in packaged_names() if name.startswith("pose/")])
def test_the_name_of_a_pose_config_matches_the_model(name: str) -> None:
    config = load_config(name)
    head, kind = config.name.split("_")[:2]
    model = config.model
    assert model.head == {"A": "type_a", "B": "type_b"}[head]
    dynamic = {"static": (False, False), "dy": (True, True), "dybackbone": (True, False), "dyhead": (False, True)}[kind]
    assert (model.dynamic_backbone, model.dynamic_head) == dynamic
    assert math.isclose(model.width, float(config.name.split("_w")[1].split("_")[0]) if "_w" in config.name else 1.0)
    assert config.name.split("_", 2)[2].startswith(model.backbone.replace("_v", "v"))
    assert "x".join(map(str, config.input.size_hw)) in config.name


def test_a_packaged_config_is_found_by_name_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart") == load_config("quickstart.yaml") == load_config(CONFIG_FOLDER / "quickstart.yaml")
    (tmp_path / "quickstart").mkdir()  # a folder is not a config
    assert load_config("quickstart").name == "quickstart"


# --- errors


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
        ("train: {start: {a: 1}}", ":1: train.start: expected 'default' or a path, got {'a': 1}"),
        ("train: {epochs: 0}", ":1: train.epochs: expected greater than 0, got 0"),
        ("train: {epochs:}", ":1: train.epochs: expected a valid integer, got nothing"),
        ("train: {learning_rate: .nan}", ":1: train.learning_rate: expected a finite number, got nan"),
        ("train:\n  loss: mes", ":2: train.loss: expected 'mse' or 'cross_entropy', got 'mes'; did you mean 'mse'?"),
        ("train: 3", ":1: train: expected a mapping of options, got 3"),
        ("train:", ":1: train: expected a mapping of options, got nothing"),
        ("input:\n  size_hw: [256]", ":2: input.size_hw.1: expected a value, got none"),
        ("input: {size_hw: [256, 192, 1]}", ":1: input.size_hw: expected at most 2 items, not 3"),
        ("input: {size_hw: [250, 192]}", ":1: input: size_hw must be multiples of 32"),
        (
            "skeleton: people",
            ":1: skeleton: expected 'coco' or 'from_annotations' or a mapping of options, got 'people'",
        ),
        ("skeleton: {names: [a], limb: []}", ":1: unknown key 'skeleton.limb'; did you mean 'skeleton.limbs'?"),
        (
            "skeleton: {names: [a, b], flip_pairs: [[a, c]]}",
            ":1: skeleton: flip_pairs: expected names of keypoints, got 'c'",
        ),
        (
            "skeleton: {names: [tail], half_body: [tial]}",
            ":1: skeleton: half_body: expected names of keypoints, got 'tial'; did you mean 'tail'?",
        ),
        ("seed: 1\nskeleton: {names: [a, a]}", ":2: skeleton: expected unique, non-empty keypoint names"),
        ("model: {head: type_a, dynamic_head: true}", ":1: model: dynamic_head needs head: type_b"),
        ("model:\n  head: type_a\n  dynamic_head: true", ":3: model: dynamic_head needs head: type_b"),
        ("model: {num_kernels: 0}", ":1: model.num_kernels: expected greater than 0 or a list, got 0"),
        ("model: {num_kernels: [4, 0, 4]}", ":1: model.num_kernels.1: expected greater than 0, got 0"),
        ("model: {num_kernels: [4, 4]}", ":1: model: num_kernels must be one K, or a list of one for each of the 3"),
        ("train: {batch_size: 3, accumulate: 2}", ": train.batch_size 3 must be a multiple of train.accumulate 2"),
        ("seed: 1\nseed: 2", ":2: duplicate key 'seed'"),
        ("train:\n  epochs: 1\n  epochs: 1", ":3: duplicate key 'epochs'"),
        ("", ": expected a mapping of options (key: value), got an empty file"),
        ("# only a comment", ": expected a mapping of options (key: value), got an empty file"),
        ("- a\n- b", ": expected a mapping of options (key: value), got ['a', 'b']"),
        ("hello", ": expected a mapping of options (key: value), got 'hello'"),
        ("train: {epochs: 1", ": not YAML at line 1"),
        ("a: b: c", ": not YAML at line 1, column 5"),
        ("seed: !!python/object:os.system x", ": not YAML: a tag (tag:yaml.org,2002:python/object:os.system) at line"),
        ("seed: !!int ''", ": not YAML: a tag (tag:yaml.org,2002:int) at line 1; write the plain value"),
        ("test: {flip: !!bool x}", ": not YAML: a tag"),
        ("seed: 1\nname: !!timestamp x", ": not YAML: a tag (tag:yaml.org,2002:timestamp) at line 2"),
        ("train: !!map {epochs: 1}", ": not YAML: a tag"),
        ("seed: 0x" + 5000 * "f", ": not YAML: an integer beyond 64 bits at line 1"),
        ("seed: " + 5000 * "9", ": not YAML: an integer beyond 64 bits at line 1"),
        ("seed: " + 200_000 * "9", ": not YAML: an integer beyond 64 bits at line 1"),
        ("seed: 9223372036854775808", ": not YAML: an integer beyond 64 bits at line 1"),
        ("seed: 0x_", ": not YAML: invalid literal for int()"),
        ("seed: 1" + 300 * ":1" + ".5", ": not YAML: int too large to convert to float"),
        ("seed: " + 100_000 * "[", ": not YAML: more than 20 levels of lists and mappings at line 1"),
        ("a: " + 30 * "{a: " + "1" + 30 * "}", ": not YAML: more than 20 levels of lists and mappings"),
        ("".join(f"{level * ' '}a:\n" for level in range(500)), ": not YAML: more than 20 levels"),
        (3000 * "- ", ": not YAML: more than 20 levels"),
        ('name: "a\\0b"', ": not YAML: the character '\\x00' at line 1; remove it"),
        ('data: {root: "a\\ud800b"}', ": not YAML: the character '\\ud800' at line 1; remove it"),
        ('data: {root: "a\\nb"}', ": not YAML: the character '\\n' at line 1; remove it"),
        ("a: 1 #" + 600_000 * "x", ": expected a config of at most 500000 characters"),
        ("name: ../../x", ":1: name: expected the name of a folder in runs/ (no path, at most 200 bytes)"),
        ("name: a/b", ":1: name: expected the name of a folder in runs/"),
        ("name: ..", ":1: name: expected the name of a folder in runs/"),
        ("name: ''", ":1: name: expected the name of a folder in runs/"),
        ("name: " + 300 * "n", ":1: name: expected the name of a folder in runs/"),
        ("name: " + 100 * "名", ":1: name: expected the name of a folder in runs/"),
        ("base: " + 300 * "n", ":1: base " + 20 * "n"),
        ("model: {width: 400}", ":1: model.width: expected less than or equal to 4, got 400"),
        ("model: {width: 1.0e-400}", ":1: model.width: expected greater than 0, got 0.0"),
        ("model: {depth: 1.0e+9}", ":1: model.depth: expected less than or equal to 4, got 1000000000.0"),
        ("model: {head_width: 400}", ":1: model.head_width: expected less than or equal to 4, got 400"),
        ("model: {num_kernels: 1000000}", ":1: model.num_kernels: expected less than or equal to 64 or a list"),
        (
            "model: {num_kernels: 64, width: 4}",
            ":1: model: width**2 * depth * num_kernels must be at most 256, got 1024",
        ),
        ("model: {num_kernels: [64, 1, 1], head_width: 4}", ":1: model: head_width**2 * num_kernels must be at most"),
        ("input: {size_hw: [32, 99968]}", ":1: input.size_hw.1: expected less than or equal to 2048, got 99968"),
        ("train: {batch_size: 1000000}", ":1: train.batch_size: expected less than or equal to 65536, got 1000000"),
        ("train: {workers: 5000}", ":1: train.workers: expected less than or equal to 256, got 5000"),
        ("data: {synthetic: {image_wh: [100000, 9]}}", ":1: data.synthetic.image_wh.0: expected less than or equal to"),
        ("skeleton: {names: [" + 2000 * "k," + "]}", ":1: skeleton.names: expected at most 1000 items"),
        ("seed: 1\n---\nseed: 2", ": not YAML at line 2"),
        ("train: &x {epochs: 1}\ntest: *x", ": not YAML: an alias (*) at line 2"),
        ("train: &x {epochs: *x}", ": not YAML: an alias (*) at line 1"),
        ("seed: \x07", ": not YAML: unacceptable character"),
        ("[a]: 1", ":1: expected a scalar key"),
        ("seed: 2020-99-99", ": not YAML: month must be in 1..12"),
        ("base: {a: 1}", ":1: base: expected a file name or a list of them, got {'a': 1}"),
        ("base: [1]", ":1: base: expected a file name or a list of them, got [1]"),
        ("seed: 1\nbase: nope.yaml", ":2: base nope.yaml: expected a YAML file or the name of a packaged config"),
        ("base: mine.yaml", ": base files form a cycle"),
        ("base:", ":1: base: expected a file name or a list of them, got None"),
    ],
)
def test_an_error_in_a_file_names_file_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    assert message(path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0[:", "0["),
        ("a[b: 1", "a[b"),
        ("'[': 1", "["),
        ("train: {'a[b': 1}", "train.a[b"),
        ("data: {synthetic: {'a[b': 1}}", "data.synthetic.a[b"),
        ("skeleton: {names: [a], 'a[b': 1}", "skeleton.a[b"),
        ("skeleton: {names: [a], 'tuple[int, ...]': 1}", "skeleton.tuple[int, ...]"),
        ("Config: 1", "Config"),
        ("model: {ModelConfig: 1}", "model.ModelConfig"),
        ("skeleton: {names: [a], SkeletonConfig: 1}", "skeleton.SkeletonConfig"),
    ],
)
def test_an_unknown_key_that_looks_like_the_name_of_a_type_is_named(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path, text)
    assert message(path).startswith(f"{path}:1: unknown key '{key}'")


def test_a_mapping_with_a_bracket_in_a_key_is_refused_where_a_union_expects_no_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {num_kernels: {'a[b': 1}}")
    expected = "model.num_kernels: expected a valid integer or a list, got {'a[b': 1}"
    assert message(path) == f"{path}:1: {expected}"


def test_an_override_with_a_bracket_in_the_key_is_refused() -> None:
    assert message("quickstart", "train.a[b=1").startswith("command line: unknown key 'train.a[b'")


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
        ("model={width: 1, width: 2}", "command line: duplicate key 'width'"),
        (3000 * "a." + "b=1", "command line: expected key=value, such as train.epochs=20, got 'a.a.a."),
        ("seed=!!int ''", "command line: seed: not YAML: a tag"),
        ("name=../../x", "command line: name: expected the name of a folder in runs/"),
        ("data.root=/\udcff", "command line: data.root: not YAML: "),
        ("train.milestones=" + 5000 * "[", "command line: train.milestones: not YAML: more than 20 levels"),
    ],
)
def test_an_error_in_an_override_names_the_key(override: str, expected: str) -> None:
    assert message("quickstart", override).startswith(expected)


def test_all_errors_are_reported_at_once_each_with_its_origin(tmp_path: Path) -> None:
    write(tmp_path, "train: {epochs: x}", "base.yaml")
    path = write(tmp_path, "base: base.yaml\nsede: 1")
    text = message(path, "test.flop=1")
    assert text.startswith("3 problems: (1) ")
    assert f"{tmp_path / 'base.yaml'}:1: train.epochs" in text
    assert f"{path}:2: unknown key 'sede'; did you mean 'seed'?" in text
    assert "command line: unknown key 'test.flop'; did you mean 'test.flip'?" in text


def test_a_cycle_of_bases_is_reported_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "base: b.yaml", "a.yaml")
    write(tmp_path, "base: a.yaml", "b.yaml")
    assert "a.yaml -> b.yaml -> a.yaml" in message("a.yaml")


def test_each_base_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "seed: 7", "0.yaml")
    for level in range(1, 60):
        write(tmp_path, f"base: [{level - 1}.yaml, {level - 1}.yaml]", f"{level}.yaml")
    assert load_config(tmp_path / "59.yaml").seed == 7  # 2**59 readings otherwise
    assert len(config_files(tmp_path / "59.yaml")) == 60


def test_a_chain_of_too_many_base_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "seed: 7", "0.yaml")
    for level in range(1, 3000):
        write(tmp_path, f"base: {level - 1}.yaml", f"{level}.yaml")
    assert "base files form a chain of more than 100; merge some" in message(tmp_path / "2999.yaml")


def test_the_files_of_a_config_are_the_file_and_its_bases(tmp_path: Path) -> None:
    base = write(tmp_path, "base: quickstart", "base.yaml")
    files = config_files(write(tmp_path, "base: base.yaml"))
    assert {base, tmp_path / "mine.yaml", CONFIG_FOLDER / "quickstart.yaml"} <= {*files}


def test_the_description_of_many_errors_is_short_and_fast(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(f"key{number}: 1" for number in range(10_000)))
    assert len(message(path)) < 40 * 200


@pytest.mark.parametrize("name", [300 * "n", 5000 * "n", "a\0b", "\udcff", 300 * "n/" + "a"])
def test_a_name_that_no_file_can_have_is_a_missing_config(name: str) -> None:
    assert "expected a YAML file or the name of a packaged config" in message(name)


def test_a_loop_of_links_is_a_missing_config(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert "expected a YAML file or the name of a packaged config" in message(tmp_path / "loop.yaml")


def test_a_missing_config_suggests_the_nearest_name(tmp_path: Path) -> None:
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
def test_any_printable_text_gives_a_config_or_a_config_error(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with contextlib.suppress(ConfigError):
        load_config(path)


VALUES = st.sampled_from([
    "!!int ''", "!!binary x", "!x y", "0x_", "0b_", "1:1:1", ".inf", "-.nan", "2020-99-99", "<<", "=", "~", "*a",
    "&a b", "%", "@", "`", "- -", "? a", "{a: b}", "[[]]", '"\\U99999999"', "'", "|", ">", "!!set {a}", "\ufeff",
])  # fmt: skip
KEY = st.sampled_from(["seed", "name", "train.milestones", "data.root", "model", "skeleton.names"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["seed", "name", "train.milestones", "data.root", "model", "skeleton.names"]), VALUES | st.text()
)
def test_any_override_gives_a_config_or_a_config_error(key: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        load_config("quickstart", [f"{key}={value}"])
