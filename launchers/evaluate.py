"""Evaluate a trained agent in each direction, beside the trot controller and random torques.

The same as `qi-ext evaluate`; `qi_ext/commands/evaluate.py` says what it does.
"""

from qi_ext.commands.evaluate import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("evaluate.py", main)
