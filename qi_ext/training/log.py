"""The curves of a run: each update written to progress.csv, TensorBoard, and Weights & Biases where asked."""

import contextlib
import csv
import dataclasses
import hashlib
import importlib.util
import io
import threading

from torch.utils.tensorboard import SummaryWriter

from qi_ext.errors import UserError
from qi_ext.files import write_atomically

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
        """step: what the run goes on from; rows and events after it are cut away. None for a run that begins.

        Raises OSError, naming the file, where that cannot be done.
        """
        self._path = directory / "progress.csv"
        self._config = dataclasses.asdict(config)
        self._hook, threading.excepthook = threading.excepthook, self._on_thread
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._config.items())
        with self._named():
            self.rows = _cut(self._path, step) if step is not None else []  # those before, as text
            self._file = open(self._path, "a" if self.rows else "w", newline="")  # noqa: SIM115 (closed by `close`)
            self._csv = csv.DictWriter(self._file, self.rows[0]) if self.rows else None
            self._writer = SummaryWriter(directory, purge_step=0 if step is None else step + 1)
            self._writer.add_text("config", f"| setting | value |\n| --- | --- |\n{rows}")
        self._wandb = _wandb_run(directory, self._config) if config.wandb else None

    def write(self, step, row):
        """row: {name: number or None}, the same names each time. Raises OSError, naming the file, where that cannot be done."""
        with self._named():
            if self._csv is None:
                self._csv = csv.DictWriter(self._file, ["step", *row])
                self._csv.writeheader()
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

    def close(self):
        """Raises nothing: what could not be written was said by `write`."""
        # Not SummaryWriter's own close, which flushes first, and leaves a thread behind where that fails.
        closes = [self._file.close, self._writer.file_writer.close]
        for close in (*closes, *([self._wandb.finish] if self._wandb else [])):
            with contextlib.suppress(OSError):
                close()
        threading.excepthook = self._hook

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
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames, list(reader)
    except FileNotFoundError:
        return []
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


def require_wandb(config):
    """Raise UserError where wandb is asked for and not installed."""
    # A folder of that name, such as wandb leaves where it ran, has no origin.
    if config.wandb and getattr(importlib.util.find_spec("wandb"), "origin", None) is None:
        raise UserError("--wandb: wandb is not installed; pip install wandb, or leave the option out")


def _wandb_run(directory, config):
    import wandb

    # The same for a run that goes on, wherever it is called from.
    identity = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    name = f"{config['task']}-{config['algorithm']}-{config['seed']}"
    try:
        run = wandb.init(project=config["wandb"], dir=directory, id=identity, name=name, config=config, resume="allow")
    except wandb.Error as error:
        raise UserError(f"--wandb: {' '.join(str(error).split())}; or leave the option out") from None
    # By a figure of its own, because wandb's own counter never goes back to where a run goes on from.
    run.define_metric("*", step_metric="step")
    return run
