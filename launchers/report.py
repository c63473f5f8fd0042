"""Write a report of one run, or of several, as one HTML page that needs nothing else.

The same as `qi-ext report`; `qi_ext/commands/report.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.report import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("report.py", main)
