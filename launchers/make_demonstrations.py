"""Record the trot expert in every direction of a task, write the demonstrations, and print a table of their figures.

The same as `qi-ext demonstrations`; `qi_ext/commands/demonstrations.py` says what it does.
"""

from qi_ext.commands.demonstrations import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("make_demonstrations.py", main)
