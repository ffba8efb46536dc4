"""What up, down, status and node do."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import daemons
import processes
from daemons import Daemon, Failed, call, say
from layout import MARK, PACKAGES, Layout, Refused

UP = ("idle", "mixed", "allocated", "completing")  # states of a node that takes jobs
SHOWN = (
    ("sinfo", "--partition=low", "--Node", "--format=%9N %12T %14C %9G %E"),
    ("sinfo", "--format=%9P %12T %14C %9G %N"),
    ("squeue", "--format=%9i %12T %14j %9P %10M %R"),
)
SECONDS = 60  # until the nodes are idle and the accounting knows the cluster


def up() -> int:
    """Starts what does not run, waits until the cluster takes jobs, and says how to use it."""
    _parser("up", "Start the rehearsal cluster, or what of it does not run.").parse_args()
    layout = Layout.from_environment()
    _check(layout)
    layout.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    (layout.root / MARK).touch()
    with _alone(layout):
        _check_settings(layout)
        daemons.check_ports(layout)
        layout.write()
        started: list[Daemon] = []
        try:
            for daemon in daemons.all_of(layout):
                if daemon.name == "mariadbd":
                    daemons.create_database(layout)
                _bury(layout, daemon)
                if daemons.start(layout, daemon):
                    started.append(daemon)
                    say(f"{daemon.name} started")
            _wait_until_whole(layout)
        except BaseException:
            # Nothing half started stays; what ran before this call goes on.
            _stop(started)
            raise
    say(f"{layout.size} nodes are ready, partitions low and high; try: srun -p high hostname")
    print(f"export SLURM_CONF={layout.conf}")
    return 0


def down() -> int:
    """Stops everything of this cluster; also what a crash has left."""
    parser = _parser("down", "Stop the rehearsal cluster; its records and queue stay.")
    parser.add_argument("--remove", action="store_true", help="remove its folder, too")
    options = parser.parse_args()
    layout = Layout.from_environment()
    if not layout.root.exists():
        say(f"{layout.root}: there is no cluster")
        return 0
    with _alone(layout):
        everything = daemons.all_of(layout)
        # As in a power cut: the controller first, so that jobs that ran are still in its queue.
        _stop([daemon for daemon in everything if daemon.name == "slurmctld"])
        # All nodes, also those that RETABLE_DEV_CLUSTER_NODES does not count any more.
        processes.stop(processes.daemon(layout.conf, "slurmd"), 10)
        processes.stop(processes.of_jobs(layout.conf), 0)
        _stop(everything)
        if options.remove:
            shutil.rmtree(layout.root)
    say(f"stopped{f'; removed {layout.root}' if options.remove else ''}")
    return 0


def status() -> int:
    """Prints daemons, nodes, partitions and jobs; 1 unless all of it works."""
    _parser("status", "Show the rehearsal cluster; exit 1 unless it is whole.").parse_args()
    layout = Layout.from_environment()
    if not layout.conf.exists():
        print(f"{layout.root}: there is no cluster; slurm/dev-cluster/up makes one")
        return 1
    faults: list[str] = []
    answering: list[str] = []
    for daemon in daemons.all_of(layout):
        running = daemon.running()
        if running and daemon.ready():
            state = f"runs as {running[0].pid}"
            answering.append(daemon.name)
        else:
            state = "runs, does not answer" if running else "does not run"
            faults.append(f"{daemon.name} {state}")
        print(f"{daemon.name:<12} {state}")
    print()
    # Without these two every command would take seconds to say so again.
    if "slurmctld" in answering:
        for command in SHOWN:
            answer = call(layout, *command)
            print((answer.stdout if not answer.returncode else answer.stderr).rstrip() + "\n")
        faults += _faults_of_nodes(layout)
    if "slurmdbd" in answering:
        faults += _faults_of_accounting(layout)
    print("\n".join(f"not whole: {fault}" for fault in faults) if faults else "whole")
    return 1 if faults else 0


def node() -> int:
    """Kills a node as a power cut would, or brings it back."""
    parser = _parser("node", "Kill one node with all that runs there, or bring it back.")
    parser.add_argument("action", choices=("kill", "start"))
    parser.add_argument("name", help="n1, n2, ...")
    options = parser.parse_args()
    layout = Layout.from_environment()
    _check(layout)
    if options.name not in layout.nodes:
        raise Refused(f"{options.name} is none of the nodes {', '.join(layout.nodes)}")
    if not layout.conf.exists():
        raise Refused(f"{layout.root}: there is no cluster; slurm/dev-cluster/up makes one")
    with _alone(layout):
        by_name = {daemon.name: daemon for daemon in daemons.all_of(layout)}
        daemon = by_name[f"slurmd-{options.name}"]
        if not by_name["slurmctld"].running():
            raise Refused("slurmctld does not run; slurm/dev-cluster/up starts it, and the nodes")
        if options.action == "kill":
            # slurmd first, so that nobody reports the end of the tasks.
            processes.stop(daemon.running(), 0)
            processes.stop(processes.of_jobs(layout.conf, options.name), 0)
            say(f"{options.name} is dead; SLURM shows it down within half a minute")
            return 0
        _bury(layout, daemon)
        daemons.start(layout, daemon)
        _wait_for_node(layout, options.name)
        say(f"{options.name} is back")
    return 0


def run(command: Callable[[], int]) -> int:
    """Calls one of the above; errors in one line, exit 2 for what was refused."""
    try:
        return command()
    except Refused as error:
        say(f"refused: {error}")
        return 2
    except Failed as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"slurm/dev-cluster/{name}", description=description)


def _check(layout: Layout) -> None:
    """Raises Refused where another SLURM could be meant, or commands are not installed."""
    other = os.environ.get("SLURM_CONF")
    if other and other != str(layout.conf):
        raise Refused(f"SLURM_CONF is {other}, another cluster's; unset it first")
    if found := processes.foreign():
        theirs = ", ".join(f"{process.name} ({process.pid})" for process in found)
        raise Refused(f"this machine belongs to another SLURM: {theirs} runs and is not ours")
    if missing := layout.missing():
        packages = " ".join(dict.fromkeys(PACKAGES[command] for command in missing))
        raise Refused(
            f"not installed: {', '.join(missing)}; on Debian: "
            f"apt-get install --no-install-recommends {packages}"
        )


def _check_settings(layout: Layout) -> None:
    """Raises Refused where a cluster runs that has other ports, nodes or waiting times."""
    runs = any(daemon.running() for daemon in daemons.all_of(layout))
    if runs and layout.conf.exists() and layout.conf.read_text() != layout.files()["slurm.conf"]:
        raise Refused(f"the cluster in {layout.root} runs with other settings; first call down")


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One up, down or node at a time; the folder itself is locked."""
    folder = os.open(layout.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another up, down or node")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _stop(some: list[Daemon]) -> None:
    """In the reverse order of their start; the nodes all at once."""
    nodes = [process for daemon in some if daemon.node for process in daemon.running()]
    processes.stop(nodes, 10)
    for daemon in reversed(some):
        if not daemon.node:
            processes.stop(daemon.running(), daemon.grace)


def _bury(layout: Layout, daemon: Daemon) -> None:
    """Tells the controller of a dead node, before it is started, that its jobs are gone.

    One that is back before its death was seen would be waited for until the jobs' time limit.
    """
    if daemon.node and not daemon.running():
        processes.stop(processes.of_jobs(layout.conf, daemon.node), 2)
        node = f"NodeName={daemon.node}"
        call(layout, "scontrol", "update", node, "State=DOWN", "Reason=started anew")


def _nodes_down(layout: Layout) -> dict[str, str]:
    """Nodes that take no jobs, and why; a key of its own if the controller does not answer."""
    answer = call(layout, "sinfo", "--noheader", "--Node", "--format=%N|%T|%E")
    if answer.returncode:
        return {"controller": (answer.stderr.strip() or "no answer").splitlines()[-1]}
    states = dict.fromkeys(layout.nodes, ("unknown", "not in the cluster"))
    for line in answer.stdout.splitlines():
        name, state, reason = line.split("|", 2)
        states[name] = (state, reason)
    return {
        name: f"{state} ({reason})" for name, (state, reason) in states.items() if state not in UP
    }


def _faults_of_nodes(layout: Layout) -> list[str]:
    return [f"{name}: {why}" for name, why in _nodes_down(layout).items()]


def _faults_of_accounting(layout: Layout) -> list[str]:
    known = call(layout, "sacctmgr", "--noheader", "--parsable2", "show", "cluster", "format=RPC")
    if known.returncode or known.stdout.strip() in ("", "0"):
        return ["the accounting does not know the cluster"]
    return ["sacct does not answer"] if call(layout, "sacct", "--noheader").returncode else []


def _resume(layout: Layout, down: dict[str, str]) -> None:
    """Puts nodes back to work that answer but were taken out, such as for a task not ended."""
    for name, why in down.items():
        if why.startswith(("down", "drain")) and "*" not in why.split()[0]:
            call(layout, "scontrol", "update", f"NodeName={name}", "State=RESUME")


def _wait_for_node(layout: Layout, name: str) -> None:
    """Waits until a node takes jobs."""
    fault = ""

    def ready() -> bool:
        nonlocal fault
        down = {n: why for n, why in _nodes_down(layout).items() if n in (name, "controller")}
        _resume(layout, down)
        fault = "; ".join(down.values())
        return not down

    try:
        daemons.wait(name, ready, SECONDS)
    except Failed as error:
        raise Failed(f"{error}: {fault}\n{daemons.tail(layout, 'slurmctld')}") from None


def _wait_until_whole(layout: Layout) -> None:
    """Waits for nodes and accounting; nodes that were drained or down are resumed."""
    faults: list[str] = []

    def whole() -> bool:
        _resume(layout, _nodes_down(layout))
        faults[:] = _faults_of_nodes(layout) + _faults_of_accounting(layout)
        return not faults

    try:
        daemons.wait("nodes and accounting", whole, SECONDS)
    except Failed as error:
        log = daemons.tail(layout, "slurmctld")
        raise Failed(f"{error}: {'; '.join(faults)}\n{log}") from None
