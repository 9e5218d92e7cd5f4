"""The person detector to use: the one that is named, or the best one at hand.

``auto`` takes the first of these: the detector in the environment variable ``DYCONV_POSE_DETECTOR``, the detector that
``dyconv-pose detector set FILE`` has stored, a light detector of torchvision, and where its weights cannot be
downloaded none: then the pose model itself finds one person.
"""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from pose.errors import MediaError, PoseError
from pose.files import write_text, writing
from pose.inference.detectors import Detector, load_detector
from pose.inference.detectors.torchvision_models import weights_file

logger = logging.getLogger(__name__)

AUTO = "auto"
POSE_MODEL = "pose"
"""Name for no detector: the pose model itself finds one person."""
HOW_TO_SET = "for a detector of your own: dyconv-pose detector set FILE.onnx"
LIGHT_DETECTORS = (
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
)
"""Detectors of torchvision that a CPU runs at video speed or close to it, smallest file first."""


class Choice(NamedTuple):
    """The user's detector for ``auto``.

    Attributes:
        name: as `resolve_detector` takes it.
        origin: where it was set.
    """

    name: str
    origin: str


def resolve_detector(
    name_or_path: str | Path,
    *,
    score_threshold: float = 0.3,
    nms_threshold: float = 0.65,
    device: str | None = None,
) -> Detector | None:
    """Load the detector of this name, or for ``auto`` the first one at hand, and log which it is.

    Args:
        name_or_path: ``auto``, ``pose``, or a name that `load_detector` takes.
        score_threshold: see `load_detector`.
        nms_threshold: see `load_detector`.
        device: see `load_detector`.

    Returns:
        The detector; None if the pose model itself has to find one person.

    Raises:
        PoseError: the detector that is named, or that the user has set for ``auto``, cannot be loaded.
    """
    options = {"score_threshold": score_threshold, "nms_threshold": nms_threshold, "device": device}
    if str(name_or_path) != AUTO:
        return _load(str(name_or_path), options)
    choice = chosen_detector()
    if choice is None:
        return _load_light_detector(options)
    try:
        detector = _load(choice.name, options)
    except PoseError as error:
        raise MediaError(f"{error} (the detector comes from {choice.origin})") from None
    logger.info("detector: %s, from %s", choice.name, choice.origin)
    return detector


def _load(name: str, options: dict[str, Any]) -> Detector | None:
    return None if name == POSE_MODEL else load_detector(name, **options)


def _load_light_detector(options: dict[str, Any]) -> Detector | None:
    try:
        name = light_detector()
        detector = load_detector(name, **options)
    except ImportError as error:
        reason = f"{error.name or error} is not installed"
    except MediaError as error:
        reason = str(error)
    else:
        logger.info("detector: %s of torchvision; %s", name, HOW_TO_SET)
        return detector
    logger.warning("no person detector (%s): the pose model alone finds one person; %s", reason, HOW_TO_SET)
    return None


def light_detector() -> str:
    """Return the first of `LIGHT_DETECTORS` whose weights are in torch's cache; if none is, the first.

    Raises:
        ImportError: torch or torchvision is not installed.
    """
    return next((name for name in LIGHT_DETECTORS if weights_file(name).is_file()), LIGHT_DETECTORS[0])


def chosen_detector() -> Choice | None:
    """Return the detector that the user has set for ``auto``: in the environment, else in the settings.

    Raises:
        MediaError: the settings cannot be read.
    """
    name = os.environ.get("DYCONV_POSE_DETECTOR", "")
    if name not in ("", AUTO):
        return Choice(name, "the environment variable DYCONV_POSE_DETECTOR")
    file = settings_file()
    try:
        name = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{file}: cannot read it ({error}); dyconv-pose detector unset removes it") from None
    if not name or "\n" in name:
        raise MediaError(f"{file}: expected one line with a detector; dyconv-pose detector unset removes the file")
    return Choice(name, str(file))


def settings_file() -> Path:
    """Return the file that stores the user's detector, in the folder of the XDG base directory specification."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / "dyconv-pose" / "detector"


def set_detector(name_or_path: str) -> Choice:
    """Store a detector as the user's choice for ``auto``, after loading it once.

    Args:
        name_or_path: ``pose``, or a name that `load_detector` takes; a file is stored with its absolute path.

    Raises:
        PoseError: it cannot be loaded, or the settings cannot be written.
    """
    if name_or_path == AUTO:
        raise MediaError("detector 'auto': needs nothing to be set; dyconv-pose detector unset")
    resolve_detector(name_or_path)
    is_file = name_or_path.lower().endswith(".onnx")
    choice = Choice(str(Path(name_or_path).resolve()) if is_file else name_or_path, str(settings_file()))
    write_text(settings_file(), choice.name + "\n")
    return choice


def unset_detector() -> bool:
    """Remove the user's choice for ``auto`` from the settings; return whether there was one.

    Raises:
        MediaError: the settings cannot be written.
    """
    file = settings_file()
    was_set = file.exists()
    with writing(file):
        file.unlink(missing_ok=True)
    return was_set
