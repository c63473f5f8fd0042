"""Names of our commands as they were started, and commands that work when they are pasted, in whatever folder that is."""

import os
import shlex
import shutil
import sys
import sysconfig
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
ROOT = Path(__file__).parents[2]  # a checkout, or where packages are installed


def program(name):
    """Name of a command in its own messages: `evaluate.py` where a script was started, else `qi-ext evaluate`."""
    return SCRIPTS[name] if _script(name) else f"qi-ext {name}"


def command(name):
    """Words for a shell that start a command from any folder, with the code that runs here.

    By the script beside the one that was started, else by `qi-ext` where that was started, else by a script of this checkout,
    or by Python where the package is installed.
    """
    script = _script(name)
    started = Path(sys.argv[0])
    if script is None and started.name == "qi-ext" and started.is_file():
        found = shutil.which("qi-ext")
        known = found is not None and os.path.samefile(found, started)
        return f"{'qi-ext' if known else shell_word(started.absolute())} {name}"
    in_checkout = ROOT / "launchers" / SCRIPTS[name]
    if script is None and in_checkout.is_file():
        script = in_checkout
    if script:
        return f"{shell_word(sys.executable)} {shell_word(script.absolute())}"
    return f"{shell_word(sys.executable)} -m qi_ext {name}"


def shell_word(text):
    """Return a text, or a path, as one word for a shell; control characters, and bytes that are not UTF-8, by bash's $'...'."""
    text = str(text)
    if text.isprintable():
        return shlex.quote(text)
    quoted = (c if c.isprintable() and c not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for c in text)
    return f"$'{''.join(quoted)}'"


def environment():
    """Environment variables of a Python process, {name: text}, in which it imports the code that runs here."""
    if str(ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)  # on PYTHONPATH they would come before the standard library
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path}


def _script(name):
    """Path of the script of a command, beside the one that was started; None where none was."""
    started = Path(sys.argv[0])
    if started.name not in SCRIPTS.values():
        return None
    script = started.with_name(SCRIPTS[name])  # not there beside a stranger's program of the same name
    return script if script.is_file() else None
