"""Write CIFAR-10 as class folders, for dyconv-pose train-imagenet.

Examples:
  dyconv-pose prepare-cifar10 --source cifar10.tar.xz
  dyconv-pose prepare-cifar10 --source DOWNLOAD --root /data/cifar10

The source is a tar archive of the images in train/<class>/ and test/<class>/, or a folder that torchvision downloaded
with CIFAR10("DOWNLOAD", download=True). The command writes ROOT/train/<class>/ and ROOT/val/<class>/; val is CIFAR-10's
test part. It does nothing if both are there.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run
from pose.cli.arguments import output_folder
from pose.datasets.cifar10 import CLASSES, IMAGES_PER_CLASS, write_class_folders


def main(argv: Sequence[str] | None = None) -> None:
    """Write the class folders."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--source", type=Path, required=True, metavar="PATH", help="tar archive, or folder of torchvision's download"
    )
    parser.add_argument(
        "--root",
        type=output_folder,
        default=Path("data/cifar10"),
        metavar="DIR",
        help="folder to write (default: data/cifar10)",
    )
    args = parser.parse_args(argv)
    written = write_class_folders(args.source, args.root)
    images = " and ".join(f"{count * len(CLASSES)} in {part}" for part, count in IMAGES_PER_CLASS.items())
    print(f"{args.root}: {images}{'' if written else '; was complete'}")


if __name__ == "__main__":
    run(main)
