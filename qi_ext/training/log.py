"""The curves of a run: each update written to progress.csv, TensorBoard, and Weights & Biases where asked."""

import contextlib
import csv
import io
import os
import threading

from torch.utils.tensorboard import SummaryWriter

from qi_ext.training.config import given_settings
from qi_ext.training.wandb_log import open_wandb
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_atomically

# Where TensorBoard shows each figure; the names that people of this field look for.
TAGS = {
    "return_mean": "rollout/ep_rew_mean",
    "length_mean": "rollout/ep_len_mean",
    "episodes": "rollout/episodes",
    "blow_ups": "rollout/blow_ups",
    "speed_along": "rollout/speed_along",
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
    "reward_std": "train/reward_std",
    "normalizer_drift": "train/normalizer_drift",
}


class ProgressLog:
    """progress.csv and TensorBoard events in a run directory, a row an update, and the same in wandb where it is asked for."""

    def __init__(self, directory, config, step=None):
        """directory: a `RunDirectory`; it is created. step: what the run goes on from; rows and events after it are cut away.
        None for a run that begins.

        Raises OSError, naming the file, where that cannot be done.
        """
        self._path = directory.path / "progress.csv"
        self._config = given_settings(config)
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._config.items())
        with contextlib.ExitStack() as stack:
            # First, because it may not be let, and then nothing should have changed.
            self._wandb = open_wandb(directory.path, self._config, step is not None) if config.wandb else None
            if self._wandb is not None:
                stack.callback(self._wandb.finish)
            directory.create(config)
            stack.callback(setattr, threading, "excepthook", threading.excepthook)
            self._hook, threading.excepthook = threading.excepthook, self._on_thread
            with self._named():
                self.rows = _cut(self._path, step) if step is not None else []  # those before, as text
                self._file = stack.enter_context(open(self._path, "a" if self.rows else "w", newline=""))
                self._csv = csv.DictWriter(self._file, self.rows[0]) if self.rows else None
                self._writer = SummaryWriter(directory.path, purge_step=0 if step is None else step + 1)
                # Not SummaryWriter's own close, which flushes first, and leaves a thread behind where that fails.
                stack.callback(self._writer.file_writer.close)
                self._writer.add_text("config", f"| setting | value |\n| --- | --- |\n{rows}")
            self._opened = stack.pop_all()

    def write(self, step, row):
        """row: {name: number or None}, the same names each time. Raises OSError, naming the file, where that cannot be done."""
        with self._named():
            if self._csv is None:
                self._csv = csv.DictWriter(self._file, ["step", *row])
                self._csv.writeheader()
            elif set(self._csv.fieldnames) != {"step", *row}:
                raise UserError(f"{self._path}: has other columns than this program writes; move it away, and resume")
            self._csv.writerow({"step": step} | row)
            self._file.flush()
            for name, value in row.items():
                if value is not None:
                    self._writer.add_scalar(tag(name), value, step)
            # Or a run that is killed would lack, when it goes on, what its last checkpoint had seen.
            self._writer.flush()
        if self._wandb is not None:
            self._wandb.log({tag(name): value for name, value in row.items() if value is not None} | {"step": step})

    def write_hyperparameters(self, step, metrics):
        """All settings beside the final figures, as of `step`, for TensorBoard's table of runs."""
        settings = {
            name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in self._config.items()
        }
        metrics = {f"final/{name}": value for name, value in metrics.items()}
        with self._named():
            self._writer.add_hparams(settings, metrics, run_name=".", global_step=step)
        if self._wandb is not None:
            self._wandb.summary.update(metrics)

    def sync(self):
        """See to it that the rows outlast the machine, as checkpoints do."""
        with self._named():
            os.fsync(self._file.fileno())

    def close(self):
        """Raises nothing: what could not be written was said by `write`."""
        with contextlib.suppress(OSError):
            self._opened.close()

    @contextlib.contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            raise OSError(f"cannot write {self._path} or the events beside it: {error.strerror or error}") from None

    def _on_thread(self, hook):
        """What TensorBoard's thread could not write is raised to whoever writes next, without its traceback."""
        if not (issubclass(hook.exc_type, OSError) and type(hook.thread).__module__.startswith("tensorboard")):
            self._hook(hook)


def tag(name):
    """Where TensorBoard and wandb show a figure."""
    return TAGS.get(name, f"discriminator/{name}")


def _cut(path, step):
    """Rows of a progress.csv up to `step`, as dicts of text; those after it, and one that is cut off, go from the file."""
    try:
        with open(path, newline="") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return []
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    names, rows = reader.fieldnames or [], list(reader)
    if rows and "step" not in names:
        raise UserError(f"{path}: is not a progress.csv of ours; move it away")
    kept = [row for row in rows if None not in row.values() and None not in row and row["step"].isdecimal()]
    kept = [row for row in kept if int(row["step"]) <= step]
    if not kept:
        return []
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(kept)
    with write_atomically(path) as file:
        file.write(text.getvalue().encode())
    return kept
