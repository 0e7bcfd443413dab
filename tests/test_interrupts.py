"""Ctrl-C and SIGTERM: a first one asks, a second one and the grace time raise, and the handlers come back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from chemmara.interrupts import Interrupted, Interrupts, sigterm_as_ctrl_c

BOTH = [signal.SIGINT, signal.SIGTERM]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks(number: signal.Signals) -> None:
    with Interrupts(grace=60) as interrupts:
        interrupts.check()
        assert not interrupts.requested
        send(number)
        assert interrupts.requested
        with pytest.raises(Interrupted, match="go on with --resume"):
            interrupts.check()
    assert Interrupted.exit_code == 130


@pytest.mark.parametrize("number", BOTH)
def test_the_second_signal_raises(number: signal.Signals) -> None:
    with Interrupts(grace=60):
        send(number)
        with pytest.raises(Interrupted):
            send(number)


@pytest.mark.parametrize("wait", [time.sleep, threading.Event().wait, busy], ids=["sleep", "lock", "busy"])
def test_the_grace_time_raises_whatever_the_step_waits_for(wait: Callable[[float], object]) -> None:
    started = time.monotonic()
    with Interrupts(grace=0.1):
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            wait(15)
    assert time.monotonic() - started < 10


def test_handlers_are_restored_and_the_timer_is_stopped() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with contextlib.suppress(ZeroDivisionError), Interrupts(grace=60) as interrupts:
        assert [signal.getsignal(number) for number in BOTH] != before
        send(signal.SIGINT)
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in BOTH] == before
    assert interrupts._timer is not None
    interrupts._timer.join(10)
    assert not interrupts._timer.is_alive(), "it was cancelled, long before its time"


def test_a_handler_put_over_it_can_be_taken_back() -> None:
    with Interrupts(grace=60) as interrupts:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupts.take_back()
        send(signal.SIGTERM)
        assert interrupts.requested
    before = signal.getsignal(signal.SIGTERM)
    interrupts.take_back()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT) is before, interrupts.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, False)]


SEARCHING = """
import os, signal, subprocess, sys, threading, time
from chemmara.interrupts import keep_to_python
keep_to_python()
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
from rdkit import Chem, RDLogger
RDLogger.DisableLog("rdApp.*")
ring = Chem.MolFromSmarts("[#6]1~[#6]~[#6]~[#6]~[#6]~[#6]1")
molecules = [Chem.MolFromSmiles("c1ccc2cc3ccccc3cc2c1" + "C" * n + "c1ccc2ccccc2c1") for n in range(1, 60)]
count = lambda: [len(molecule.GetSubstructMatches(ring)) for molecule in molecules]
expected = count()
send = f"import os, time\\nfor _ in range(100): time.sleep(0.01); os.kill({os.getpid()}, 2)"
sender = subprocess.Popen([sys.executable, "-c", send], start_new_session=True)
wrong = 0
while sender.poll() is None:
    wrong += count() != expected
before = time.monotonic()
threading.Timer(0.2, lambda: os.kill(os.getpid(), 2)).start()
number = len(heard)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    time.sleep(30)
except KeyboardInterrupt:
    print(wrong, number > 0, time.monotonic() - before < 10)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked here")
def test_a_signal_ends_no_search_of_rdkit_and_wakes_a_wait() -> None:
    """RDKit would hand back what it has found by then, and nobody would hear of the signal."""
    found = subprocess.run(
        [sys.executable, "-c", SEARCHING], capture_output=True, text=True, timeout=60, check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert found.stdout.split() == ["0", "True", "True"]


def test_sigterm_is_as_ctrl_c_inside_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ended_by_a_cluster() -> None:
        with sigterm_as_ctrl_c():
            send(signal.SIGTERM)
            busy(1)

    with pytest.raises(KeyboardInterrupt):
        ended_by_a_cluster()
    assert signal.getsignal(signal.SIGTERM) is before
    ended: list[bool] = []

    def elsewhere() -> None:
        with sigterm_as_ctrl_c():
            ended.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ended == [True]
