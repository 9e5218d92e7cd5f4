"""The files that a config names, which no output of a command may replace."""

from pathlib import Path

from pose.config.loader import AnyConfig, config_files
from pose.config.pose import Config


def input_files(path_or_name: str | Path, config: AnyConfig) -> list[Path]:
    """Return the files that a command with this config may read: config files, annotations, boxes, cache and weights.

    Args:
        path_or_name: of the config, see `pose.config.loader.load_config`.
        config: loaded from it.

    Raises:
        ConfigError: as `pose.config.loader.config_files`.
    """
    files: list[Path | None] = [*config_files(path_or_name)]
    files.append(config.train.start if isinstance(config.train.start, Path) else None)
    if isinstance(config, Config):
        data = config.data
        named = (data.train_annotations, data.val_annotations, data.val_detections, data.crop_cache)
        files += [config.train.teacher, *(data.root / file for file in named if file is not None)]
    return [file for file in files if file is not None]
