"""The fake device does what a GPU does; the rules are those of `fake_cuda.py`."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

MIXED = re.escape("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")


def counts(fake):
    """(h2d, d2h), and empties them."""
    found = fake.h2d, fake.d2h
    fake.reset()
    return found


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1))


def trained(device, steps=5, **options):
    net = network().to(device)
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs).squeeze(1), torch.sin(inputs).sum(1)).backward()
        optimizer.step()
    return net, optimizer


# Where tensors are


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda", 0), 0])
def test_factories_place_without_a_transfer(fake_cuda, device):
    host = torch.zeros(3)
    made = [torch.zeros(3, device=device), torch.arange(3, device=device), torch.randn(3, device=device)]
    for x in (*made, torch.zeros_like(host, device=device), host.new_zeros(3, device=device), torch.zeros_like(made[0])):
        assert (x.device, x.is_cuda, x.is_cpu, x.get_device()) == (torch.device("cuda:0"), True, False, 0)
    assert (host.device, host.is_cuda, host.is_cpu, host.get_device()) == (torch.device("cpu"), False, True, -1)
    assert counts(fake_cuda) == (0, 0)


@pytest.mark.parametrize("make", [torch.tensor, torch.as_tensor])
def test_data_of_the_host_is_one_transfer_and_its_memory_is_not_shared(fake_cuda, make):
    array = np.ones(3)
    for data in (1.0, [1.0, 2.0], array):
        x = make(data, device="cuda")
        assert x.is_cuda and counts(fake_cuda) == (1, 0)
    array[:] = 7.0
    assert x.sum().item() == 3.0


def test_there_is_one_device(fake_cuda):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.get_device_name()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(3, device="cuda:1")


def test_results_and_views_are_where_their_operands_are(fake_cuda):
    for device in ("cuda", "cpu"):
        x = torch.arange(6.0, device=device)
        views = [x[1:], x.view(2, 3).T, x.data, x.detach(), x.add_(1.0), *x.split(2), *x.unbind()]
        results = [torch.cat([x, x]), torch.stack([x, x]), torch.where(x > 2, x, -x), *torch.sort(x), x.sum()]
        assert {tensor.device.type for tensor in views + results} == {device}
    assert counts(fake_cuda) == (0, 0)


# What must not mix


@pytest.mark.parametrize(
    "mix",
    [
        lambda gpu, cpu: gpu + cpu,
        lambda gpu, cpu: cpu + gpu.sum(),
        lambda gpu, cpu: cpu.add_(gpu),
        lambda gpu, cpu: gpu @ cpu,
        lambda gpu, cpu: nn.functional.mse_loss(gpu, cpu),
        lambda gpu, cpu: torch.cat([gpu, cpu]),
        lambda gpu, cpu: torch.stack([gpu.sum(), cpu.sum()]),
        lambda gpu, cpu: torch.where(gpu > 0, gpu, cpu),
        lambda gpu, cpu: gpu.index_select(0, torch.tensor([0])),
        lambda gpu, cpu: gpu.__setitem__(torch.tensor([0, 1]), cpu),
        lambda gpu, cpu: torch._foreach_add([gpu, cpu], [gpu, gpu]),
        lambda gpu, cpu: nn.Linear(2, 2).cuda()(cpu),
    ],
)
def test_operands_on_two_devices_raise(fake_cuda, mix):
    with pytest.raises(RuntimeError, match=MIXED):
        mix(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))


def test_a_number_on_the_cpu_may_meet_the_device_elementwise(fake_cuda):
    gpu, number = torch.ones(3, device="cuda"), torch.tensor(2.0)
    made = [gpu + number, number - gpu, gpu.mul_(number), torch.where(gpu > 0, gpu, number), gpu.clamp(min=number)]
    assert all(x.is_cuda for x in made)
    assert counts(fake_cuda) == (0, 0)


def test_a_generator_of_the_other_device_raises(fake_cuda):
    on_cpu, on_gpu = torch.Generator().manual_seed(3), torch.Generator("cuda").manual_seed(3)
    assert torch.zeros(3, device="cuda").normal_(generator=on_gpu).is_cuda
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.zeros(3, device="cuda").normal_(generator=on_cpu)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        torch.randn(3, generator=on_gpu, device="cpu")


def test_a_gradient_or_a_moment_of_the_other_device_is_refused(fake_cuda):
    weight = nn.Parameter(torch.zeros(3, device="cuda"))
    with pytest.raises(RuntimeError, match="assigned grad has data located on a different device"):
        weight.grad = torch.zeros(3)
    net, optimizer = trained("cpu", steps=1)
    net.cuda()
    with pytest.raises(RuntimeError, match=MIXED):
        optimizer.step()


# What moves


def test_moving_is_one_transfer_and_moving_nowhere_is_none(fake_cuda):
    x = torch.ones(3)
    for move in (lambda: x.cuda(), lambda: x.to("cuda"), lambda: x.to("cuda", torch.float64), lambda: x.to(device="cuda")):
        assert move().is_cuda and counts(fake_cuda) == (1, 0)
    y = x.cuda()
    fake_cuda.reset()
    assert x.to(y).is_cuda and counts(fake_cuda) == (1, 0)
    assert not y.to(x).is_cuda and not y.cpu().is_cuda and not y.to("cpu").is_cuda and counts(fake_cuda) == (0, 3)
    assert y.cuda() is y and y.to("cuda") is y and x.cpu() is x and y.to(torch.float64).is_cuda
    assert counts(fake_cuda) == (0, 0)


def test_copying_across_devices_is_a_transfer(fake_cuda):
    x, y = torch.zeros(3), torch.ones(3, device="cuda")
    x.copy_(y)
    assert not x.is_cuda and x.tolist() == [1.0] * 3 and counts(fake_cuda) == (0, 1)
    assert y.copy_(x).is_cuda and counts(fake_cuda) == (1, 0)
    y.copy_(y + 1)
    assert counts(fake_cuda) == (0, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: 1 if x[0] > 0 else 0,
        lambda x: x.tolist(),
        lambda x: torch.equal(x, x),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.__setitem__(x > 0, x + 1),
        lambda x: torch.tensor([x[0]]),
    ],
)
def test_reading_on_the_host_is_a_transfer(fake_cuda, read):
    read(torch.ones(3))
    assert counts(fake_cuda) == (0, 0)
    read(torch.ones(3, device="cuda"))
    assert counts(fake_cuda) == (0, 1)


def test_indices_of_the_cpu_are_uploaded_and_those_of_the_device_are_not_for_the_cpu(fake_cuda):
    x, order = torch.arange(6.0, device="cuda"), torch.tensor([5, 0, 3, 1, 4, 2])
    assert x[order].tolist() == order.tolist() and counts(fake_cuda) == (1, 1)
    order_there = order.cuda()
    fake_cuda.reset()
    assert x[order_there].is_cuda and x[1:3].is_cuda and counts(fake_cuda) == (0, 0)
    x[order] = x.clone()
    assert counts(fake_cuda) == (1, 0)
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        torch.zeros(6)[order_there]


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray])
def test_numpy_refuses_a_tensor_on_the_device(fake_cuda, convert):
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
        convert(torch.ones(3, device="cuda"))
    convert(torch.ones(3, device="cuda").cpu())


def test_events_name_the_line_that_caused_them(fake_cuda):
    x = torch.ones(3, device="cuda", requires_grad=True)
    nn.functional.softplus(x).sum().backward()
    x.grad.sum().item()
    (read,) = fake_cuda.events
    assert (read.kind, read.what) == ("d2h", "_local_scalar_dense")
    assert re.search(r"test_fake_cuda.py:\d+ in test_events_name_the_line_that_caused_them$", read.where)


# Networks, gradients, optimizers


def test_a_module_moves_with_its_parameters_buffers_and_gradients(fake_cuda):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net(torch.randn(4, 2)).sum().backward()
    parameters = list(net.parameters())
    for move, cuda in ((lambda: net.to("cuda"), True), (net.cpu, False), (net.cuda, True)):
        move()
        assert all(new is old for new, old in zip(net.parameters(), parameters, strict=True))
        assert all((p.is_cuda, p.grad.is_cuda, p.is_leaf) == (cuda, cuda, True) for p in parameters)
        assert all(buffer.is_cuda == cuda for buffer in net.buffers())


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"fused": True}])
def test_adam_gives_the_weights_of_the_cpu(FakeCuda, options):
    with FakeCuda() as fake:
        net, optimizer = trained("cuda", **options)
        assert all(p.is_cuda and p.grad.is_cuda and optimizer.state[p]["exp_avg"].is_cuda for p in net.parameters())
        assert counts(fake) == (7, 0), "the six parameters and the input; the steps of Adam are on the CPU"
    expected, _ = trained("cpu", **options)
    for found, wanted in zip(net.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(found, wanted)


def test_gradients_of_gradients_stay_on_the_device_and_equal_those_of_the_cpu(FakeCuda):
    def penalty_gradients(device):
        net = network().to(device)
        x = torch.linspace(-1.0, 1.0, 20).reshape(5, 4).to(device).requires_grad_()
        (slope,) = torch.autograd.grad(nn.functional.softplus(net(x)).sum(), x, create_graph=True)
        slope.norm(dim=1).square().mean().backward()
        assert slope.device.type == device
        # The penalty does not depend on the last bias.
        return [p.grad for p in net.parameters() if p.grad is not None]

    with FakeCuda() as fake:
        found = penalty_gradients("cuda")
        assert all(g.is_cuda for g in found) and fake.d2h == 0
    for gradient, expected in zip(found, penalty_gradients("cpu"), strict=True):
        assert torch.equal(gradient, expected)


def test_a_gradient_goes_back_through_a_transfer(fake_cuda):
    x = torch.ones(3, requires_grad=True)
    (x.cuda() ** 2).sum().cpu().backward()
    assert not x.grad.is_cuda and x.grad.tolist() == [2.0] * 3
    assert counts(fake_cuda) == (2, 2)


def test_parameters_to_vector_and_back(fake_cuda):
    net = network().cuda()
    vector = parameters_to_vector(net.parameters())
    vector_to_parameters(2 * vector, net.parameters())
    assert vector.is_cuda and all(p.is_cuda for p in net.parameters())
    assert torch.equal(parameters_to_vector(net.parameters()), 2 * vector)


def test_states_load_across_devices(fake_cuda):
    net, optimizer = trained("cuda", steps=1)
    net.load_state_dict(network().state_dict())
    _, saved = trained("cpu", steps=1)
    optimizer.load_state_dict(saved.state_dict())
    assert all(p.is_cuda for p in net.parameters())
    assert all(s["exp_avg"].is_cuda and not s["step"].is_cuda for s in optimizer.state.values())


def test_nothing_is_left_behind(FakeCuda):
    def state():
        cuda = {name: getattr(torch.cuda, name) for name in dir(torch.cuda)}
        stacks = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
        return cuda, torch.Generator, torch._C._group_tensors_by_device_and_dtype, stacks

    before = state()
    fake = FakeCuda()
    with pytest.raises(ZeroDivisionError), fake:
        assert state() != before
        x = torch.zeros(3, device="cuda")
        1 / 0  # noqa: B018
    assert state() == before and not torch.cuda.is_available() and x.device.type == "cpu" and x.numpy().sum() == 0.0
    with fake:
        assert x.is_cuda


def test_random_state_can_be_forked(fake_cuda):
    with torch.random.fork_rng():
        torch.randn(3, device="cuda")
