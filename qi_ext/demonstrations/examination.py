"""All measures of a recording, what it is refused for, and the table that shows them."""

import math

from rich.table import Table
from rich.text import Text

from qi_ext.demonstrations.dynamics import examine_dynamics
from qi_ext.demonstrations.meaning import examine
from qi_ext.demonstrations.recorded_actions import examine_actions
from qi_ext.utils.output import printable


def examine_all(demonstrations, model, with_actions=True):
    """Return all `Measure`s, a list, up to those that show the first fault, and that fault in one line, or None.

    demonstrations: must have passed `check`. model: the task's compiled `mujoco.MjModel`, in which steps are tried.
    with_actions: look at recorded actions, too.
    """
    measures, fault = examine(demonstrations)
    for look in (examine_dynamics, examine_actions) if with_actions else (examine_dynamics,):
        found, said = ([], None) if fault else look(demonstrations, model)
        measures += found
        fault = fault or said
    return measures, fault


def table_of(measures, title):
    """Return a `rich.table.Table` of `Measure`s, each beside the range that is expected."""
    table = Table(title=Text(printable(title)))
    for heading, justify in (("measure", "left"), ("value", "right"), ("expected", "right"), ("", "left")):
        table.add_column(heading, justify=justify)
    for measure in measures:
        value = "moves too little" if measure.value is None else f"{measure.value:.4g}"
        table.add_row(measure.name, value, _range(*measure.expected), "right" if measure.right else "WRONG")
    return table


def _range(low, high):
    if math.isinf(high):
        return "any" if math.isinf(low) else f"at least {low:g}"
    return f"{low:g} to {high:g}"
