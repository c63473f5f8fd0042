"""Tables of an evaluation, for a terminal."""

from rich.table import Table
from rich.text import Text

NAMES = {"beside": "agent beside", "expert": "trot controller", "random": "random torques"}
DEMONSTRATED = "demonstrations"

# Heading, with the unit on a line of its own; key in a result; format, in which z prints no -0.000.
GAIT_COLUMNS = (
    ("along\nm/s", "velocity_error_along", "+z.3f"),
    ("across\nm/s", "velocity_error_across", "+z.3f"),
    ("yaw\ndeg/s", "yaw_drift", "z.2f"),
    ("yaw\nrad", "heading_error", ".3f"),
    ("energy\nJ/m", "energy_per_metre", ".0f"),
    ("torque limit", "torque_saturation", ".1%"),
    ("stride\nHz", "stride_frequency", ".2f"),
    ("duty factor", "duty_factor", ".3f"),
    ("clearance\nm", "foot_clearance", ".3f"),
    ("correlation of legs\nof a side", "lateral_pairs", "+.2f"),
    ("correlation of legs\ndiagonal", "diagonal_pairs", "+.2f"),
    ("state distance", "state_distance", ".2f"),
)
# In place of those headings, where 120 columns must do.
SHORT = {
    "stride_frequency": "gait\nHz",
    "duty_factor": "duty",
    "foot_clearance": "clear.\nm",
    "lateral_pairs": "pairs\nside",
    "diagonal_pairs": "pairs\ndiag.",
    "state_distance": "state\ndist.",
}


def table(results, source=""):
    """Return the results of `compare` as a rich table. source: of the demonstrations, for the caption."""
    rendered = _table("return of at most 1000 (mean +- std over episodes)", source and f"demonstrations: {source}")
    for heading in ("policy", row_heading(results), "return", "length", "velocity error", "falls"):
        rendered.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, result in results.items():
        for row in result["directions"]:
            rendered.add_row(
                NAMES.get(name, name),
                row_label(row),
                with_spread(row, "+-"),
                f"{row['length_mean']:.0f}",
                f"{row['velocity_error_mean']:.3f} m/s",
                f"{row['falls']}/{row['episodes']}",
            )
        if len(result["directions"]) > 1:
            rendered.add_row(NAMES.get(name, name), "mean", f"{result['return_mean']:.1f}", "", "", "")
        rendered.add_section()
    return rendered


def with_spread(row, sign):
    """Return the return of a row of a result, and its standard deviation where the row has it, with `sign` between them."""
    return f"{row['return_mean']:.1f}" + (f" {sign} {row['return_std']:.1f}" if "return_std" in row else "")


def gait_table(results, demonstrated=None):
    """Return the results of `gait_measures` in those of `compare` as a rich table, by direction and policy.

    demonstrated: of `demonstrated_gait`, for a row below them.
    """
    velocity = "along, across: achieved minus commanded velocity, along the command and to its left"
    pairs = "clear.: height of a swing; pairs: correlation of the legs of a side, and of diagonal ones"
    distance = "state dist.: from the demonstrated ones, least for the trot controller"
    rendered = _table("how it walks", f"{velocity}; {pairs}; {distance}")
    rendered.padding = (0, 1, 0, 0)  # so that names of courses and ten numbers fit in 120 columns
    for heading in (
        row_heading(results),
        "policy",
        *(SHORT.get(name, heading.replace(" ", "\n")) for heading, name, _ in GAIT_COLUMNS),
    ):
        rendered.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    measured = {NAMES.get(name, name): result for name, result in results.items() if "mean" in result}
    directions = [row_label(row) for row in next(iter(measured.values()))["directions"]]
    for i, direction in enumerate(directions):
        for name, result in measured.items():
            rendered.add_row(direction, name, *gait_cells(result["directions"][i]))
        rendered.add_section()
    if len(directions) > 1:
        for name, result in measured.items():
            rendered.add_row("mean", name, *gait_cells(result["mean"]))
        rendered.add_section()
    if demonstrated is not None:
        rendered.add_row("", DEMONSTRATED, *gait_cells(demonstrated))
    return rendered


def robustness_table(results):
    """Return the results of `compare_robustness` as a rich table: mean return (of the lowest direction), and falls."""
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


def row_label(row):
    """Return the course, or the direction in degrees, and its speed where there are several, of a row of `evaluate`."""
    return row.get("course") or f"{row['direction_deg']:g}" + (f" at {row['speed']:g} m/s" if "speed" in row else "")


def row_heading(results):
    """Return the word for what the rows of results of `evaluate`, {name: result}, are: course or direction."""
    return "course" if any("course" in row for result in results.values() for row in result["directions"]) else "direction"


def totals(result):
    """Return the lowest mean return of a direction, and falls and episodes of all directions, in a result of `evaluate`."""
    directions = result["directions"]
    falls, episodes = (sum(row[key] for row in directions) for key in ("falls", "episodes"))
    return min(row["return_mean"] for row in directions), falls, episodes


def _table(title, caption=""):
    # As `Text`, because rich would read brackets in a path as markup.
    return Table(title=title, caption=Text(caption) if caption else None)


def gait_cells(result):
    """Return the texts of `GAIT_COLUMNS`, a dash where there is no number."""
    found = [(result.get(name), form) for _, name, form in GAIT_COLUMNS]
    return [format(value, form) if isinstance(value, int | float) else "-" for value, form in found]
