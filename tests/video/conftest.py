"""A drawn clip of people with known numbers."""

import pytest

from pose.tools.benchmarks._clip import ClipFrame, walking_people


@pytest.fixture(scope="session")
def clip() -> list[ClipFrame]:
    """People who walk through the image and hide each other."""
    return walking_people()
