"""Curves of a run: progress.csv, TensorBoard events, and Weights & Biases where that is asked for."""

import contextlib
import csv
import io
import os
import re
import threading

from torch.utils.tensorboard import SummaryWriter

from qi_ext.training.progress_file import MAX_BYTES
from qi_ext.training.wandb_log import open_wandb
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole
from qi_ext.utils.reading import NoSuchFile, read_csv

# TensorBoard tag of each figure, by the names that are usual in this field.
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
    """Writer of a row an update. rows: those of progress.csv that were there before, [{name: text}]."""

    def __init__(self, directory, config, step=None):
        """Create the directory, a `RunDirectory`, and open its files.

        step: that the run goes on from; rows and events after it are removed. None for a run that begins.
        Raises OSError, naming the file, where that cannot be done, and UserError for a progress.csv of something else.
        """
        self._path = directory.path / "progress.csv"
        self._config = config.settings()
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._config.items())
        with contextlib.ExitStack() as stack:
            # First, because wandb may refuse, and then nothing should have changed.
            self._wandb = open_wandb(directory.path, self._config, step is not None) if config.run.wandb else None
            if self._wandb is not None:
                stack.callback(self._wandb.finish)
            directory.create(config)
            stack.callback(setattr, threading, "excepthook", threading.excepthook)
            self._hook, threading.excepthook = threading.excepthook, self._on_thread
            with self._named():
                self.rows = _cut(self._path, step) if step is not None else []
                self._file = stack.enter_context(open(self._path, "a" if self.rows else "w", newline=""))
                self._csv = csv.DictWriter(self._file, self.rows[0]) if self.rows else None
                self._writer = SummaryWriter(directory.path, purge_step=0 if step is None else step + 1)
                # Not SummaryWriter's own close, which flushes first, and leaves a thread behind where that fails.
                stack.callback(self._writer.file_writer.close)
                self._writer.add_text("config", f"| setting | value |\n| --- | --- |\n{rows}")
            self._opened = stack.pop_all()

    def write(self, step, row):
        """Write the figures of an update, {name: number or None}, the same names each time.

        Raises OSError, naming the file, where that cannot be done, and UserError where the names are others than before.
        """
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
            # Or a run that goes on after a kill would lack events from before its checkpoint.
            self._writer.flush()
        if self._wandb is not None:
            self._wandb.log({tag(name): value for name, value in row.items() if value is not None} | {"step": step})

    def write_hyperparameters(self, step, metrics):
        """Write all settings beside the final figures, {name: number}, as of `step`, for TensorBoard's table of runs."""
        settings = {
            name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in self._config.items()
        }
        metrics = {f"final/{name}": value for name, value in metrics.items()}
        with self._named():
            self._writer.add_hparams(settings, metrics, run_name=".", global_step=step)
        if self._wandb is not None:
            self._wandb.summary.update(metrics)

    def sync(self):
        """Flush progress.csv to the disk, as checkpoints are."""
        with self._named():
            os.fsync(self._file.fileno())

    def close(self):
        """Close all files. Raises nothing: `write` said what could not be written."""
        with contextlib.suppress(OSError):
            self._opened.close()

    @contextlib.contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            raise OSError(f"cannot write {self._path} or the events beside it: {error.strerror or error}") from None

    def _on_thread(self, hook):
        """Print no traceback of TensorBoard's thread: what it could not write is raised by the next `write`."""
        if not (issubclass(hook.exc_type, OSError) and type(hook.thread).__module__.startswith("tensorboard")):
            self._hook(hook)


def tag(name):
    """Name of a figure in TensorBoard and wandb."""
    return TAGS.get(name, f"discriminator/{name}")


def _cut(path, step):
    """Remove rows after `step`, and one that is cut off, from a progress.csv; return the others, [{name: text}]."""
    try:
        names, lines = read_csv(path, MAX_BYTES)
    except NoSuchFile:
        return []
    if lines and "step" not in names:
        raise UserError(f"{path}: is not a progress.csv of ours; move it away")
    rows = [dict(zip(names, cells, strict=True)) for cells in lines if len(cells) == len(names)]
    kept = [row for row in rows if re.fullmatch("[0-9]{1,15}", row["step"])]
    kept = [row for row in kept if int(row["step"]) <= step]
    try:
        for cell in (cell for row in kept for cell in row.values() if cell):
            float(cell)
    except ValueError:
        raise UserError(f"{path}: a value is not a number; move it away") from None
    if not kept:
        return []
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(kept)
    write_whole(path, text.getvalue())
    return kept
