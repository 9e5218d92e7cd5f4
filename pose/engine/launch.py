"""Start and end of a process: device, torchrun's process group, what happens when a rank fails.

This is the only module that reads torchrun's environment variables.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread

import torch
import torch.distributed as torch_dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from pose.cli import EXIT_USER_ERROR, print_error
from pose.engine.distributed import DistContext
from pose.errors import ConfigError, PoseError, TrainingError
from pose.models.devices import choose_device

TIMEOUT_SECONDS = 600
"""Time that a rank waits for another by default."""
STORE_SECONDS = 5
"""Time that a failed rank waits for an answer of torchrun's store."""
PATIENCE = timedelta(days=30)
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILED = "dyconv-pose/failed"
"""Key in torchrun's store: number of ranks that have failed with a `PoseError`."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def init_distributed(device: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[DistContext]:
    """Context manager: initialize torchrun's process group and destroy it at the end; without torchrun, one process.

    Under torchrun a rank ends when torchrun does, and when another rank is lost: it ended, or did not answer in time.
    The first rank that fails with a `PoseError` prints it; all exit with status 2.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; by default the GPU of this local rank, else the CPU.
        timeout_seconds: time that a rank waits for another in a collective operation.

    Raises:
        ConfigError: there is no such device, or torchrun's environment variables are incomplete.
    """
    if "WORLD_SIZE" not in os.environ:
        yield DistContext(0, 1, _use(choose_device(device)))
        return
    missing = [name for name in TORCHRUN_VARIABLES if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE asks for several ranks, but {', '.join(missing)} is not set; start them with torchrun, or "
            "unset WORLD_SIZE"
        )
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        _number(name)
    chosen = _use(choose_device(device, local_rank=_number("LOCAL_RANK")))
    _end_with_parent()
    timeout = timedelta(seconds=timeout_seconds)
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=timeout))
        torch_dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo", store=store, rank=rank, world_size=world_size, timeout=timeout
        )
        patient_group = torch_dist.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot connect the ranks ({_first_line(error)}); start them with torchrun") from None
    try:
        yield DistContext(rank, world_size, chosen, patient_group)
        torch_dist.barrier()  # a rank that exits while another still communicates with it can crash both
    except Exception as error:
        failure = _as_failure(error, rank, timeout_seconds)
        if failure is not None:
            if _count_failure(store) == 1:
                print_error(str(failure))
            sys.exit(EXIT_USER_ERROR)
        raise
    finally:
        # Wrapped models are in reference cycles and would keep the group's threads until the interpreter exits, which
        # then sometimes aborts.
        gc.collect()
        torch_dist.destroy_process_group()


def _number(name: str) -> int:
    text = os.environ.get(name, "0")
    if not text.isdecimal():
        raise ConfigError(f"{name}: expected a whole number, got '{text[:20]}'; start with torchrun")
    return int(text)


def _end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when its parent, torchrun, ends (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _as_failure(error: Exception, rank: int, timeout_seconds: float) -> PoseError | None:
    """Return the error to print: a user's mistake, or the loss of another rank; None for a bug."""
    if isinstance(error, PoseError):
        return error
    if isinstance(error, torch_dist.DistError) or "gloo" in str(error):
        return TrainingError(
            f"rank {rank} lost another rank, which ended or did not answer for {timeout_seconds:g} s; "
            "look for its error above, and continue with --resume"
        )
    return None


def _count_failure(store: Store) -> int:
    """Return the number of ranks that have failed, this one included; 1 if the process with the store is lost."""
    counts: list[int] = []

    def count() -> None:
        with contextlib.suppress(RuntimeError):
            counts.append(store.add(FAILED, 1))

    thread = Thread(target=count, daemon=True)  # a request to a stopped process has no timeout
    thread.start()
    thread.join(STORE_SECONDS)
    return counts[0] if counts else 1


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:100]


def _use(device: torch.device) -> torch.device:
    """Make a GPU the one that this process uses, also where no device is named, as in NCCL; return the device."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
