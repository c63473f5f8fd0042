"""Record the trot expert in every direction of a task, write the demonstrations, and print a table of their figures.

The same as `qi-ext demonstrations`; `qi_ext/commands/demonstrations.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.demonstrations import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("make_demonstrations.py", main)
