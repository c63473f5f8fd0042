"""The command `qi-ext`."""

import importlib
import sys

import qi_ext
from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import UserError
from qi_ext.utils.words import did_you_mean

COMMANDS = {
    "train": "train an agent by GAIL or VAIL, evaluate it, write its report",
    "evaluate": "evaluate an agent in each direction",
    "record": "film an agent as it walks",
    "report": "write a page on one run or several",
    "sweep": "train many agents, here or on Slurm",
    "export": "write an agent as an ONNX file",
    "demonstrations": "record demonstrations of the trot controller, or check a recording",
    "patches": "list the patches of the libraries; --probe checks them",
}


def main(arguments=None):
    """Run the command that the first argument names with the others; `sys.exit` with its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        run_command("qi-ext", lambda: print(_help()))
    elif name == "--version":
        run_command("qi-ext", lambda: print(f"qi-ext {qi_ext.__version__}"))
    elif name in COMMANDS:
        module = importlib.import_module("patches.__main__" if name == "patches" else f"qi_ext.commands.{name}")
        run_command(f"qi-ext {name}", lambda: module.main(arguments[1:]))
    else:
        run_command("qi-ext", lambda: _unknown(name))


def _help():
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return f"usage: qi-ext COMMAND [--option value ...]\n\n{lines}\n\nqi-ext COMMAND --help says more."


def _unknown(name):
    raise UserError(f"{name}: no such command{did_you_mean(name, COMMANDS)}; qi-ext --help lists them")


if __name__ == "__main__":
    main()
