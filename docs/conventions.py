"""Draw docs/conventions.png: the A1 from the side, from the front and from above, with the signs of its angles.

python docs/conventions.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from qi_ext.robot import a1
from qi_ext.robot.kinematics import CALF_LENGTH, HIPS, THIGH_LENGTH, THIGH_OFFSETS, TRUNK_HEIGHT, feet

STANDING = np.concatenate([[0.0, 0.0, -0.166], np.zeros(3), np.tile([0.0, 0.9, -1.8], 4)])
COLORS = {"FR": "#c0392b", "FL": "#2471a3", "RR": "#e59866", "RL": "#85c1e9"}
TRUNK = np.array([(x, y) for x, y in ((0.18, 0.05), (0.18, -0.05), (-0.18, -0.05), (-0.18, 0.05), (0.18, 0.05))])
MORE = 0.35  # rad, by which the thin legs have turned


def leg(positions, index):
    """Return hip, thigh joint, knee and foot of a leg, (4, 3), m; the trunk is level."""
    hip, thigh, calf = positions[6 + 3 * index : 9 + 3 * index]
    origin = np.array([0.0, 0.0, positions[2] + TRUNK_HEIGHT])
    cosine, sine = np.cos(hip), np.sin(hip)
    roll = np.array([(1.0, 0.0, 0.0), (0.0, cosine, -sine), (0.0, sine, cosine)])
    sideways = np.array([0.0, THIGH_OFFSETS[index], 0.0])
    knee = sideways - THIGH_LENGTH * np.array([np.sin(thigh), 0.0, np.cos(thigh)])
    foot = knee - CALF_LENGTH * np.array([np.sin(thigh + calf), 0.0, np.cos(thigh + calf)])
    points = origin + HIPS[index] + np.array([np.zeros(3), sideways, knee, foot]) @ roll.T
    np.testing.assert_allclose(points[-1], feet(positions)[index], atol=1e-12)
    return points


def draw(axes, columns, legs, turned=()):
    """Draw legs in two of the coordinates; turned: (leg, joint within it, label), thin, with that joint turned by `MORE`."""
    for name in legs:
        points = leg(STANDING, a1.LEGS.index(name))[:, columns]
        axes.plot(*points.T, "-o", color=COLORS[name], linewidth=4, markersize=5, solid_capstyle="round", zorder=2)
    for name, joint, label, place in turned:
        index = a1.LEGS.index(name)
        positions = STANDING.copy()
        positions[6 + 3 * index + joint] += MORE
        points = leg(positions, index)[:, columns]
        axes.plot(*points.T, "--", color=COLORS[name], linewidth=1.5, zorder=1)
        start = leg(STANDING, index)[-1, columns]
        axes.annotate(
            "", points[-1], start, arrowprops={"arrowstyle": "->", "connectionstyle": "arc3,rad=0.15", "linewidth": 1.5}
        )
        axes.annotate(label, points[-1] + place, ha="center", fontsize=9)


def main():
    """Draw and write the picture."""
    figure, (side, front, top) = plt.subplots(1, 3, figsize=(13, 3.9), width_ratios=(1.5, 1.1, 1.4))
    height = STANDING[2] + TRUNK_HEIGHT
    draw(side, [0, 2], ("FR", "RR"), [("FR", 2, "calf +", (-0.07, 0.0)), ("RR", 1, "thigh +", (-0.06, -0.01))])
    side.plot([-0.18, 0.18], [height, height], color="0.3", linewidth=9, solid_capstyle="round")
    side.axhline(TRUNK_HEIGHT, color="0.5", linestyle=":")
    side.annotate("trunk_tz = 0 at 0.43 m", (-0.33, TRUNK_HEIGHT + 0.008), fontsize=9)
    side.annotate("", (0.0, height), (0.0, TRUNK_HEIGHT), arrowprops={"arrowstyle": "->"})
    side.annotate(f"trunk_tz = {STANDING[2]:g}", (0.01, 0.34), fontsize=9)
    side.annotate("x, forwards", (0.38, height), (0.2, height - 0.008), arrowprops={"arrowstyle": "->"}, fontsize=9)
    side.set_title("from the right: thigh and calf turn about y;\nstanding, hip 0, thigh 0.9, calf -1.8 rad", fontsize=10)
    draw(front, [1, 2], ("FL", "FR"), [("FL", 0, "hip +", (0.06, -0.01)), ("FR", 0, "hip +", (-0.04, 0.03))])
    front.plot([-0.05, 0.05], [height, height], color="0.3", linewidth=9, solid_capstyle="round")
    front.annotate("y, to its left", (0.3, height + 0.06), (0.02, height + 0.055), arrowprops={"arrowstyle": "->"}, fontsize=9)
    front.set_title("from the front: hips turn about x;\na positive one moves any foot to the robot's left", fontsize=10)
    top.plot(*TRUNK.T, color="0.3", linewidth=3)
    for number, name in enumerate(a1.LEGS):
        points = leg(STANDING, number)[:, :2]
        top.plot(*points.T, "-o", color=COLORS[name], linewidth=4, markersize=5)
        side_of = np.sign(points[1, 1])
        text = f"{name}: columns {4 + 3 * number} to {6 + 3 * number}"
        top.annotate(text, (points[0, 0], 0.19 * side_of), ha="center", va="center", fontsize=9)
    top.annotate("x", (0.4, 0.0), (0.2, 0.0), arrowprops={"arrowstyle": "->"}, va="center")
    top.annotate("y", (-0.03, 0.2), (-0.03, 0.07), arrowprops={"arrowstyle": "->"}, ha="center")
    top.annotate(
        "yaw +", (-0.12, 0.0), (0.0, -0.02), fontsize=9, arrowprops={"arrowstyle": "->", "connectionstyle": "arc3,rad=0.9"}
    )
    top.set_title("from above: legs in the order FR, FL, RR, RL", fontsize=10)
    for axes in (side, front):
        axes.axhline(0.0, color="0.2")
        axes.set_ylim(-0.08, 0.48)
    for axes, width in ((side, 0.42), (front, 0.36), (top, 0.42)):
        axes.set_xlim(-width, width)
        axes.set_aspect("equal")
        axes.axis("off")
    top.set_ylim(-0.27, 0.27)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
