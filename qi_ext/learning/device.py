"""The device that the learner runs on."""

import re

import torch

from qi_ext.utils.errors import UserError


def choose_device(name):
    """Return the torch device for `--device name` (auto, cpu, cuda or cuda:N), and why it is that one, in a few words.

    auto takes the first GPU where torch finds one. Raises UserError where the device is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"--device: unknown device {name!r}; choose auto, cpu, cuda, or one of several GPUs, such as cuda:1")
    if name == "cpu":
        return torch.device("cpu"), "as asked"
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto" and not available:
        return torch.device("cpu"), "torch finds no GPU"
    index = int(name.partition(":")[2] or 0)
    if index >= available:
        there = {0: "torch finds no GPU", 1: "there is 1 GPU"}.get(available, f"there are {available} GPUs")
        raise UserError(f"--device: no {name}: {there}; choose cpu or auto")
    return torch.device("cuda", index), torch.cuda.get_device_name(index)
