"""Film a trained agent, or the trot controller, as it walks.

The same as `qi-ext record`; `qi_ext/commands/record.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.record import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("record.py", main)
