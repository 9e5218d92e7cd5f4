"""A web page that runs an exported model in the browser: ONNX Runtime Web, the model, and the code in ``page/``.

The page's folder is complete: at run time the page loads nothing from another host. The runtime is not part of this
package; npm downloads it once, when the page is written.
"""

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pose.errors import MediaError, PoseError
from pose.files import replacing, write_json, writing
from pose.inference.metadata import ExportMetadata

RUNTIME = "onnxruntime-web@1.30.0"
"""The npm package of the runtime; the page is tested with this version."""
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of its folder ``dist`` that the page needs."""
PAGE = Path(__file__).with_name("page")
"""The page's own files."""
MODEL_JSON = "model.json"
"""What the page has to know about the model: input, keypoints, tracking, license."""


def write_page(
    folder: Path, model: bytes, metadata: ExportMetadata, tracking: Mapping[str, float], runtime: Mapping[str, bytes]
) -> None:
    """Write the page that runs a model.

    Args:
        folder: to write, see `check_folder`.
        model: content of an ONNX file that decodes, see `pose.export.onnx.predictor_to_onnx`.
        metadata: of the model.
        tracking: the constants of `pose.inference.search` and `pose.video.tracking`, by their names in lower case.
        runtime: content of `RUNTIME_FILES`, see `load_runtime`.

    Raises:
        MediaError: the folder cannot be written.
    """
    description = {
        "input": metadata.input_config.model_dump(mode="json"),
        "skeleton": {name: getattr(metadata.skeleton, name) for name in ("names", "limbs", "flip_pairs")},
        "licence": metadata.licence,
        "tracking": dict(tracking),
    }
    page = {file.name: file.read_bytes() for file in PAGE.iterdir() if file.is_file()}
    write_json(folder / MODEL_JSON, description)
    for name, content in {**page, **runtime, "model.onnx": model}.items():
        with replacing(folder / name) as partial, writing(folder / name):
            partial.write_bytes(content)


def check_folder(folder: Path) -> None:
    """Check that a folder is new, empty, or a page that may be replaced.

    Raises:
        MediaError: it has other content.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / MODEL_JSON).is_file())):
        raise MediaError(f"{folder}: exists and is not a page that was written before; choose a new folder")


def load_runtime(archive: Path | None = None) -> dict[str, bytes]:
    """Return the content of the runtime's files by name.

    Args:
        archive: of the npm package; downloaded by npm if not given.

    Raises:
        PoseError: npm is not installed or cannot download the runtime, or the archive is not the runtime's.
    """
    with TemporaryDirectory() as folder:
        return _unpack(_download(Path(folder)) if archive is None else archive)


def _download(folder: Path) -> Path:
    """Download the runtime's archive with npm, which checks its digest; return its path."""
    npm = shutil.which("npm")
    if npm is None:
        raise PoseError(
            f"npm: not found, which downloads {RUNTIME}; install Node.js, or give the archive of `npm pack {RUNTIME}` "
            "by --runtime"
        )
    command = [npm, "pack", RUNTIME, "--silent", "--pack-destination", str(folder)]
    completed = subprocess.run(command, capture_output=True, text=True)
    archive = next(folder.glob("*.tgz"), None)
    if completed.returncode or archive is None:
        reason = " ".join((completed.stderr or completed.stdout).split())[:200]
        raise PoseError(
            f"npm pack {RUNTIME}: failed ({reason or completed.returncode}); check the network, or give --runtime"
        )
    return archive


def _unpack(archive: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(archive) as tar:
            members = {name: tar.extractfile(f"package/dist/{name}") for name in RUNTIME_FILES}
            return {name: member.read() for name, member in members.items() if member is not None}
    except (OSError, KeyError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PoseError(f"{archive}: not the archive of `npm pack {RUNTIME}` ({reason})") from None
