"""Walk the steered trot expert of `follow` for 10 s each in 8 directions at 5 speeds, turning by -60, 0 and 60 degrees/s.

    python benchmarks/steered_expert.py

prints a table: by turn rate and speed the mean and the lowest return (of 1000), the heading's error, and falls.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.evaluation import evaluate
from qi_ext.evaluation.motion import Motion
from qi_ext.robot.courses import Course, Leg
from qi_ext.sampling import PoolSource
from qi_ext.sampling.controllers import ExpertController
from qi_ext.tasks import QuadrupedDirection

TURN_RATES, SPEEDS, DIRECTIONS = (-60.0, 0.0, 60.0), (0.2, 0.35, 0.5, 0.65, 0.8), range(0, 360, 45)


def main(arguments=None):
    """Walk and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(arguments)
    walks = [
        Course(f"{direction} degrees at {speed} m/s, turning by {rate}", (Leg(10.0, speed, direction, rate),))
        for rate in TURN_RATES
        for speed in SPEEDS
        for direction in DIRECTIONS
    ]
    with closing(PoolSource(QuadrupedDirection("follow", courses=walks, seed=0))) as source:
        rows = evaluate(source, ExpertController(), 1, seed=0, measures=(Motion,))["directions"]
    print("| turn, degrees/s | speed, m/s | return (lowest of 8 directions) | heading error, rad | falls |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for i, (rate, speed) in enumerate((rate, speed) for rate in TURN_RATES for speed in SPEEDS):
        of_directions = rows[i * len(DIRECTIONS) : (i + 1) * len(DIRECTIONS)]
        returns = [row["return_mean"] for row in of_directions]
        heading, falls = (sum(row[name] for row in of_directions) for name in ("heading_error", "falls"))
        figures = f"{np.mean(returns):.0f} ({min(returns):.0f}) | {heading / len(DIRECTIONS):.3f} | {falls}"
        print(f"| {rate:g} | {speed:g} | {figures} |")


if __name__ == "__main__":
    main()
