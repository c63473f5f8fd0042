"""The context that simulations run in, in every process: arithmetic with one thread, MuJoCo without its log file."""

import functools
from contextlib import contextmanager

import mujoco
from threadpoolctl import ThreadpoolController

# Finding the libraries takes milliseconds; numpy's, whose threads matter, has been loaded with numpy.
_thread_pools = functools.cache(ThreadpoolController)


@contextmanager
def simulation_context():
    """Use one BLAS thread, because matrix products depend on their number, and write no MUJOCO_LOG.TXT for a blow-up."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with _thread_pools().limit(limits=1, user_api="blas"):
            yield
    finally:
        mujoco.set_mju_user_warning(handler)
