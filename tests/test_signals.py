"""Signals that come at an awkward moment."""

import os
import signal
import time

import pytest

from swgctl import signals
from swgctl.errors import Interrupted


def test_a_signal_is_not_lost_where_a_library_raises_its_own_exception_instead():
    """As PyTorch does where one comes in the middle of a conversion."""

    def convert():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Interrupted:
            raise ValueError("could not determine the shape of object type") from None

    with pytest.raises(Interrupted, match="SIGTERM"), signals.handled():
        convert()
    with pytest.raises(ValueError, match="shape"), signals.handled():
        raise ValueError("shape")  # and without one it is nobody else's


def test_a_signal_while_it_is_deferred_is_not_lost():
    with pytest.raises(Interrupted, match="SIGTERM"), signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    signals.check()  # and the next run is not stopped by it
