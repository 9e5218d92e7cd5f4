"""Inputs of a command: images, folders, globs and addresses as one source of images; videos, cameras and streams.

`find_inputs` checks what the user has named without opening it, so that a mistake is found before long work.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pose.errors import MediaError
from pose.images import IMAGE_SUFFIXES, Image, find_images, read_upright_image
from pose.inference.sources import download_image, is_address
from pose.video.readers import Frame, FrameSource, open_source

Location = str | Path
"""A path, or an address or camera number as a string."""


@dataclass(frozen=True)
class Input:
    """One source of frames that the user has named.

    Attributes:
        name: of its outputs, without suffix.
        locations: the images of a source of images, or one video, stream or camera.
        file_names: names of the images, unique, with folders where names repeat; empty for a video.
    """

    name: str
    locations: tuple[Location, ...]
    file_names: tuple[str, ...] = ()

    @property
    def has_images(self) -> bool:
        """Whether it consists of images."""
        return bool(self.file_names)

    @property
    def files(self) -> list[Path]:
        """The files that are read; no output may replace them."""
        return [location for location in self.locations if isinstance(location, Path)]

    def open(self) -> FrameSource:
        """Open the source.

        Raises:
            MediaError: as `open_source`.
            DataError: an image cannot be downloaded; also while iterating.
        """
        return _open_images(self) if self.has_images else open_source(self.locations[0])


def find_inputs(arguments: Sequence[str]) -> list[Input]:
    """Return the sources that a user has named: all images together as one, then each video.

    Args:
        arguments: image files, folders of images, globs, http(s) addresses of images, video files, addresses of
            streams, and numbers of cameras. An input that is named twice is read once.

    Raises:
        MediaError: a file, a folder or a match of a glob does not exist.
    """
    images: list[Location] = []
    videos: list[Location] = []
    with_images = set()
    for argument in arguments:
        for location in _locations(argument):
            is_image = _suffix(location) in IMAGE_SUFFIXES
            with_images |= {argument} if is_image else set()
            (images if is_image else videos).append(location)
    images, videos = _without_repeats(images), _without_repeats(videos)
    inputs = []
    if images:
        inputs.append(Input(_images_name(images, len(with_images)), tuple(images), tuple(unique_names(images))))
    for location, name in zip(videos, unique_names(videos), strict=True):
        inputs.append(Input(name.removesuffix(PurePosixPath(name).suffix), (location,)))
    return inputs


def _locations(argument: str) -> list[Location]:
    if argument.isdecimal() or is_address(argument):
        return [argument]
    path = Path(argument)
    if path.is_dir():
        return [*find_images(path)]
    if path.is_file():
        return [path]
    if not glob.has_magic(argument):
        raise MediaError(f"{argument}: no such video, image or folder; for a camera give its number, such as 0")
    matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True)) if Path(match).is_file()]
    if not matches:
        raise MediaError(f"{argument}: no file matches this pattern; check the folder and the suffix")
    return [*matches]


def _without_repeats(locations: Sequence[Location]) -> list[Location]:
    by_file: dict[Location, Location] = {}
    for location in locations:
        by_file.setdefault(_real(location) if isinstance(location, Path) else location, location)
    return [*by_file.values()]


def _real(path: Path) -> Path:
    """Return a path without links; takes a link to itself, too, which reading the file refuses."""
    return Path(os.path.realpath(path))


def _suffix(location: Location) -> str:
    return PurePosixPath(urlsplit(location).path if isinstance(location, str) else location.name).suffix.lower()


def _images_name(images: Sequence[Location], arguments: int) -> str:
    """Return the name of the only image, or of the only folder if one argument names all images."""
    if len(images) == 1:
        return PurePosixPath(unique_names(images)[0]).stem
    folders = {_real(location).parent for location in images if isinstance(location, Path)}
    return (folders.pop().name or "images") if arguments == len(folders) == 1 else "images"


def unique_names(locations: Sequence[Location]) -> list[str]:
    """Return the file names of locations, with as many of their folders as make the names unique.

    Raises:
        MediaError: two addresses differ only after the path.
    """
    parts = [_name_parts(location) for location in locations]
    for count in range(1, 1 + max(map(len, parts), default=0)):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    if not locations:
        return []
    raise MediaError(f"{locations[-1]}: has the name of another input; give them in two commands")


def _name_parts(location: Location) -> tuple[str, ...]:
    if isinstance(location, Path):
        return _real(location).parts[1:]
    if location.isdecimal():
        return (f"camera{location}",)
    address = urlsplit(location)
    parts = [part for part in (address.hostname or "stream", *unquote(address.path).split("/")) if part.strip(".")]
    return tuple(parts)


def _open_images(images: Input) -> FrameSource:
    first = _read(images.locations[0])
    stems = [PurePosixPath(name).stem for name in images.file_names]
    # As in box files: the number in the name, if that tells all images apart.
    has_numbers = all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems)
    image_ids = tuple(map(int, stems)) if has_numbers else tuple(range(len(stems)))

    def frames() -> Iterator[Frame]:
        for index, location in enumerate(images.locations):
            yield Frame(index, _read(location) if index else first, image_ids[index], images.file_names[index])

    many = len(images.locations) > 1
    location = images.name if many else str(images.locations[0])
    size_wh = first.shape[1], first.shape[0]
    return FrameSource(location, "folder" if many else "image", frames(), size_wh, image_ids=image_ids)


def _read(location: Location) -> Image:
    return download_image(location) if isinstance(location, str) else read_upright_image(location)
