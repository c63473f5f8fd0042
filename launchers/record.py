"""Film a trained agent, or the trot controller, as it walks.

The same as `qi-ext record`; `qi_ext/commands/record.py` says what it does.
"""

from qi_ext.commands.record import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("record.py", main)
