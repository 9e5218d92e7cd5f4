"""Event files of TensorBoard."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from pose.files import writing


class EventWriter:
    """Writer of a TensorBoard event file.

    Unlike `torch.utils.tensorboard.SummaryWriter`, it writes in the thread of the caller, who so gets the error of a
    full disk.

    Args:
        folder: existing folder.

    Raises:
        MediaError: the file cannot be written; from all methods.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # slow to import, and only rank 0 needs it
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        with writing(self._path):
            self._records = RecordWriter(self._path.open("ab"))
            self._add(file_version="brain.Event:2")

    def write(self, samples: int, values: list[dict[str, Any]]) -> None:
        """Write the fields of `Summary.Value` messages, at a number of training samples."""
        with writing(self._path):
            self._add(step=samples, summary={"value": values})

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # it was flushed after each event
            self._records.close()
