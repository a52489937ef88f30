"""Signals that ask a process to stop."""

import multiprocessing
import os
import signal
import sys
import threading
import time

# Clusters send SIGUSR1 as a warning. Windows does not have it.
STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


class Stopper:
    """Within `with`, SIGINT, SIGTERM and SIGUSR1 (a cluster's warning) request a stop after the current
    iteration. Calling it returns whether a stop was requested.

    Schedulers signal a process and its group at once, so a signal may come twice; only one that comes after
    PATIENCE seconds ends the process immediately. After SIGTERM, the process ends after GRACE seconds at the
    latest, in case a disk hangs. Outside the main thread, as in a notebook or a server, no signal arrives.
    """

    PATIENCE = 2.0
    GRACE = 60.0

    def __init__(self):
        self.signal = self.asked_at = self.timer = None

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        self.before = {number: signal.signal(number, self.ask) for number in STOPPING} if main else {}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.timer:
            self.timer.cancel()

    def ask(self, number, _):
        if self.signal is None:
            self.signal, self.asked_at = number, time.monotonic()
            if number == signal.SIGTERM:
                self.timer = threading.Timer(self.GRACE, self.end)
                self.timer.daemon = True
                self.timer.start()
        elif time.monotonic() - self.asked_at > self.PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def end(self):
        """End the process and its children, from another thread."""
        print(f"ended: no stop within {self.GRACE:g} s of SIGTERM. What was saved is whole", file=sys.stderr)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + signal.SIGTERM)

    def __call__(self):
        return self.signal is not None
