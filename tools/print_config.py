"""Print a config with all options and the origin of each value.

Examples:
  python tools/print_config.py --cfg configs/quickstart.yaml train.epochs=2
  python tools/print_config.py --cfg quickstart --yaml > resolved.yaml
  python tools/print_config.py --schema > config.schema.json    (for YAML completion and validation in editors)
  python tools/print_config.py --schema classification
"""

import json
from collections.abc import Sequence

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import CONFIGS, config_with_origin, dump, json_schema, load_any_config, packaged_names
from pose.errors import ConfigError


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
    output_format.add_argument("--list", action="store_true", help="print the names of the packaged configs")
    args = parser.parse_args(argv)
    if args.schema:
        print(json.dumps(json_schema(args.schema), indent=2))
    elif args.list:
        print("\n".join(packaged_names()))
    elif args.cfg is None:
        raise ConfigError("expected --cfg FILE, --schema or --list, got none of them")
    elif args.yaml:
        print(dump(load_any_config(args.cfg, args.overrides)), end="")
    else:
        print(_table(config_with_origin(args.cfg, args.overrides)))


def _table(rows: Sequence[tuple[str, object, str]]) -> str:
    cells = [(key, json.dumps(value), origin) for key, value, origin in rows]
    key_width, value_width = (max(len(row[column]) for row in cells) for column in (0, 1))
    return "\n".join(f"{key:<{key_width}}  {value:<{value_width}}  # {origin}" for key, value, origin in cells)


if __name__ == "__main__":
    run(main)
