"""Make docs/images/people.gif from the video that the demo draws on data/samples/people.mp4.

Example:
    python tools/demo_video.py --input data/samples/people.mp4 --output people_drawn.mp4 --detector pose --smooth
    python docs/images/make_people_gif.py people_drawn.mp4 docs/images/people.gif
"""

import sys

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRETCHES = (2, 10), (44, 52), (62, 69), (79, 86), (138, 148)
"""First and last frame of each part of the video that is shown."""
LEFT, WIDTH, SCALE = 272, 480, 0.9
"""The columns that are shown, in the video's pixels, and how much smaller."""
COLORS, FRAME_MS = 96, 100
NOISE = 7
"""Gray levels of change up to which a pixel keeps its color within a stretch: unchanged pixels take no space."""

Frame = NDArray[np.uint8]


def read_frames(video: str) -> list[Frame]:
    """Return all frames of a video, cropped and scaled, as RGB."""
    capture, frames = cv2.VideoCapture(video), []
    while True:
        decoded, frame = capture.read()
        if not decoded:
            return frames
        crop = cv2.resize(frame[:, LEFT : LEFT + WIDTH], None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
        frames.append(np.asarray(crop[..., ::-1], dtype=np.uint8))


def without_noise(frames: list[Frame]) -> list[Frame]:
    """Return the frames of a stretch with every pixel held until it changes by more than the video's noise."""
    held = frames[:1]
    for frame in frames[1:]:
        difference = cv2.absdiff(frame, held[-1]).max(axis=2)
        changed = (cv2.blur(difference, (3, 3)) > NOISE) | (difference > 2 * NOISE)
        mask = cv2.dilate(changed.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        held.append(np.where(mask[..., None], frame, held[-1]))
    return held


def main(video: str, output: str) -> None:
    """Read, choose, reduce to one palette, write."""
    frames = read_frames(video)
    shown = [frame for first, last in STRETCHES for frame in without_noise(frames[first : last + 1])]
    sample = Image.fromarray(np.concatenate(shown[::4]))
    palette = sample.quantize(COLORS, method=Image.Quantize.MEDIANCUT, kmeans=2)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in shown]
    images[0].save(output, save_all=True, append_images=images[1:], duration=FRAME_MS, loop=0, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
