"""Which device the learner runs on, and why."""

import re

import torch

from qi_ext.utils.errors import UserError

# What `auto` reckons with: kernels of one operation each start no faster than this, and a CPU thread does so much.
SECONDS_PER_KERNEL = 1e-5
FLOPS_PER_THREAD = 5e10
KERNELS_PER_FIT_STEP = 50
KERNELS_PER_PRODUCT = 30


def choose_device(name, config):
    """The torch device for `--device name` (auto, cpu, cuda or cuda:N), and why it is that one, in a few words.

    auto takes the first GPU where an update, with the sizes of `config`, would take at least twice as long on the CPU.
    Raises UserError where the device is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"--device: unknown device {name!r}; choose auto, cpu, cuda, or one of several GPUs, such as cuda:1")
    if name == "cpu":
        return torch.device("cpu"), "as asked"
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if not available:
            return torch.device("cpu"), "torch finds no GPU"
        on_cpu, on_gpu = _flops(config) / (FLOPS_PER_THREAD * config.learner_threads), _kernels(config) * SECONDS_PER_KERNEL
        estimate = f"an update is estimated to take {on_cpu:.2f} s on the CPU, and at least {on_gpu:.2f} s on a GPU"
        return torch.device("cuda:0" if on_cpu > 2.0 * on_gpu else "cpu"), estimate
    index = int(name.partition(":")[2] or 0)
    if index >= available:
        there = {0: "torch finds no GPU", 1: "there is 1 GPU"}.get(available, f"there are {available} GPUs")
        raise UserError(f"--device: no {name}: {there}; choose cpu or auto")
    return torch.device("cuda", index), torch.cuda.get_device_name(index)


def _flops(config):
    """Of one update, about: 2 for a weight and sample in a forward pass, 4 in a backward pass, 8 in a Fisher product."""
    policy, critic, discriminator = (
        sum(n_in * n_out for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True))
        for sizes in (
            [37, *config.policy_hidden, 12],
            [37, *config.critic_hidden, 1],
            [74, *config.discriminator_hidden, 1],
        )
    )
    fitted = config.discriminator_updates * 2 * min(config.discriminator_batch_size, config.batch_size)
    return (
        config.batch_size * policy * (8 + 8 * config.cg_iterations * config.cg_fraction)
        + config.batch_size * critic * (2 + 6 * config.critic_epochs)
        + discriminator * (2 * config.batch_size + 9 * fitted)
    )


def _kernels(config):
    """Of one update, about."""
    minibatches = -(-config.batch_size // config.critic_batch_size) * config.critic_epochs + config.discriminator_updates
    return KERNELS_PER_FIT_STEP * minibatches + KERNELS_PER_PRODUCT * config.cg_iterations + 300
