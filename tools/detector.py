"""Set, show or unset the person detector that is used if none is named.

Examples:
    dyconv-pose detector set rtmdet_nano_person.onnx
    dyconv-pose detector show
    dyconv-pose detector unset

With --detector auto, the default, the other tools take the detector in the environment variable DYCONV_POSE_DETECTOR,
else the one that is set here, else a light detector of torchvision, whose weights are downloaded once. Without network
the pose model alone finds one person. The file stays where it is; the setting is one line in
$XDG_CONFIG_HOME/dyconv-pose/detector (~/.config by default).
"""

from collections.abc import Sequence

from pose.cli import ToolParser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, change or print the setting."""
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.action == "set") != (args.detector is not None):
        parser.error("expected: set FILE|NAME, show, or unset")

    from pose.inference.find_detector import set_detector, settings_file, unset_detector

    if args.action == "set":
        set_detector(args.detector)
    elif args.action == "unset":
        print(f"{settings_file()}: {'removed' if unset_detector() else 'nothing was set'}")
    print(describe())


def describe() -> str:
    """Return in one line which detector --detector auto takes."""
    from pose.inference.detectors.torchvision_models import weights_file
    from pose.inference.find_detector import chosen_detector, light_detector

    choice = chosen_detector()
    if choice is not None:
        return f"auto: {choice.name}, from {choice.origin}"
    try:
        name = light_detector()
        state = "in torch's cache" if weights_file(name).is_file() else "not downloaded yet"
    except ImportError as error:
        return f"auto: the pose model alone, one person ({error.name} is not installed, and no detector is set)"
    return f"auto: {name} of torchvision ({state}); no detector is set"


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument("action", choices=["set", "show", "unset"], help="what to do")
    parser.add_argument(
        "detector",
        nargs="?",
        metavar="FILE|NAME",
        help="for set: an .onnx file, a torchvision detector, or pose",
    )
    return parser


if __name__ == "__main__":
    run(main)
