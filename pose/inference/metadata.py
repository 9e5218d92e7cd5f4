"""What an exported file says about its model, and the names of what goes in and comes out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pose.config.pose import InputConfig
from pose.errors import CheckpointError, PoseError
from pose.skeleton import Skeleton, make_skeleton

CROPS, HEATMAPS, KEYPOINTS, SCORES = "crops", "heatmaps", "keypoints", "scores"
"""Of a file's input (N, h, w, 3) uint8 RGB, and of its outputs: (N, K, h / 4, w / 4); where it decodes, also (N, K, 2)
x, y in crop pixels and (N, K)."""


@dataclass(frozen=True)
class ExportMetadata:
    """What a file says about its model.

    Attributes:
        input_config: of the crops that it takes.
        skeleton: of the keypoints that it gives.
        flip_shift: it averages with the mirrored crop, whose maps it moves so many columns; None: it does not.
        licence: of the weights, in words.
    """

    input_config: InputConfig
    skeleton: Skeleton
    flip_shift: int | None
    licence: str

    def metadata(self) -> dict[str, str]:
        """Return it as a file's metadata, each value JSON but the licence."""
        skeleton = {"names": self.skeleton.names, "limbs": self.skeleton.limbs, "sigmas": self.skeleton.sigmas}
        return {
            "input": self.input_config.model_dump_json(),
            "skeleton": json.dumps(skeleton),
            "flip_shift": json.dumps(self.flip_shift),
            "licence": self.licence,
        }


def read_metadata(metadata: Mapping[str, str], path: Path) -> ExportMetadata:
    """Read what `ExportMetadata.metadata` wrote.

    Args:
        metadata: of an exported file.
        path: of that file, for the message.

    Raises:
        CheckpointError: something is missing or has another form.
    """
    try:
        return ExportMetadata(
            InputConfig.model_validate_json(metadata["input"]),
            make_skeleton(**json.loads(metadata["skeleton"])),
            _columns(json.loads(metadata["flip_shift"])),
            metadata["licence"],
        )
    except KeyError as error:
        raise CheckpointError(
            f"{path}: has no {error} in its metadata; export the model with tools/export.py"
        ) from None
    except (TypeError, ValueError, PoseError) as error:  # pydantic's and json's errors are ValueErrors
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path}: its metadata does not fit this version ({reason}); export the model with tools/export.py again"
        ) from None


def _columns(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"flip_shift: expected columns or null, got {value!r}")
