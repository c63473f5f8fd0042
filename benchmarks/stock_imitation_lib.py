"""Train as launchers/run_gail.py does, with imitation-lib and mushroom-rl as they are: without our patches.

    python benchmarks/stock_imitation_lib.py --backend imitation_lib --task simple

It takes the options of that launcher.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

import patches
from qi_ext.commands.train import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    patches.apply = lambda *libraries: []
    run_command("stock_imitation_lib.py", main)
