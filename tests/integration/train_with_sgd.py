"""tools/train.py with plain gradient descent instead of Adam, for comparisons up to rounding.

Adam normalizes each gradient by its magnitude, so that the rounding error of a gradient near zero decides the sign of a
full step.
"""

from collections.abc import Iterable
from typing import Any

import torch

from pose.cli import run
from pose.tools.train import main


def sgd(parameters: Iterable[torch.nn.Parameter], learning_rate: float, **_: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, learning_rate)


if __name__ == "__main__":
    torch.optim.AdamW = sgd
    run(main)
