"""Train many agents: each combination of settings in a small file, with several seeds, here or on a Slurm cluster.

The same as `qi-ext sweep`; `qi_ext/commands/sweep.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.sweep import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("sweep.py", main)
