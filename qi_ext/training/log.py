"""The curves of a run: episodes counted, and each update written to progress.csv and TensorBoard."""

import bisect
import csv
import dataclasses

from torch.utils.tensorboard import SummaryWriter

# Where TensorBoard shows each figure; the names that people of this field look for.
TAGS = {
    "return_mean": "rollout/ep_rew_mean",
    "length_mean": "rollout/ep_len_mean",
    "episodes": "rollout/episodes",
    "blow_ups": "rollout/blow_ups",
    "steps_per_second": "time/fps",
    "collect_seconds": "time/collect_seconds",
    "learn_seconds": "time/learn_seconds",
    "kl": "train/approx_kl",
    "entropy": "train/entropy",
    "std": "train/std",
    "explained_variance": "train/explained_variance",
    "critic_loss": "train/value_loss",
    "line_search_step": "train/line_search_step",
    "improvement": "train/policy_improvement",
    "value": "train/value_mean",
    "reward": "train/reward_mean",
}


class EpisodeCounter:
    """Keeps the episodes of a run, as `ParallelCore` counts them."""

    def __init__(self):
        self.episodes = []  # (step it ended at, return, length)
        self.steps = 0
        self.blow_ups = 0

    def add(self, n_steps, n_lanes, episodes):
        """A batch of `n_steps` from `n_lanes` lanes, in which `episodes` ended (an array of `rollouts.EPISODE`)."""
        for row in episodes:
            ended_at = self.steps + (int(row["time"]) + 1) * n_lanes
            self.episodes.append((ended_at, float(row["episode_return"]), int(row["length"])))
        self.steps += n_steps
        self.blow_ups += int(episodes["blew_up"].sum())

    def since(self, step):
        """Number, mean return and mean length of the episodes that ended after `step`; means are None without any."""
        return self._mean(step, self.steps)

    def window_lengths(self, steps):
        """Mean episode length of the first and of the last `steps` steps, or None where no episode ended there."""
        return self._mean(0, steps)[2], self._mean(self.steps - steps, self.steps)[2]

    def _mean(self, begin, end):
        first, after = (bisect.bisect_right(self.episodes, step, key=lambda episode: episode[0]) for step in (begin, end))
        chosen = self.episodes[first:after]
        if not chosen:
            return 0, None, None
        _, returns, lengths = zip(*chosen, strict=True)
        return len(chosen), sum(returns) / len(chosen), sum(lengths) / len(chosen)


class ProgressLog:
    """progress.csv and TensorBoard events in a run directory, a row an update."""

    def __init__(self, directory, config):
        self._file = open(directory / "progress.csv", "w", newline="")  # noqa: SIM115 (closed by `close`)
        self._csv = None
        self._writer = SummaryWriter(directory)
        self._config = dataclasses.asdict(config)
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._config.items())
        self._writer.add_text("config", f"| setting | value |\n| --- | --- |\n{rows}")

    def write(self, step, row):
        """row: {name: number or None}, the same names each time."""
        if self._csv is None:
            self._csv = csv.DictWriter(self._file, ["step", *row])
            self._csv.writeheader()
        self._csv.writerow({"step": step} | row)
        self._file.flush()
        for name, value in row.items():
            if value is not None:
                self._writer.add_scalar(TAGS.get(name, f"discriminator/{name}"), value, step)

    def write_hyperparameters(self, metrics):
        """All settings beside the final figures, for TensorBoard's table of runs."""
        settings = {
            name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in self._config.items()
        }
        self._writer.add_hparams(settings, {f"final/{name}": value for name, value in metrics.items()}, run_name=".")

    def close(self):
        self._file.close()
        self._writer.close()
