"""Export a trained agent as one ONNX file for deployment, the normalizer inside.

    qi-ext export --agent runs/hard-gail/0/agent.safetensors --output walk.onnx

writes the deterministic policy: input `observation`, (batch, 37), output `action`, (batch, 12), float32, which the robot has to
clip to [-1, 1]; 1 is 34 Nm. Names, units and the agent's origin are in the file's metadata. Where onnxruntime is installed, the
file is only written if its actions equal the agent's to 1e-5.
"""

from pathlib import Path

from qi_ext.agents.acting import PRETRAINED, agent_path, load_agent
from qi_ext.agents.onnx_export import export_onnx
from qi_ext.utils.command_line import Parser
from qi_ext.utils.display import say
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_output
from qi_ext.utils.programs import program


def main(arguments=None):
    """Parse, export, print. Returns None; raises UserError for the user's mistakes."""
    parser = Parser(program("export"), __doc__)
    parser.add_argument(
        "--agent", type=str, required=True, help="an agent.safetensors of a run, or pretrained/hard", metavar="FILE"
    )
    text = "the ONNX file to write [that of the agent, .onnx; of a pretrained one, here]"
    parser.add_argument("--output", type=str, default="", help=text, metavar="FILE")
    options = parser.parse_args(arguments)
    agent, path = load_agent(options.agent), agent_path(options.agent)
    beside = Path(path.name) if path.parent == PRETRAINED else path
    output = Path(options.output or beside.with_suffix(".onnx"))
    require_output(output, "--output")
    if output.exists() and output.samefile(path):
        raise UserError(f"--output: {output} is the agent itself; choose another")
    difference = export_onnx(agent, output)
    say(f"{output}: {output.stat().st_size / 1000:.0f} kB")
    if difference is None:
        say("not verified: onnxruntime is not installed (pip install onnxruntime)")
    else:
        say(f"verified in onnxruntime: largest difference from the agent {difference:.1e}")
