"""The resources of a sweep: what each of its trials may use."""

import re
from dataclasses import dataclass

from qi_ext.sampling.pool import available_cpus
from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import brief

MEBIBYTES = {"": 1, "M": 1, "G": 1024}
NULLS = ("null", "Null", "NULL", "~")


@dataclass(frozen=True)
class Resources:
    """Limits of one trial; empty text is the cluster's default.

    cores: processors. memory: MiB, of all cores together. time: seconds after which Slurm ends a job, which then goes on in a
    new one. gpu: a number, or TYPE:NUMBER.
    """

    cores: int = 2
    memory: int = 4096
    time: int = 4 * 3600
    gpu: str = ""
    partition: str = ""
    account: str = ""

    @property
    def at_once(self):
        """Number of trials that fit on the processors that this process may use."""
        return max(1, available_cpus() // self.cores)


def read_resources(given):
    """Return the `Resources` of {name: text}. Raises UserError."""
    for name, value in given.items():
        if not isinstance(value, str):
            raise UserError(f"resources: {name}: must be one value, not {brief(value)}")
    given = {name: value for name, value in given.items() if value not in (*NULLS, "")}
    found = {name: value for name, value in given.items() if name in ("gpu", "partition", "account") and value != "0"}
    if not re.fullmatch(r"([\w.-]{1,100}:){0,3}[0-9]{0,4}", found.get("gpu", "")):
        raise UserError(f"resources: gpu: must be how many, or TYPE:NUMBER, not {brief(given['gpu'])}")
    for name in ("partition", "account"):
        if re.search(r"\s", found.get(name, "")):
            raise UserError(f"resources: {name}: must be one word, not {brief(given[name])}")
    if "cores" in given:
        if not re.fullmatch("[1-9][0-9]{0,4}", given["cores"]):
            raise UserError(
                f"resources: cores: must be a whole number of at least 1, and at most 99999, not {brief(given['cores'])}"
            )
        found["cores"] = int(given["cores"])
    if "memory" in given:
        match = re.fullmatch(r"([1-9][0-9]{0,9})\s*([MG]?)(i?B)?", given["memory"])
        if not match:
            raise UserError(f"resources: memory: must be as 4G or 4000M, of all cores together, not {brief(given['memory'])}")
        found["memory"] = int(match[1]) * MEBIBYTES[match[2]]
    if "time" in given:
        found["time"] = _seconds(given["time"])
    return Resources(**found)


def _seconds(text):
    """Seconds of a time as sbatch(1) takes it: MINUTES[:SECONDS], HOURS:MINUTES:SECONDS, DAYS-HOURS[:MINUTES[:SECONDS]]."""
    match = re.fullmatch(r"(?:([0-9]{1,4})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?", text)
    if match:
        days, *rest = match.groups()
        numbers = [int(each) for each in rest if each is not None]
        if days is None:
            numbers = [0, *numbers] if len(numbers) < 3 else numbers
        hours, minutes, seconds = (numbers + [0, 0])[:3]
        total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        if total >= 60:
            return total
    raise UserError(f"resources: time: must be HOURS:MINUTES:SECONDS or DAYS-HOURS, and a minute at least, not {brief(text)}")
