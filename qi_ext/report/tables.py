"""The tables of an evaluation that a person reads."""

from rich.table import Table
from rich.text import Text

NAMES = {"beside": "agent beside", "expert": "trot controller", "random": "random torques"}

# Heading, a unit on a line of its own; figure; format.
GAIT_COLUMNS = (
    ("along\nm/s", "velocity_error_along", "+.3f"),
    ("across\nm/s", "velocity_error_across", "+.3f"),
    ("yaw\ndeg/s", "yaw_drift", ".2f"),
    ("energy\nJ/m", "energy_per_metre", ".0f"),
    ("torque limit", "torque_saturation", ".1%"),
    ("stride\nHz", "stride_frequency", ".2f"),
    ("duty factor", "duty_factor", ".3f"),
    ("clearance\nm", "foot_clearance", ".3f"),
    ("state distance", "state_distance", ".2f"),
)


def table(results, source=""):
    """The results of `compare` as a rich table. source: of the demonstrations that episodes started from, named below it."""
    rendered = _table("return of at most 1000 (mean +- std over episodes)", source and f"demonstrations: {source}")
    for heading in ("policy", "direction", "return", "length", "velocity error", "falls"):
        rendered.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, result in results.items():
        for row in result["directions"]:
            rendered.add_row(
                NAMES.get(name, name),
                f"{row['direction_deg']:g}",
                f"{row['return_mean']:.1f} +- {row['return_std']:.1f}",
                f"{row['length_mean']:.0f}",
                f"{row['velocity_error_mean']:.3f} m/s",
                f"{row['falls']}/{row['episodes']}",
            )
        if len(result["directions"]) > 1:
            rendered.add_row(NAMES.get(name, name), "mean", f"{result['return_mean']:.1f}", "", "", "")
        rendered.add_section()
    return rendered


def gait_table(results):
    """What `gait_measures` found in the results of `compare`, each policy beside the trot controller in each direction."""
    caption = "velocity less the commanded, along it and to its left; distance of states from the demonstrated ones"
    rendered = _table("how it walks", f"{caption}, of which the trot controller's own is the floor")
    for heading in ("direction", "policy", *(heading.replace(" ", "\n", 1) for heading, *_ in GAIT_COLUMNS)):
        rendered.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    measured = {NAMES.get(name, name): result for name, result in results.items() if "mean" in result}
    directions = [f"{row['direction_deg']:g}" for row in next(iter(measured.values()))["directions"]]
    for i, direction in enumerate(directions):
        for name, result in measured.items():
            rendered.add_row(direction, name, *gait_cells(result["directions"][i]))
        rendered.add_section()
    if len(directions) > 1:
        for name, result in measured.items():
            rendered.add_row("mean", name, *gait_cells(result["mean"]))
    return rendered


def robustness_table(results):
    """The results of `compare_robustness` as a rich table: mean return (that of the lowest direction), and falls."""
    rendered = _table("return (of the lowest direction), falls")
    rendered.add_column("condition")
    names = [name for name in results[0] if name != "condition"]
    for name in names:
        rendered.add_column(NAMES.get(name, name), justify="right")
        rendered.add_column("falls", justify="right")
    for row in results:
        cells = []
        for name in names:
            lowest, falls, episodes = totals(row[name])
            cells += [f"{row[name]['return_mean']:.1f} ({lowest:.1f})", f"{falls}/{episodes}"]
        rendered.add_row(row["condition"], *cells)
    return rendered


def totals(result):
    """Of a result of `evaluate`: the mean return of its lowest direction, and falls and episodes of all together."""
    directions = result["directions"]
    falls, episodes = (sum(row[key] for row in directions) for key in ("falls", "episodes"))
    return min(row["return_mean"] for row in directions), falls, episodes


def _table(title, caption=""):
    # As text, because a path may hold what rich takes for markup.
    return Table(title=title, caption=Text(caption) if caption else None)


def gait_cells(figures):
    """The text of each of `GAIT_COLUMNS`."""
    return ["-" if figures[name] is None else format(figures[name], form) for _, name, form in GAIT_COLUMNS]
