"""Figures of an update as the progress display shows them."""

from collections import defaultdict

DETAILS = (
    "discriminator {discriminator_accuracy_policy:.2f}/{discriminator_accuracy_expert:.2f} "
    "logits {logit_policy:.1f}/{logit_expert:.1f} entropy {discriminator_entropy:.2f} reward {reward:.3f}  "
    "critic {explained_variance:.2f}  policy kl {kl:.4f} step {line_search_step:g} std {std:.3f} entropy {entropy:.1f} "
    "drift {normalizer_drift:.4f}  waiting {collect_seconds:.1f} s learning {learn_seconds:.1f} s"
)


class ProgressLine:
    """Text of each update; it repeats the last episodes that ended, because envs that do not fall end theirs together."""

    def __init__(self):
        self._ended = "no episode ended"

    def lines(self, figures):
        """Return a line of the most important figures, and a line of the rest. figures: {name: number or None}."""
        if figures["episodes"]:
            self._ended = f"return {figures['return_mean']:.1f}  length {figures['length_mean']:.0f}"
        first = f"{figures['steps_per_second']:.0f} steps/s  {self._ended}  {figures['speed_along']:.2f} m/s"
        known = {name: value for name, value in figures.items() if value is not None}
        return first, DETAILS.format_map(defaultdict(_Unknown, known))


class _Unknown:
    """A missing figure, which any format shows as a dash."""

    def __format__(self, spec):
        return "-"
