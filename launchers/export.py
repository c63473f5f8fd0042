"""Export a trained agent as one ONNX file for deployment, the normalizer inside.

The same as `qi-ext export`; `qi_ext/commands/export.py` says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.commands.export import main
from qi_ext.utils.command_line import run_command

if __name__ == "__main__":
    run_command("export.py", main)
