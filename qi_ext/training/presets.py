"""The experiments: what each task, algorithm, backend and warm start has other than the defaults in `settings`.

A row is (words, {setting: value}). It holds where all its words are true of the run: its task, its algorithm, its backend, and
`warm` where it has a warm start. Rows are applied from top to bottom, so that the last one that says something counts.
"""

from qi_ext.learning.imitation_lib import settings as imitation_lib_settings

PRESETS = [
    (
        ("native", "hard"),
        dict(
            n_steps=3_000_000,
            # At 0.05 one update in ten is followed by falls; at 0.03, and a million steps later, hardly any.
            final_std=0.03,
            # Once it walks, or they cost steps until then. Without, one episode in a hundred ends in a fall; with, hardly any.
            push=60.0,
            torque_noise=0.03,
            disturb_after=1_900_000,
        ),
    ),
    # Which of 8 directions is commanded is 2 nats by itself. From scratch 2 end with backwards at 650 to 725 (seeds 0, 1);
    # seed 1 returns 250 after 0.9 million steps with 2, 520 with 4, 580 with 8. By 8 the code is seldom bound.
    (("native", "hard", "vail"), dict(information_constraint=8.0)),
    (
        ("native", "warm"),
        dict(
            n_steps=800_000,
            # They leave fewer falls under pushes and noise; from scratch they cost steps until it walks.
            push=140.0,
            torque_noise=0.06,
            disturb_after=0,
            # One that walks already falls more after 0.02, and has to keep its feet in the last update, too: the trust region
            # is smaller by then.
            max_kl=0.01,
            final_max_kl=0.01,
            # So that the bound is down a little before the run ends, that of hard, too.
            std_half_life=700_000,
            final_std=0.035,
        ),
    ),
    # What 2 cores do in 10 minutes.
    (("native", "warm", "hard"), dict(n_steps=1_150_000)),
    (("native", "warm", "hard", "vail"), dict(information_constraint=2.0)),
    *imitation_lib_settings.PRESETS,
]


def preset(task, algorithm, backend, warm):
    """What a run has other than the defaults of the groups, {setting: value}."""
    said = {task, algorithm, backend} | ({"warm"} if warm else set())
    return {name: value for words, values in PRESETS if said.issuperset(words) for name, value in values.items()}
