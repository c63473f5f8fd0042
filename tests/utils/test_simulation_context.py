import mujoco
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from qi_ext.utils.simulation_context import simulation_context


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_blas_thread_inside_and_as_many_as_before_afterwards():
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with simulation_context():
            assert blas_threads() == {1}
        assert blas_threads() == before


def test_a_blow_up_leaves_no_log_file_and_the_warning_handler_is_restored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handler = mujoco.get_mju_user_warning()
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>")
    data = mujoco.MjData(model)
    with simulation_context():
        data.qvel[:] = np.nan
        mujoco.mj_step(model, data)
    assert data.warning.number.any()
    assert list(tmp_path.iterdir()) == []
    assert mujoco.get_mju_user_warning() == handler
