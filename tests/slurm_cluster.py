"""A real Slurm of one node, run without systemd by whoever runs the tests: munged, slurmctld and slurmd, in one folder."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian keeps daemons there
DEADLINE = 60.0  # s

CONFIG = """\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=15
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE PriorityTier=5
PartitionName=low Nodes=localhost MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes=localhost MaxTime=INFINITE PriorityTier=10
"""


def is_installed():
    return all(shutil.which(name, path=PATH) for name in (*DAEMONS, "sbatch"))


class SlurmCluster:
    """Context manager of a node with two processors in the partitions main, low and high, of which a higher one preempts."""

    def __enter__(self):
        self._stack = ExitStack()
        # munged refuses a socket under a directory that others may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            return self._start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception):
        self._stack.close()

    def _start(self):
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(256))
        key.chmod(0o600)
        config = self.folder / "slurm.conf"
        config.write_text(CONFIG.format(folder=self.folder, ports=_free_ports(2), user=getpass.getuser()))
        self.environment = {"SLURM_CONF": str(config)}
        munge = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        paths = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge[name]}" for option, name in paths.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *options)
        self._wait(munge["socket"].exists, "munged made no socket")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", "localhost")
        self._wait(lambda: self.ask("sinfo", "-h", "-o", "%t", check=False).split() == ["idle"], "the node is not idle")
        return self

    def ask(self, *words, check=True):
        """Return what a command of Slurm prints."""
        answer = subprocess.run(words, env=os.environ | self.environment, capture_output=True, text=True)
        assert not check or answer.returncode == 0, answer.stderr
        return answer.stdout

    def job(self, number):
        """Return {name: value} of `scontrol show job`."""
        words = self.ask("scontrol", "show", "job", "-o", str(number)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def _daemon(self, name, *options):
        words = [shutil.which(name, path=PATH), *options]
        with open(self.folder / f"{name}.out", "wb") as log:
            process = subprocess.Popen(words, env=os.environ | self.environment | {"PATH": PATH}, stdout=log, stderr=log)
        self._stack.callback(_stop, process)

    def _wait(self, condition, complaint):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            printed = "\n".join(path.read_text(errors="replace")[-1000:] for path in self.folder.glob("*.out"))
            assert time.monotonic() < deadline, f"{complaint}: {printed}"
            time.sleep(0.05)


def _stop(process):
    process.terminate()
    try:
        process.wait(20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
