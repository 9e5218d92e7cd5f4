"""What the configs of all tasks are made of: frozen sections, and the options that every task shares."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A frozen group of options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class OptimizationConfig(Section):
    """How any model is trained; each task's ``train`` section adds its own options and defaults."""

    epochs: PositiveInt
    """Passes over the training data."""
    batch_size: PositiveInt
    """Global batch, over all processes and accumulation steps."""
    accumulate: PositiveInt = 1
    """Backward passes a step; each takes batch_size / accumulate / processes samples."""
    start: Literal["default"] | Path | None = None
    """Trained weights to begin with: a weight file or run folder of ours, torchvision's .pth, MoveNet's .onnx; default:
    the model that comes with the package."""
    learning_rate: Positive
    """Of the first steps, or of the first after the warm-up."""
    backbone_learning_rate: Positive | None = None
    """Of the backbone's weights, when they start trained and the head does not; by default as the rest."""
    milestones: tuple[PositiveInt, ...]
    """Epochs after which the learning rate is multiplied by ``decay``."""
    decay: Positive = 0.1
    """Factor at each milestone."""
    schedule: Literal["steps", "cosine"]
    """steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, milestones unused."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Linear warm-up of the learning rate over this many steps."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Pull of all weights toward zero."""
    temperature: Positive = 30.0
    """tau of the attention."""
    temperature_final: Positive | None
    """Anneal linearly to this tau; without it the temperature stays."""
    temperature_epochs: PositiveInt = 10
    """Epochs over which to anneal."""
    gradient_clip: Positive | None = None
    """Largest norm of the whole gradient."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Mixed precision by autocast; fp16 scales its loss."""
    channels_last: bool = False
    """NHWC memory: faster on GPUs with tensor cores and for static models on CPU."""
    compile: bool = False
    """torch.compile the model."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep an exponential moving average of the weights; validation and best.pt use it. 0: off."""
    sync_batch_norm: bool = True
    """Batch statistics over all processes, so that their number does not change the result."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Data loading processes a training process; 0 loads in the training process itself."""
    validate_every: PositiveInt
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_minutes: Positive = 10.0
    """Write last.pt also inside an epoch, this often."""


class ExperimentConfig(Section):
    """What any experiment has, whatever its task."""

    task: str
    """What is trained."""
    name: str = "unnamed"
    """Set from the file's name; names the run folder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of weights, sampling and augmentation."""


def check_parts(train: OptimizationConfig) -> None:
    """Refuse a batch that cannot be parted into backward passes.

    Raises:
        ValueError: naming both options.
    """
    if train.batch_size % train.accumulate:
        raise ValueError(
            f"train.batch_size {train.batch_size} must be a multiple of train.accumulate {train.accumulate}"
        )
