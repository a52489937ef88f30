"""Train on two hosts through a cut link and a killed process, to the weights of an undisturbed run.

    python -m tests.robustness.two_hosts

The hosts are two network namespaces joined by a veth pair (Linux, root, `ip` from Debian's iproute2); they
share the disk. Each runs torchrun with one process, and they meet through its rendezvous. The exit status is
77 if namespaces cannot be made.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from swinsf.models import checkpoint
from tests.conftest import ROOT, assert_equal, write_photos, write_tiny_weights

SKIPPED = 77
TIMEOUT = 5  # seconds for which a process waits for the other
CUT = 12  # seconds for which the link is cut
LIMIT = 300  # time limit of a job in seconds


def ip(*arguments):
    return subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True, check=True)


@contextlib.contextmanager
def hosts():
    """Yields the names of two namespaces, joined by a link from 10.77.0.1 to 10.77.0.2. Raises OSError if
    they cannot be made."""
    if sys.platform != "linux" or os.geteuid() or not shutil.which("ip"):
        raise OSError("two hosts need Linux, root and the program ip of iproute2")
    names = [f"host{number}-{os.getpid()}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "veth1",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "veth2",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", f"veth{number}")
            for device in (f"veth{number}", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    except subprocess.CalledProcessError as error:
        raise OSError(f"namespaces cannot be made here: {error.stderr.strip()}") from None
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Job:
    """torchrun on both hosts, training one run."""

    def __init__(self, names, folder, run):
        self.names, self.folder = names, folder / run
        self.logs = [folder / f"{run}.{name.split('-')[0]}.log" for name in names]
        self.agents = [self.start(number, run) for number in (1, 2)]
        self.begin = time.monotonic()

    def start(self, number, run):
        meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "10.77.0.1:29400", "--rdzv_id", run]
        meeting += ["--local_addr", f"10.77.0.{number}", "--rdzv_conf", f"timeout=60,is_host={2 - number}"]
        place, weights = self.folder.parent, self.folder.parent / "tiny.pth"
        training = [
            "train.py",
            "--dataset_path",
            f"photos:{place}/photos",
            "--load_model",
            weights,
            "--recipe",
            "modern",
        ]
        training += [
            "--crop_size",
            20,
            "--batch_size",
            4,
            "--epoch_length",
            400,
            "--epochs",
            2,
            "--val_every",
            0,
            "--workers",
            1,
        ]
        training += [
            "--save_path",
            place,
            "--run_name",
            run,
            "--save_minutes",
            0.02,
            "--timeout",
            TIMEOUT,
            "--device",
            "cpu",
        ]
        command = [
            "ip",
            "netns",
            "exec",
            self.names[number - 1],
            sys.executable,
            "-m",
            "torch.distributed.run",
        ]
        command += ["--nnodes", 2, "--nproc_per_node", 1, "--max_restarts", 6, *meeting, *training]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"veth{number}"}
        with open(self.logs[number - 1], "wb") as log:
            return subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stdout=log, stderr=log)

    def wait_for(self, pattern):
        """Wait for a pattern in the first host's log. Raises RuntimeError, with both logs, if it does not
        come."""
        while not re.search(pattern, self.logs[0].read_text()):
            if time.monotonic() - self.begin > LIMIT or any(agent.poll() for agent in self.agents):
                self.fail(f"{pattern} did not come")
            time.sleep(0.05)

    def finish(self):
        """Wait for both agents; returns last.pth."""
        for agent in self.agents:
            try:
                if agent.wait(LIMIT):
                    self.fail(f"exit status {agent.returncode}")
            except subprocess.TimeoutExpired:
                self.fail(f"not done after {LIMIT} s")
        return checkpoint.load(self.folder / "last.pth")

    def fail(self, reason):
        for agent in self.agents:
            agent.kill()
        logs = "\n".join(f"{log}:\n{log.read_text()[-4000:]}" for log in self.logs)
        raise RuntimeError(f"{self.folder.name}: {reason}\n{logs}")

    def workers(self, number):
        """The ids of the training processes on a host, without their data-loading workers."""
        listed = subprocess.run(
            ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout
        lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
        agents = [self.agents[number - 1].pid]
        # `ip` may stay as the agent's parent
        agents += [int(pid) for pid, parent, _ in lines if int(parent) in agents]
        return [
            int(pid)
            for pid, parent, command in lines
            if int(parent) in agents and "train.py" in command.split("run_name")[0]
        ]


def disturb(job):
    """Cut and restore the link in the first epoch; kill a process in the second."""
    job.wait_for(r"epoch 1: .*? [3-9]\d/100")
    ip("-n", job.names[1], "link", "set", "veth2", "down")
    print(f"link cut for {CUT} s", flush=True)
    time.sleep(CUT)
    ip("-n", job.names[1], "link", "set", "veth2", "up")
    job.wait_for(r"epoch 2: .*? [3-9]\d/100")
    victim = [pid for pid in job.workers(2) if pid != job.agents[1].pid][-1]
    os.kill(victim, signal.SIGKILL)
    print("a process of the second host killed", flush=True)


def main():
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photos(folder / "photos")
        write_tiny_weights(folder / "tiny.pth")
        try:
            with hosts() as names:
                undisturbed = Job(names, folder, "undisturbed").finish()
                job = Job(names, folder, "disturbed")
                disturb(job)
                disturbed = job.finish()
        except OSError as error:
            print(f"skipped: {error}")
            return SKIPPED
        restarts = job.logs[0].read_text().count("from step ") - 1
        states = [run["training"] for run in (undisturbed, disturbed)]
        for state in states:
            del state["totals"]  # seconds
        print(
            f"{states[1]['step']} steps, {restarts} restarts, random states of {len(states[1]['random'])} processes"
        )
        assert_equal(*states)
        print("the weights, optimiser and random states are those of the undisturbed run, to the bit")
        return 0


if __name__ == "__main__":
    sys.exit(main())
