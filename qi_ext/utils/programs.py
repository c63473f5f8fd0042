"""Names of our commands as they were started, so that what is printed can be pasted where it is printed."""

import shlex
import shutil
import sys
from pathlib import Path

# Each command of `qi-ext`, and its script in launchers/.
SCRIPTS = {
    "train": "run_gail.py",
    "evaluate": "evaluate.py",
    "record": "record.py",
    "report": "report.py",
    "sweep": "sweep.py",
    "export": "export.py",
    "demonstrations": "make_demonstrations.py",
}


def program(name):
    """Name of a command in its own messages: `evaluate.py` where a script was started, else `qi-ext evaluate`."""
    return SCRIPTS[name] if _script(name) else f"qi-ext {name}"


def command(name):
    """Words for a shell that start a command, as this process was started: by a script, by `qi-ext`, or else by Python."""
    script = _script(name)
    if script:
        return shlex.join([sys.executable, str(script)])
    if shutil.which("qi-ext"):
        return f"qi-ext {name}"
    return shlex.join([sys.executable, "-m", "qi_ext", name])


def _script(name):
    """Path of the script of a command, beside the one that was started; None where none was."""
    started = Path(sys.argv[0])
    if started.name not in SCRIPTS.values():
        return None
    script = started.with_name(SCRIPTS[name])  # not there beside a stranger's program of the same name
    return script if script.is_file() else None
