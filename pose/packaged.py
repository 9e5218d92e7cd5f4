"""The models that come with the package, by name."""

from pathlib import Path

PACKAGED_WEIGHTS = {"default": Path(__file__).resolve().with_name("default_model.pt")}
"""Weight file of each packaged model; its model card is the .md file of the same name in the same folder."""


def weights_path(name_or_path: str | Path) -> Path:
    """Return the weight file of a packaged model for its name, or else the path itself.

    A file or folder of the same name is meant by ``./default``, or by a `Path`.
    """
    if isinstance(name_or_path, str) and name_or_path in PACKAGED_WEIGHTS:
        return PACKAGED_WEIGHTS[name_or_path]
    return Path(name_or_path)


def results_folder(weights: Path) -> Path:
    """Return the folder for results of a weight file: its own, or ``runs/NAME`` for a packaged model."""
    names = {path: name for name, path in PACKAGED_WEIGHTS.items()}
    return Path("runs") / names[weights] if weights in names else weights.parent
