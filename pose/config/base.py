"""Config options shared by all tasks.

Numbers that decide how much memory or how many processes are needed have an upper limit far above useful values, so
that a config, also that of a weight file, is refused before anything is allocated.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pose.errors import shorten

MAX_NAME_BYTES = 200
"""Length of the name of an experiment; file systems have 255."""


def check_folder_name(name: str) -> str:
    """Return the name of an experiment, which is that of its folder in ``runs/``.

    Raises:
        ValueError: it is not the name of one folder.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", name) or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"expected the name of a folder in runs/ (no path, at most {MAX_NAME_BYTES} bytes), "
            f"got {shorten(repr(name))}"
        )
    return name


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
BatchSize = Annotated[int, Field(gt=0, le=65_536)]
Multiplier = Annotated[float, Field(gt=0, le=4)]
"""Multiplier of the width or depth of a model."""
Temperature = Annotated[float, Field(ge=0.01, le=10_000)]
"""Temperature tau of the attention."""
InputSide = Annotated[int, Field(gt=0, le=2048)]
"""Side of a model input in pixels."""
FolderName = Annotated[str, AfterValidator(check_folder_name)]


class Section(BaseModel):
    """A group of options: immutable, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class OptimizationConfig(Section):
    """Training options of all tasks; the ``train`` section of each task adds its own options and defaults."""

    epochs: PositiveInt
    """Number of epochs."""
    batch_size: BatchSize
    """Global batch size, over all processes and accumulation steps."""
    accumulate: PositiveInt = 1
    """Gradient accumulation steps, each on batch_size / accumulate / world size samples per process."""
    start: Literal["default"] | Path | None = None
    """Pretrained weights: a weight file or run folder of this project, a torchvision .pth, a MoveNet .onnx, or
    ``default``, the model in the package; null: random initialization."""
    learning_rate: Positive
    """Initial learning rate, reached at the end of the warm-up."""
    backbone_learning_rate: Positive | None = None
    """Initial learning rate of the backbone, for a pretrained backbone with a new head; null: ``learning_rate``."""
    attention_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Initial learning rate of the attention of all dynamic layers; 0: it keeps its initialization; null: as the
    backbone or head that it belongs to."""
    milestones: tuple[PositiveInt, ...]
    """Epochs after which the learning rate is multiplied by ``decay``."""
    decay: Positive = 0.1
    """Learning rate factor at each milestone."""
    schedule: Literal["steps", "cosine"]
    """Learning rate schedule. steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, no milestones."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Steps of linear learning rate warm-up."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Weight decay."""
    temperature: Temperature = 30.0
    """Temperature tau of the attention (paper, section 4.2)."""
    temperature_final: Temperature | None
    """Temperature after linear annealing; null: constant temperature."""
    temperature_epochs: PositiveInt = 10
    """Epochs of temperature annealing."""
    gradient_clip: Positive | None = None
    """Maximum norm of the gradient over all weights; null: no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the forward pass (autocast); fp16 uses loss scaling."""
    channels_last: bool = False
    """Channels-last (NHWC) memory format: faster on GPUs with tensor cores and for static models on CPUs."""
    compile: bool = False
    """Compile the model with torch.compile."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average (EMA) of the weights, used by validation and best.pt; 0: off."""
    sync_batch_norm: bool = True
    """Synchronize batch norm statistics over all processes, so that the world size does not change the result."""
    workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Data loading workers per training process; 0: load in the training process."""
    validate_every: PositiveInt
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_minutes: Positive = 10.0
    """Minutes between writes of last.pt within an epoch."""


class ExperimentConfig(Section):
    """Options of all experiments."""

    task: str
    """Task that is trained."""
    name: FolderName = "unnamed"
    """Name of the experiment and of its run folder, by default that of the config file."""
    seed: Seed = 0
    """Random seed of weight initialization, sampling and augmentation."""


def check_training(train: OptimizationConfig, is_dynamic: bool) -> None:
    """Check that the batch divides into accumulation steps, and that only a dynamic model has an attention rate.

    Raises:
        ValueError: it does not; names both options.
    """
    if train.batch_size % train.accumulate:
        raise ValueError(
            f"train.batch_size {train.batch_size} must be a multiple of train.accumulate {train.accumulate}"
        )
    if train.attention_learning_rate is not None and not is_dynamic:
        raise ValueError("train.attention_learning_rate needs a dynamic model, such as model.dynamic_backbone: true")
