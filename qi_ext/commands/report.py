"""Write a report of one run, or of several, as one HTML page that needs nothing else.

    qi-ext report runs/hard-gail/0 --output report.html

shows learning curves, how the agent walks beside the trot controller, and films of both. Runs that differ only in their seed
are drawn together. --robustness adds pushes, action noise and other commands.
"""

from pathlib import Path

from qi_ext.report.runs import find_run
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.limits import MOST_EPISODES
from qi_ext.utils.programs import program
from qi_ext.utils.words import require_between


def main(arguments=None):
    """Parse, run the episodes, draw, write. Returns None; raises UserError for the user's mistakes."""
    parser = Parser(program("report"), __doc__)
    parser.add_argument("runs", type=str, nargs="*", help="run directories, RESULTS_DIR/SEED", metavar="RUN_DIR")
    parser.add_argument("--output", type=str, default="report.html", help="the page [report.html]", metavar="FILE")
    text = "episodes per direction, where a run has no evaluation of its own, and of --robustness [4]"
    parser.add_argument("--episodes", type=int, default=4, help=text, metavar="X")
    starts = "where episodes start: trot, loco-mujoco, minari:ID, or an npz [each agent's own]"
    parser.add_argument("--demonstrations", type=str, default="", help=starts, metavar="X")
    text = "also show pushes, action noise and other commands"
    parser.add_argument("--robustness", action="store_true", help=text)
    options = parser.parse_args(arguments)
    if not options.runs:
        raise UserError("RUN_DIR: name one or more run directories, such as runs/hard-gail/0")
    require_between("--episodes", options.episodes, 1, MOST_EPISODES)
    require_output(options.output, "--output")
    if len({Path(run).resolve() for run in options.runs}) < len(options.runs):
        raise UserError("RUN_DIR: one of them is named twice; leave it out")
    for run in options.runs:
        find_run(run)

    from qi_ext.report.page import write_report  # loco_mujoco, which takes a second
    from qi_ext.utils.display import say

    size = write_report(options.runs, options.output, options.episodes, options.robustness, options.demonstrations)
    say(f"{options.output}: {size / 1e6:.1f} MB; open it in a browser")
