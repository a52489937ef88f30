import os
import signal
import subprocess
import sys
import threading
import time

from swinsf.utils import stopping
from tests.conftest import ROOT


def test_sigterm_ends_a_step_that_never_ends(tmp_path):
    code = "import time; from swinsf.utils.stopping import Stopper; Stopper.GRACE = 0.3\n"
    code += "with Stopper() as stopper: print('begun', flush=True); [time.sleep(1) for _ in range(60)]"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - begin < 20
    assert errors == "ended: no stop within 0.3 s of SIGTERM. What was saved is whole\n"


def test_a_step_that_ends_after_sigterm_is_left_alone():
    with stopping.Stopper() as stopper:
        stopper.GRACE = 0.2
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper()
    time.sleep(0.4)  # the process is still running


def test_a_stopper_in_a_thread_leaves_signals_alone():
    found = []

    def work():
        with stopping.Stopper() as stopper:
            found.append(stopper())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
