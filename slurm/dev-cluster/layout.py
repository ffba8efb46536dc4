"""Where the rehearsal cluster lives, what it is made of, and the files that configure it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
MARK = ".retable-dev-cluster"  # only a folder with this file in it is ever written to or removed
LONGEST = 80  # characters of the folder's path; a Unix socket's path may have 107 in all
CPUS, MEMORY, GPUS = 2, 8000, 2  # of each node: cores, MB, and links that stand for GPUs
PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sinfo": "slurm-client",
    "sacctmgr": "slurm-client",
    "munged": "munge",
    "mungekey": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}


class Refused(Exception):
    """What stands in the way, in one line, with what to do about it."""


@dataclass(frozen=True)
class Layout:
    """One cluster: its folder, its ports, its nodes.

    Attributes:
        root: The folder that holds all of it.
        port: First of the ports: the controller's; slurmdbd has the next, the nodes follow.
        size: How many nodes, n1 and on.
        requeue: Seconds that a requeued job waits before it may start again.
    """

    root: Path
    port: int
    size: int
    requeue: int

    @classmethod
    def from_environment(cls) -> Layout:
        """The cluster that the environment variables describe, each with a default."""
        folder = os.environ.get("RETABLE_DEV_CLUSTER") or f"/tmp/retable-dev-cluster-{os.getuid()}"
        root = Path(folder).absolute()
        if len(str(root)) > LONGEST:
            raise Refused(f"{root} is too long for a socket's path (over {LONGEST} characters)")
        if set(str(root)) & set(" \t\n,%#\\\"'"):
            raise Refused(f"{root}: SLURM's files cannot hold blanks, quotes, comma, %, # or \\")
        layout = cls(
            root,
            port=_number("RETABLE_DEV_CLUSTER_PORT", 17100, 1024, 65000),
            size=_number("RETABLE_DEV_CLUSTER_NODES", 3, 1, 32),
            requeue=_number("RETABLE_DEV_CLUSTER_REQUEUE", 15, 5, 3600),
        )
        layout.check_folder()
        return layout

    @property
    def conf(self) -> Path:
        """What SLURM_CONF has to name."""
        return self.root / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """Where munged of this cluster listens."""
        return self.root / "munge" / "socket"

    @property
    def mariadb_socket(self) -> Path:
        """Where MariaDB of this cluster listens; it has no port."""
        return self.root / "mariadb" / "socket"

    @property
    def nodes(self) -> dict[str, int]:
        """The nodes' names and ports."""
        return {f"n{i}": self.port + 1 + i for i in range(1, self.size + 1)}

    @property
    def ports(self) -> dict[int, str]:
        """All ports and the daemons that listen there."""
        return {
            self.port: "slurmctld",
            self.port + 1: "slurmdbd",
            **{port: f"slurmd-{node}" for node, port in self.nodes.items()},
        }

    @cached_property
    def address(self) -> str:
        """Where the daemons listen; SLURM can bind to the address of the machine's name only."""
        name = socket.gethostname()
        try:
            return socket.gethostbyname(name)
        except OSError as error:
            raise Refused(
                f"the name {name} of this machine has no address ({error}); "
                f"add '127.0.1.1 {name}' to /etc/hosts"
            ) from None

    @cached_property
    def environment(self) -> dict[str, str]:
        """For daemons and clients: nothing of another SLURM, and /usr/sbin on the PATH."""
        foreign = (
            "SLURM",
            "SBATCH_",
            "SRUN_",
            "SALLOC_",
            "SCANCEL_",
            "SQUEUE_",
            "SINFO_",
            "SACCT_",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {
            **kept,
            "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin",
            "SLURM_CONF": str(self.conf),
            "MYSQL_UNIX_PORT": str(self.mariadb_socket),
        }

    def program(self, name: str) -> str:
        """Full path of a command that :func:`missing` has found."""
        return shutil.which(name, path=self.environment["PATH"]) or name

    def missing(self) -> list[str]:
        """Commands that are not installed."""
        return [c for c in PACKAGES if not shutil.which(c, path=self.environment["PATH"])]

    def check_folder(self) -> None:
        """Raises Refused where the folder holds something else or is somebody else's."""
        if not os.path.lexists(self.root):
            return
        if self.root.is_symlink() or not self.root.is_dir():
            raise Refused(f"{self.root} is not a folder; set RETABLE_DEV_CLUSTER to another")
        if self.root.stat().st_uid != os.getuid():
            raise Refused(f"{self.root} belongs to another user; set RETABLE_DEV_CLUSTER")
        if not (self.root / MARK).exists() and any(self.root.iterdir()):
            raise Refused(f"{self.root} holds other files; set RETABLE_DEV_CLUSTER to a new folder")

    def write(self) -> None:
        """Makes the folders and writes the configuration."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.root / MARK).touch()
        for name in ("log", "run", "state", "gpu", "spool", "munge", "mariadb"):
            # A cluster of root is for all users of the machine; what is secret has mode 600.
            (self.root / name).mkdir(mode=0o700 if name == "mariadb" else 0o755, exist_ok=True)
        for node in self.nodes:
            (self.root / "spool" / node).mkdir(mode=0o755, exist_ok=True)
            for index in range(GPUS):
                # A device it has to be, or CUDA_VISIBLE_DEVICES is not set; a link to one will do.
                link = self.root / "gpu" / f"{node}-gpu{index}"
                if not link.is_symlink():
                    link.symlink_to("/dev/null")
        key = self.root / "munge" / "key"
        if not key.exists():
            made = [self.program("mungekey"), "--create", f"--keyfile={key}"]
            subprocess.run(made, check=True, env=self.environment)
        for name, text in self.files().items():
            self._replace(name, text, 0o600 if name == "slurmdbd.conf" else 0o644)

    def files(self) -> dict[str, str]:
        """The configuration, as it is to be written."""
        host = socket.gethostname().split(".")[0]
        values = {
            "host": host,
            "address": self.address,
            "root": self.root,
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "controller_port": self.port,
            "database_port": self.port + 1,
            "requeue": self.requeue,
            "nodes": "\n".join(
                f"NodeName={node} NodeHostname={host} NodeAddr={self.address} Port={port} "
                f"CPUs={CPUS} RealMemory={MEMORY} Gres=gpu:{GPUS}"
                for node, port in self.nodes.items()
            ),
        }
        gpus = (
            f"NodeName={node} Name=gpu File={self.root}/gpu/{node}-gpu[0-{GPUS - 1}]\n"
            for node in self.nodes
        )
        templates = {
            name: Template((HERE / f"{name}.in").read_text()).substitute(values)
            for name in ("slurm.conf", "slurmdbd.conf")
        }
        return templates | {
            "gres.conf": "".join(gpus),
            "cgroup.conf": "CgroupPlugin=disabled\n",
            # slurmdbd would make it itself, but fails at that with MariaDB's library 3.4.9, which
            # forgets its limits when a first connection has failed.
            "database.sql": "CREATE DATABASE IF NOT EXISTS slurm;\n",
        }

    def _replace(self, name: str, text: str, mode: int) -> None:
        new = self.root / f".{name}.new"
        new.write_text(text)
        new.chmod(mode)
        new.replace(self.root / name)


def _number(name: str, default: int, least: int, most: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise Refused(f"{name}={text} is not a whole number from {least} to {most}")
    return int(text)
