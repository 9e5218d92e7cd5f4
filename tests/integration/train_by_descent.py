"""tools/train.py with plain gradient descent in Adam's place, for comparisons up to rounding.

Adam divides each gradient by its own size, so that where a gradient is almost zero, rounding alone decides the sign
of a whole step.
"""

from collections.abc import Iterable
from typing import Any

import torch

from pose.cli import run
from pose.tools.train import main


def descent(parameters: Iterable[torch.nn.Parameter], learning_rate: float, **_: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, learning_rate)


if __name__ == "__main__":
    torch.optim.AdamW = descent
    run(main)
