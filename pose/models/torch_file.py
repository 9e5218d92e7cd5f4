"""Read files of `torch.save` without executing code, damaged bytes, or more memory than the size of the file.

`torch.load` with ``weights_only=True`` executes no code. But it ignores the checksums of the zip archive, unpacks
compressed records of any size, and allocates as much as a tensor claims to have. So each file is checked before it is
loaded: its checksums, and that every tensor lies within the bytes of the file.
"""

import io
import math
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from pose.errors import CheckpointError, near_name
from pose.packaged import PACKAGED_WEIGHTS

ZIP_START = b"PK\x03\x04"
"""First bytes of a file of `torch.save` since PyTorch 1.6; older files are a sequence of pickles and raw tensors."""
COUNTER = "num_batches_tracked"
"""End of the name of batch norm's counter, the only tensor of a model that holds whole numbers."""
WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _DamagedError(Exception):
    """A checksum is wrong."""


def load_torch_file(file: Path) -> object:
    """Load a file of `torch.save` to the CPU: tensors and plain values only.

    Raises:
        CheckpointError: the file is missing or damaged, or holds anything else.
    """
    if not file.is_file():
        hint = near_name(str(file), PACKAGED_WEIGHTS)
        raise CheckpointError(
            f"{file}: no such weight file{hint or ';'} a training run writes best.pt to its run folder"
        )
    try:
        with file.open("rb") as stream:
            is_zip = stream.read(len(ZIP_START)) == ZIP_START
            stream.seek(0)
            (_check_zip if is_zip else _check_pickles)(stream, os.fstat(stream.fileno()).st_size)
            stream.seek(0)
            return torch.load(stream, map_location="cpu", weights_only=True)
    except _DamagedError as error:
        raise CheckpointError(f"{file}: damaged, {error}; copy it again or train again") from None
    except Exception as error:
        if file.suffix.lower() in (".onnx", ".xml"):
            raise CheckpointError(
                f"{file}: expected a weight file (.pt), got an exported model; pose.ExportedPredictor, "
                "`dyconv-pose predict`, demo-video and test run it"
            ) from None
        # Damaged bytes cause many kinds of errors in the unpickler, IndexError and struct.error too. The message of
        # torch is left out: it has many lines and advises to load with weights_only=False.
        raise CheckpointError(
            f"{file}: not a readable weight file of tensors and plain values only ({type(error).__name__}); "
            "copy it again or train again"
        ) from None


def check_weights(state: object, path: Path) -> dict[str, torch.Tensor]:
    """Return a state dict if it holds nothing but finite weights, and the counters of batch norm.

    Args:
        state: content of a file.
        path: of this file, for error messages.

    Raises:
        CheckpointError: it is no state dict, or a weight is of integer, boolean or complex type, or not finite.
    """
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{path}: expected a state dict of tensors, such as torchvision's weight files")
    for name, value in state.items():
        if name.endswith(COUNTER) and value.dtype == torch.int64:
            continue
        if value.dtype not in WEIGHT_TYPES:
            raise CheckpointError(f"{path}: expected real numbers in '{name}', got {value.dtype}; export it again")
        if not value.float().isfinite().all():
            raise CheckpointError(f"{path}: '{name}' is not finite; use an earlier checkpoint, or train again")
        if name.endswith("running_var") and (value < 0).any():
            raise CheckpointError(f"{path}: the variance '{name}' is negative; copy it again or train again")
    return state


def _check_zip(stream: IO[bytes], file_size: int) -> None:
    """Check the checksums of an archive, and that its tensors lie within its records."""
    with zipfile.ZipFile(stream) as archive:
        records = archive.infolist()
        sizes = {record.filename: record.file_size for record in records}
        if len(sizes) < len(records) or sum(sizes.values()) > file_size:
            raise pickle.UnpicklingError("records that overlap")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise pickle.UnpicklingError("a compressed record")
        damaged = archive.testzip()
        if damaged is not None:
            raise _DamagedError(f"the checksum of '{damaged}' in it is wrong")
        folder = records[0].filename.partition("/")[0]
        checker = _TensorChecker(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        checker.load()
    for key, size in checker.storage_bytes.items():
        if sizes.get(f"{folder}/data/{key}") != size:
            raise pickle.UnpicklingError("a record of another size than its tensors")


def _check_pickles(stream: IO[bytes], file_size: int) -> None:
    """Check that the tensors of a file of PyTorch before 1.6 are not larger than the file. It has no checksums."""
    for _ in range(3):  # magic number, version, system
        _TensorChecker(stream).load()
    checker = _TensorChecker(stream)
    checker.load()
    if sum(checker.storage_bytes.values()) > file_size - stream.tell():
        raise pickle.UnpicklingError("tensors larger than the file")


class _TensorChecker(pickle.Unpickler):
    """Unpickler that builds no tensor and calls no code: it checks that each tensor lies within its storage.

    Attributes:
        storage_bytes: size of each storage by key, as the file claims it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.storage_bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle: all that a state dict of dense tensors needs."""
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor"): _check_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _check_tensor,
            ("torch._utils", "_rebuild_parameter"): _check_parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return 1
        if module == "torch" and name.endswith("Storage") and name.isidentifier():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # typed storages are deprecated; only their names are used
                return getattr(torch, name).dtype.itemsize
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> int:
        """Return the number of elements of a storage; ``pid``: kind, bytes per element, key, location, elements."""
        _, element_bytes, key, _, count = pid[:5]
        size = element_bytes * count
        if type(key) is not str or type(count) is not int or count < 0 or self.storage_bytes.get(key, size) != size:
            raise pickle.UnpicklingError("a storage without a size")
        self.storage_bytes[key] = size
        return count


def _check_tensor(storage: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> None:
    """Check that a tensor has no more elements than its storage of ``storage`` elements, and lies within it."""
    if min((0, offset, *size, *stride)) < 0 or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor of negative size")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) > storage or (0 not in size and last >= storage):
        raise pickle.UnpicklingError("a tensor larger than its storage")


def _check_parameter(*_: object) -> None:
    """A parameter's tensor was checked when it was read."""
