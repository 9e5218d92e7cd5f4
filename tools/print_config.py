"""Print a config with all options and the origin of each value, or list the packaged configs.

Examples:
  dyconv-pose print-config --list                               (every packaged config, and which to take for what)
  dyconv-pose print-config --cfg quickstart train.epochs=2
  dyconv-pose print-config --cfg quickstart --yaml > resolved.yaml
  dyconv-pose print-config --schema > config.schema.json        (for YAML completion and validation in editors)
  dyconv-pose print-config --schema classification
"""

from collections.abc import Sequence
from fnmatch import fnmatch

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import (
    CONFIGS,
    config_with_origin,
    dump,
    find_config,
    json_schema,
    load_any_config,
    packaged_names,
)
from pose.errors import ConfigError
from pose.files import to_json

GROUPS = (
    ("quickstart", "To try training: synthetic people, minutes on a CPU, no data needed"),
    ("pose/*_finetune", "Your own people: fine-tune a packaged model (train.start=default); first a static one"),
    ("pose/*_128x96_small", "A few thousand people, from scratch; fine-tuning gives far better models"),
    ("pose/B_*", "COCO, the paper's recipe, type-B head (fewer MAdds than type A); needs GPUs"),
    ("pose/A_*", "COCO, the paper's recipe, type-A head (deconvolutions); needs GPUs"),
    ("miniature/*", "Table 11 of the paper in miniature: static against dynamic on synthetic people"),
    ("imagenet/ablation/*", "ImageNet: the paper's ablations, each with one change of imagenet/dy_mobilenetv2_w0.5"),
    ("imagenet/*", "ImageNet: classifiers of the paper's Table 8, for train-imagenet"),
    ("cifar10/*", "CIFAR-10: small classifiers, static and dynamic, for train-imagenet"),
    ("*", "Other"),
)
"""Groups of packaged configs: a pattern of names, of which the first that matches counts, and what they are for."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print values with origins, YAML, the JSON schema or the names of the packaged configs."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser, required=False)
    output_format = parser.add_mutually_exclusive_group()
    output_format.add_argument(
        "--yaml", action="store_true", help="print all options as YAML, which loads to an equal config"
    )
    output_format.add_argument(
        "--schema",
        nargs="?",
        const="pose",
        choices=CONFIGS,
        help="print the JSON schema of a task's config files (default: pose)",
    )
    output_format.add_argument(
        "--list", action="store_true", help="list the packaged configs in groups, and which to take for what"
    )
    args = parser.parse_args(argv)
    if args.schema:
        print(to_json(json_schema(args.schema), args.schema, indent=2))
    elif args.list:
        print(_overview(packaged_names()))
    elif args.cfg is None:
        raise ConfigError("expected --cfg FILE, --schema or --list, got none of them")
    elif args.yaml:
        print(dump(load_any_config(args.cfg, args.overrides)), end="")
    else:
        print(_table(config_with_origin(args.cfg, args.overrides)))


def _overview(names: Sequence[str]) -> str:
    """Return the names in their groups, each with the first line of its file."""
    blocks = []
    group_of = {name: next(group for group in GROUPS if fnmatch(name, group[0])) for name in names}
    for group in GROUPS:
        members = [name for name in names if group_of[name] == group]
        width = max(map(len, members), default=0)
        if members:
            blocks.append("\n".join([f"{group[1]}:", *(f"  {name:<{width}}  {_first_line(name)}" for name in members)]))
    return "\n\n".join([*blocks, "Start from one by --cfg NAME, or copy it: `base: NAME` in a file of your own."])


def _first_line(name: str) -> str:
    return find_config(name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def _table(rows: Sequence[tuple[str, object, str]]) -> str:
    cells = [(key, to_json(value, key), origin) for key, value, origin in rows]
    key_width, value_width = (max(len(row[column]) for row in cells) for column in (0, 1))
    return "\n".join(f"{key:<{key_width}}  {value:<{value_width}}  # {origin}" for key, value, origin in cells)


if __name__ == "__main__":
    run(main)
