"""An agent beside the trot controller and chance: the figures, and the table a person reads."""

from rich.table import Table
from rich.text import Text

from qi_ext.evaluation.episodes import evaluate
from qi_ext.sampling.controllers import ExpertController, PolicyController, RandomController


def compare(sampler, actor, episodes, seed, step=0, progress=lambda n: None):
    """Evaluate `actor` deterministic and stochastic, the trot controller (`expert`) and uniform torques (`random`).

    Returns {name: result of `evaluate`}. progress(n) is called as n of the 4 episodes |directions| episodes are done.
    """
    controllers = {
        "deterministic": PolicyController(actor, deterministic=True),
        "stochastic": PolicyController(actor),
        "expert": ExpertController(),
        "random": RandomController(),
    }
    return {name: evaluate(sampler, controller, episodes, seed, step, progress) for name, controller in controllers.items()}


def table(results, source=""):
    """The results of `compare` as a rich table. source: of the demonstrations that episodes started from, named below it."""
    rendered = Table(title="return of at most 1000 (mean +- std over episodes)")
    if source:
        rendered.caption = Text(f"demonstrations: {source}")
    for heading in ("policy", "direction", "return", "length", "velocity error", "falls"):
        rendered.add_column(heading, justify="left" if heading == "policy" else "right")
    names = {"expert": "trot controller", "random": "random torques"}
    for name, result in results.items():
        for row in result["directions"]:
            rendered.add_row(
                names.get(name, name),
                f"{row['direction_deg']:g}",
                f"{row['return_mean']:.1f} +- {row['return_std']:.1f}",
                f"{row['length_mean']:.0f}",
                f"{row['velocity_error_mean']:.3f} m/s",
                f"{row['falls']}/{row['episodes']}",
            )
        if len(result["directions"]) > 1:
            rendered.add_row(names.get(name, name), "mean", f"{result['return_mean']:.1f}", "", "", "")
        rendered.add_section()
    return rendered
