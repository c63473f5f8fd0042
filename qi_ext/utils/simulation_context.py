"""The context that simulations run in, in every process: arithmetic with one thread, MuJoCo without its log file."""

import functools
from contextlib import contextmanager

import mujoco
from threadpoolctl import ThreadpoolController

# Finding the libraries takes milliseconds; numpy's, whose threads matter, has been loaded with numpy.
_thread_pools = functools.cache(ThreadpoolController)


@contextmanager
def simulation_context():
    """Use one BLAS thread, because matrix products depend on their number, and ignore MuJoCo's warnings."""
    with warnings_ignored(), _thread_pools().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def warnings_ignored():
    """Let MuJoCo's warnings be counted in `data.warning` and nothing else: no exception, no MUJOCO_LOG.TXT."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(_ignore)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


def _ignore(message):
    pass
