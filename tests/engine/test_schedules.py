"""Learning rate and temperature, against the numbers that the paper states."""

import pytest

from pose.engine.schedules import cosine_decay, step_decay, temperature, warmup


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 1e-3), (169, 1e-3), (169.999, 1e-3), (170, 1e-4), (199, 1e-4), (200, 1e-5), (209, 1e-5)],
)
def test_the_papers_rate_drops_when_170_and_200_of_210_epochs_are_done(epoch, rate):
    assert 1e-3 * step_decay(epoch, (170, 200), 0.1) == pytest.approx(rate)


def test_without_milestones_the_rate_stays():
    assert step_decay(1000, (), 0.1) == 1


def test_cosine_goes_from_one_over_a_half_to_zero():
    assert [cosine_decay(epoch, 20) for epoch in (0, 10, 20)] == pytest.approx([1, 0.5, 0])
    assert cosine_decay(5, 20) == pytest.approx(0.5 + 0.5 * 0.5**0.5)


def test_cosine_stays_at_zero_after_the_last_epoch():
    assert cosine_decay(21, 20) == pytest.approx(0)


def test_warm_up_reaches_the_whole_rate_with_its_last_step():
    assert [warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_without_warm_up_the_first_step_has_the_whole_rate():
    assert warmup(0, 0) == 1


def test_the_temperature_falls_from_30_to_1_over_the_first_ten_epochs():
    assert [temperature(epoch, 30, 1, 10) for epoch in (0, 1, 5, 10, 11, 300)] == pytest.approx(
        [30, 27.1, 15.5, 1, 1, 1]
    )


def test_without_a_final_temperature_it_stays():
    assert {temperature(epoch, 30, None, 10) for epoch in (0, 9, 10, 209)} == {30}
