"""Schedules of learning rate and temperature. All schedules are stateless."""

import math
from collections.abc import Sequence

from pose.config.base import OptimizationConfig


def learning_rate(options: OptimizationConfig, epoch: float, global_step: int) -> float:
    """Return the learning rate after ``epoch`` epochs (fractional) and ``global_step`` steps in total."""
    factor = (
        cosine_decay(epoch, options.epochs)
        if options.schedule == "cosine"
        else step_decay(epoch, options.milestones, options.decay)
    )
    return options.learning_rate * factor * warmup(global_step, options.warmup_steps)


def initial_learning_rates(options: OptimizationConfig) -> list[float]:
    """Return the initial learning rate of each parameter group of `pose.engine.state.parameter_groups`."""
    rates = [options.backbone_learning_rate or options.learning_rate, options.learning_rate]
    return rates if options.attention_learning_rate is None else [*rates, options.attention_learning_rate]


def step_decay(epoch: float, milestones: Sequence[int], decay: float) -> float:
    """Return the learning-rate factor after ``epoch`` epochs: ``decay`` for each milestone reached.

    A milestone of 170 takes effect after 170 complete epochs (paper, section 6: dropped at 170 and 200 of 210).
    """
    return decay ** sum(epoch >= milestone for milestone in milestones)


def cosine_decay(epoch: float, epochs: int) -> float:
    """Return the cosine learning-rate factor, which falls from 1 to 0 over all epochs."""
    return 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0)))


def warmup(step: int, warmup_steps: int) -> float:
    """Return the linear warm-up factor: 1 / warmup_steps at step 0, rising to 1 at step warmup_steps - 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def temperature(epoch: int, start: float, final: float | None, anneal_epochs: int) -> float:
    """Return tau of an epoch, from 0: linear from ``start`` to ``final`` over ``anneal_epochs``, then constant.

    Source: paper, sections 4.2 and 5.1 (ImageNet: 30 to 1 over 10 epochs) and 6 (COCO: constant, ``final=None``).
    """
    if final is None:
        return start
    return start + (final - start) * min(epoch / anneal_epochs, 1.0)
