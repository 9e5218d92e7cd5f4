"""The device of a model."""

import torch

from pose.errors import ConfigError


def choose_device(name: str | torch.device | None = None, local_rank: int | None = None) -> torch.device:
    """Return a device that PyTorch can use, a GPU with its number.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...; by default a GPU if there is one.
        local_rank: number of this process on its machine, which takes the GPU of the same number.

    Raises:
        ConfigError: there is no such device.
    """
    wanted = str(name) if name is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and local_rank is not None:
        wanted = f"cuda:{local_rank}"
    try:
        device = torch.empty(1, device=wanted).device  # with the number of the GPU
    except Exception:  # of many kinds: an unknown name, a build without CUDA, no driver, no GPU of this number
        device = torch.device("meta")
    if device.type == "meta":
        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        gpus += ["mps"] if torch.backends.mps.is_available() else []
        hint = "" if gpus else f"; this PyTorch ({torch.__version__}) finds no NVIDIA GPU"
        raise ConfigError(f"device '{wanted[:20]}' is not available, expected one of {', '.join(['cpu', *gpus])}{hint}")
    return device
