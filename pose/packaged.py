"""The models that come with the package, by name.

To add the model NAME, put ``NAME_model.pt``, as ``dyconv-pose pack-weights`` writes it, into this folder, and its model
card ``NAME_model.md``, with a paragraph that begins with `LICENSE_MARK`. An int8 form of it, which runs without PyTorch
by the name NAME-int8, is ``NAME_model.int8.onnx``.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LICENSE_MARK = "**License:** "
"""Start of the paragraph of a model card that states the license of the weights."""


def find_models(folder: Path) -> dict[str, Path]:
    """Return the model files of a folder by name, ``default`` first."""
    names = {
        file: file.name.removesuffix(suffix) + ending
        for suffix, ending in (("_model.pt", ""), ("_model.int8.onnx", "-int8"))
        for file in folder.glob(f"*{suffix}")
    }
    by_name = {name: file for file, name in names.items()}
    return {name: by_name[name] for name in sorted(by_name, key=lambda name: (name != "default", name))}


PACKAGED_WEIGHTS = find_models(FOLDER)
"""File of each packaged model; `card_path` is its model card."""


def weights_path(name_or_path: str | Path) -> Path:
    """Return the file of a packaged model for its name, or else the path itself.

    A file or folder of the same name is meant by ``./default``, or by a `Path`.
    """
    if isinstance(name_or_path, str) and name_or_path in PACKAGED_WEIGHTS:
        return PACKAGED_WEIGHTS[name_or_path]
    return Path(name_or_path)


def results_folder(weights: Path) -> Path:
    """Return the folder for results of a weight file: its own, or ``runs/NAME`` for a packaged model."""
    names = {path: name for name, path in PACKAGED_WEIGHTS.items()}
    return Path("runs") / names[weights] if weights in names else weights.parent


def card_path(weights: Path) -> Path:
    """Return the model card of a packaged model's file; an int8 form has that of its model."""
    return weights.with_name(weights.name.partition(".")[0] + ".md")


def packaged_license(weights: Path) -> str | None:
    """Return the license of a packaged model, in one line, from its model card; None for another file."""
    if weights not in PACKAGED_WEIGHTS.values():
        return None
    card = card_path(weights)
    paragraphs = card.read_text(encoding="utf-8").split("\n\n")
    statement = next(text.removeprefix(LICENSE_MARK) for text in paragraphs if text.startswith(LICENSE_MARK))
    return f"{' '.join(statement.split())} See pose/{card.name}"
