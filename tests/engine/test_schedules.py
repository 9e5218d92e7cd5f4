"""Schedules of learning rate and temperature, compared with the values of the paper."""

import pytest

from pose.engine.schedules import cosine_decay, step_decay, temperature, warmup


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 1e-3), (169, 1e-3), (169.999, 1e-3), (170, 1e-4), (199, 1e-4), (200, 1e-5), (209, 1e-5)],
)
def test_step_decay_drops_after_170_and_200_complete_epochs(epoch, rate):
    assert 1e-3 * step_decay(epoch, (170, 200), 0.1) == pytest.approx(rate)


def test_step_decay_without_milestones_is_constant():
    assert step_decay(1000, (), 0.1) == 1


def test_cosine_decay_falls_from_one_to_zero():
    assert [cosine_decay(epoch, 20) for epoch in (0, 10, 20)] == pytest.approx([1, 0.5, 0])
    assert cosine_decay(5, 20) == pytest.approx(0.5 + 0.5 * 0.5**0.5)


def test_cosine_decay_is_zero_after_the_last_epoch():
    assert cosine_decay(21, 20) == pytest.approx(0)


def test_warmup_reaches_one_at_its_last_step():
    assert [warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_warmup_of_zero_steps_is_one_from_the_first_step():
    assert warmup(0, 0) == 1


def test_temperature_falls_linearly_from_30_to_1_over_ten_epochs():
    assert [temperature(epoch, 30, 1, 10) for epoch in (0, 1, 5, 10, 11, 300)] == pytest.approx(
        [30, 27.1, 15.5, 1, 1, 1]
    )


def test_temperature_without_a_final_value_is_constant():
    assert {temperature(epoch, 30, None, 10) for epoch in (0, 9, 10, 209)} == {30}
