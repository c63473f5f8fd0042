"""Evaluate a trained agent in each direction, beside the trot controller and random torques.

The same as `qi-ext evaluate`; `qi_ext/commands/evaluate.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.evaluate import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("evaluate.py", main)
