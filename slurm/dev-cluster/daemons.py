"""The cluster's daemons: how each is started, when it answers, how it is stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import processes
from layout import Layout, Refused

TAIL = 15  # lines of a log that are shown with an error
STEP = 2.0  # seconds between lines of progress


@dataclass(frozen=True)
class Daemon:
    """One daemon, in the foreground in a session of its own.

    Attributes:
        name: As it is called in messages and under ``log/``.
        command: The whole command line.
        conf: The cluster's slurm.conf.
        ready: Whether it answers.
        seconds: How long it may take until then.
        grace: How long it may take to stop, before it is killed.
        node: The virtual node that it is, if it is one.
    """

    name: str
    command: tuple[str, ...]
    conf: Path
    ready: Callable[[], bool]
    seconds: float
    grace: float
    node: str | None = None

    def running(self) -> list[processes.Process]:
        """Its process; several for the moment in which it forks."""
        return processes.daemon(self.conf, Path(self.command[0]).name, self.node)


class Failed(Exception):
    """A daemon that does not come up; the message ends with the tail of its log."""


def call(layout: Layout, *command: str, seconds: float = 10) -> subprocess.CompletedProcess[str]:
    """Asks the cluster something; a command that hangs counts as failed."""
    arguments = [layout.program(command[0]), *command[1:]]
    try:
        return subprocess.run(
            arguments, env=layout.environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        message = f"{command[0]}: no answer in {seconds:g} s"
        return subprocess.CompletedProcess(arguments, 124, "", message)


def all_of(layout: Layout) -> list[Daemon]:
    """The daemons in the order of their start; they stop in the reverse one."""
    root, conf = layout.root, layout.conf
    munge = str(layout.munge_socket)

    def daemon(
        name: str, *options: str, ready: Callable[[], bool], seconds: float, grace: float
    ) -> Daemon:
        return Daemon(name, (layout.program(name), *options), conf, ready, seconds, grace)

    def answers(*command: str) -> Callable[[], bool]:
        return lambda: call(layout, *command).returncode == 0

    return [
        daemon(
            "munged",
            "--foreground",
            "--force",  # also below a folder that others cannot enter, such as a home
            f"--socket={munge}",
            f"--key-file={root}/munge/key",
            f"--pid-file={root}/munge/pid",
            f"--seed-file={root}/munge/seed",
            "--num-threads=2",
            ready=answers("munge", "--no-input", f"--socket={munge}"),
            seconds=15,
            grace=5,
        ),
        daemon(
            "mariadbd",
            "--no-defaults",
            f"--datadir={root}/mariadb/data",
            f"--socket={layout.mariadb_socket}",
            f"--pid-file={root}/mariadb/pid",
            f"--user={_user()}",
            f"--init-file={root}/database.sql",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=2",
            ready=lambda: _listens(layout.mariadb_socket),
            seconds=60,
            grace=30,
        ),
        # slurmdbd finds slurmdbd.conf beside the file that SLURM_CONF names.
        daemon(
            "slurmdbd",
            "-D",
            ready=answers("sacctmgr", "--noheader", "show", "cluster"),
            seconds=60,
            grace=15,
        ),
        daemon(
            "slurmctld",
            "-D",
            "-f",
            str(conf),
            ready=answers("scontrol", "ping"),
            seconds=60,
            grace=20,
        ),
        *(
            Daemon(
                f"slurmd-{node}",
                (layout.program("slurmd"), "-D", "-f", str(conf), "-N", node),
                conf,
                lambda port=port: not free(layout.address, port),
                seconds=30,
                grace=10,
                node=node,
            )
            for node, port in layout.nodes.items()
        ),
    ]


def start(layout: Layout, daemon: Daemon) -> bool:
    """Starts a daemon unless it runs, and waits until it answers; whether it had to be started.

    Raises:
        Failed: It ended, or does not answer in its time.
    """
    process = None if daemon.running() else _spawn(layout, daemon)

    def ready() -> bool:
        if process is not None and process.poll() is not None:
            raise Failed(f"{daemon.name} ended at once (exit {process.returncode})")
        return daemon.ready()

    try:
        wait(daemon.name, ready, daemon.seconds)
    except Failed as error:
        if process is not None:
            processes.stop(daemon.running(), 2)
        raise Failed(f"{error}\n{tail(layout, daemon.name)}") from None
    return process is not None


def wait(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Waits until something is ready, with a line of progress every two seconds.

    Raises:
        Failed: It is not ready in time.
    """
    begin = time.monotonic()
    said = STEP
    while not ready():
        passed = time.monotonic() - begin
        if passed > seconds:
            raise Failed(f"{what}: not ready after {passed:.0f} s")
        if passed >= said:
            say(f"  waiting for {what}: {passed:.0f} s (at most {seconds:.0f} s)")
            said += STEP
        time.sleep(0.1)


def create_database(layout: Layout) -> None:
    """Makes MariaDB's system tables, once; what a crash left half made is made anew."""
    data, done = layout.root / "mariadb" / "data", layout.root / "mariadb" / "created"
    if done.exists():
        return
    if data.exists():
        shutil.rmtree(data)
    say("making the database of the accounting")
    made = call(
        layout,
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        f"--user={_user()}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={_user()}",
        "--skip-test-db",
        "--innodb-log-file-size=16M",
        seconds=120,
    )
    if made.returncode:
        raise Failed(f"mariadb-install-db: exit {made.returncode}\n{made.stdout}{made.stderr}")
    done.touch()


def check_ports(layout: Layout) -> None:
    """Raises Refused where something else listens on a port of a daemon that does not run."""
    running = {daemon.name for daemon in all_of(layout) if daemon.running()}
    patience = time.monotonic() + 3  # one that was just killed may hold its port for a moment
    for port, name in layout.ports.items():
        while name not in running and not free(layout.address, port):
            if time.monotonic() < patience:
                time.sleep(0.1)
                continue
            raise Refused(
                f"port {port} of {name} is taken by another program; set RETABLE_DEV_CLUSTER_PORT "
                f"to the first of {len(layout.ports)} free ports"
            )


def free(address: str, port: int) -> bool:
    """Whether nothing listens on a port."""
    with socket.socket() as probe:
        # As the daemons do: connections of a daemon that is gone do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def tail(layout: Layout, name: str) -> str:
    """The end of what a daemon has said since it was started."""
    path = layout.root / "log" / f"{name}.out"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return f"{path}: no log"
    return "\n".join([f"the end of {path}:", *(f"  | {line}" for line in lines[-TAIL:])])


def say(text: str) -> None:
    """A line for the user; what a script wants to read goes to stdout instead."""
    print(text, file=sys.stderr, flush=True)


def _spawn(layout: Layout, daemon: Daemon) -> subprocess.Popen[bytes]:
    log = layout.root / "log" / f"{daemon.name}.out"
    with log.open("wb") as out:
        return subprocess.Popen(
            daemon.command,
            env=layout.environment,
            cwd=layout.root,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
