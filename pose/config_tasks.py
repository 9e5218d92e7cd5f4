"""The tasks that configs describe, and which kind of config each has."""

from typing import Literal, TypeAlias

from pose.config import Config
from pose.config_classification import ClassificationConfig

AnyConfig: TypeAlias = Config | ClassificationConfig
Task = Literal["pose", "classification"]
CONFIGS: dict[str, type[AnyConfig]] = {"pose": Config, "classification": ClassificationConfig}
"""By their ``task``, which is pose in files and weights that do not say."""
