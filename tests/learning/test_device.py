import pytest
import torch

from qi_ext.learning.device import choose_device
from qi_ext.utils.errors import UserError


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_is_taken_and_named_where_there_is_one(fake_cuda, name):
    assert choose_device(name) == (torch.device("cuda", 0), "fake CUDA")


def test_the_cpu_is_taken_where_it_is_asked_for_or_there_is_nothing_else(fake_cuda, monkeypatch):
    assert choose_device("cpu") == (torch.device("cpu"), "as asked")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == (torch.device("cpu"), "torch finds no GPU")


def test_one_of_several_gpus_is_taken_by_its_number(fake_cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert choose_device("cuda:2") == (torch.device("cuda", 2), "GPU 2")
    with pytest.raises(UserError, match="^--device: no cuda:3: there are 3 GPUs; choose cpu or auto$"):
        choose_device("cuda:3")


def test_a_gpu_that_is_not_there_is_refused(fake_cuda, monkeypatch):
    with pytest.raises(UserError, match="^--device: no cuda:1: there is 1 GPU; choose cpu or auto$"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="^--device: no cuda: torch finds no GPU; choose cpu or auto$"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:-1", "cpu:0", ""])
def test_another_name_is_refused_with_those_that_can_be_had(name):
    with pytest.raises(UserError, match="--device: unknown device .*; choose auto, cpu, cuda, or .*cuda:1"):
        choose_device(name)
