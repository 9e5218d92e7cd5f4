"""Metadata of exported models, and the names of their inputs and outputs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from pose.config.pose import InputConfig
from pose.errors import CheckpointError, PoseError
from pose.files import to_json
from pose.json_file import decode_json
from pose.skeleton import Skeleton, make_skeleton

CROPS, HEATMAPS, KEYPOINTS, SCORES = "crops", "heatmaps", "keypoints", "scores"
"""The input ``crops`` (N, h, w, 3) uint8 RGB, the output ``heatmaps`` (N, K, h / 4, w / 4), and, of files that decode,
the outputs ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K)."""

Columns = Annotated[int, Meta(ge=0, le=2**31)]
FlipShift = Columns | None

INPUT = "input"
"""Metadata key that every exported file of this project has."""


@dataclass(frozen=True)
class ExportMetadata:
    """What a program must know to run an exported model.

    Attributes:
        input_config: size and padding of the input crops.
        skeleton: keypoint set of the outputs.
        flip_shift: columns by which the heatmaps of the mirrored crop are shifted for flip averaging; None without it.
        licence: license of the weights, as free text.
        test_flip_shift: the same columns for a caller that averages itself, of a file without flip averaging.
    """

    input_config: InputConfig
    skeleton: Skeleton
    flip_shift: int | None
    licence: str
    test_flip_shift: int = 1

    def to_properties(self) -> dict[str, str]:
        """Return the metadata as the key-value pairs of a file; all values are JSON, except the license."""
        return {
            INPUT: self.input_config.model_dump_json(),
            "skeleton": to_json(asdict(self.skeleton), "skeleton"),
            "flip_shift": to_json(self.flip_shift, "flip_shift"),
            "licence": self.licence,
            "test_flip_shift": to_json(self.test_flip_shift, "test_flip_shift"),
        }


def read_metadata(properties: Mapping[str, str], path: Path) -> ExportMetadata:
    """Parse what `ExportMetadata.to_properties` returned.

    Args:
        properties: key-value pairs of an exported file.
        path: the file, for the error message.

    Raises:
        CheckpointError: a key is missing or its value is invalid.
    """
    try:
        return ExportMetadata(
            InputConfig.model_validate_json(properties[INPUT]),
            make_skeleton(**decode_json(properties["skeleton"], dict[str, Any], "a skeleton", "skeleton")),
            decode_json(properties["flip_shift"], FlipShift, "a number of columns or null", "flip_shift"),  # type: ignore[arg-type]
            properties["licence"],
            decode_json(properties["test_flip_shift"], Columns, "a number of columns", "test_flip_shift"),
        )
    except KeyError as error:
        raise CheckpointError(
            f"{path}: has no {error} in its metadata; export the model with `dyconv-pose export`"
        ) from None
    except (TypeError, ValueError, PoseError) as error:  # pydantic's errors are ValueErrors
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path}: its metadata does not fit this version ({reason}); export it again with `dyconv-pose export`"
        ) from None
