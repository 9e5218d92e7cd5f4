"""Ctrl-C and SIGTERM: the step is finished and saved, the run says how to continue, and status 130 or 143 follows."""

import os
import signal

import pytest

from pose.cli import Terminated, run
from pose.engine.interruption import StopSignals
from pose.tools.train import train_pose


@pytest.mark.parametrize(("name", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_interrupts_at_the_end_of_the_block(name, raised):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    finished = False
    with pytest.raises(raised) as caught, StopSignals() as stop:
        os.kill(os.getpid(), name)
        os.kill(os.getpid(), signal.SIGTERM)  # of a batch system that is not patient; the first signal counts
        finished = stop.received == name

    assert finished
    assert type(caught.value) is raised
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not interrupted")


@pytest.mark.parametrize(("name", "status", "word"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_saves_the_step_and_says_how_to_continue(
    name, status, word, tiny_config, dist, tmp_path, monkeypatch, caplog
):
    from pose.engine import trainer

    update, steps = trainer._update_weights, []

    def update_and_signal(*arguments):
        update(*arguments)
        steps.append(1)
        if len(steps) == 1:
            os.kill(os.getpid(), name)

    monkeypatch.setattr(trainer, "_update_weights", update_and_signal)
    config = tiny_config("train.batch_size=4", "train.epochs=3")

    with pytest.raises(SystemExit) as caught, caplog.at_level("INFO"):
        run(lambda _: train_pose(config, tmp_path, dist))

    assert caught.value.code == status
    assert len(steps) == 2  # the step of the signal was already checked; the next one asks all ranks
    assert f"stopped by {word}; continue with --resume {tmp_path}/last.pt" in caplog.text
    assert not list(tmp_path.glob(".*"))
