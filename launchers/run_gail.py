"""Train the A1 to walk as commanded, by GAIL or VAIL on TRPO, from demonstrations of states alone.

The same as `qi-ext train`; `qi_ext/commands/train.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.train import experiment, main  # noqa: F401  (experiment-launcher looks for `experiment` here)
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("run_gail.py", main)
