import pytest
import torch

from qi_ext.learning.device import choose_device
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError

both = pytest.mark.parametrize("algorithm", ["gail", "vail"])


def test_the_cpu_is_taken_where_it_is_asked_for(fake_cuda):
    assert choose_device("cpu", make_config("simple", "gail")) == (torch.device("cpu"), "as asked")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_is_taken_where_it_is_asked_for_and_named(fake_cuda, small_config, name):
    assert choose_device(name, small_config()) == (torch.device("cuda", 0), "fake CUDA")


def test_one_of_several_gpus_is_taken_by_its_number(fake_cuda, small_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert choose_device("cuda:2", small_config()) == (torch.device("cuda", 2), "GPU 2")
    with pytest.raises(UserError, match="^--device: no cuda:3: there are 3 GPUs; choose cpu or auto$"):
        choose_device("cuda:3", small_config())


def test_a_gpu_that_is_not_there_is_refused(fake_cuda, small_config, monkeypatch):
    with pytest.raises(UserError, match="^--device: no cuda:1: there is 1 GPU; choose cpu or auto$"):
        choose_device("cuda:1", small_config())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError, match=f"^--device: no {name}: torch finds no GPU; choose cpu or auto$"):
            choose_device(name, small_config())


@pytest.mark.parametrize("name", ["gpu", "mps", "CUDA", "cuda:", "cuda:-1", "cuda:first", "cpu:0", "", "auto cpu"])
def test_another_name_is_refused_with_those_that_can_be_had(small_config, name):
    with pytest.raises(UserError, match="--device: unknown device .*; choose auto, cpu, cuda, or .*cuda:1") as caught:
        choose_device(name, small_config())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["simple", "hard"])
@both
def test_auto_takes_the_gpu_for_the_default_networks_and_says_why(fake_cuda, task, algorithm):
    device, why = choose_device("auto", make_config(task, algorithm))
    assert device == torch.device("cuda", 0)
    on_cpu, on_gpu = seconds_in(why)
    assert on_cpu > 2.0 * on_gpu


def seconds_in(why):
    words = why.split()
    assert why.startswith("an update is estimated to take") and "on the CPU" in why and "on a GPU" in why
    return [float(before) for before, word in zip(words, words[1:], strict=False) if word == "s"]


@both
def test_auto_takes_the_cpu_for_tiny_networks_and_says_why(fake_cuda, small_config, algorithm):
    device, why = choose_device("auto", small_config(algorithm))
    assert device == torch.device("cpu")
    on_cpu, on_gpu = seconds_in(why)
    assert on_cpu <= 2.0 * on_gpu


def test_auto_takes_the_cpu_where_it_has_threads_enough(fake_cuda):
    assert choose_device("auto", make_config("simple", "gail", learner_threads=64))[0] == torch.device("cpu")


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", make_config("simple", "gail")) == (torch.device("cpu"), "torch finds no GPU")
