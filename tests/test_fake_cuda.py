"""The fake device does what a GPU does; the rules are those of `fake_cuda.py`."""

import copy
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

MIXED = re.escape("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")


def counts(fake):
    """(h2d, d2h, syncs), and empties them."""
    found = fake.h2d, fake.d2h, fake.syncs
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
        clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    return net, optimizer


# Where tensors are.


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0), 0])
@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.zeros(3, device=device),
        lambda device: torch.ones(3, device=device),
        lambda device: torch.full((3,), 2.0, device=device),
        lambda device: torch.empty(3, device=device),
        lambda device: torch.arange(3, device=device),
        lambda device: torch.randn(3, device=device),
        lambda device: torch.randperm(3, device=device),
        lambda device: torch.zeros_like(torch.zeros(3), device=device),
        lambda device: torch.zeros(3).new_zeros(3, device=device),
    ],
)
def test_factories_place_without_a_transfer(fake_cuda, make, device):
    x = make(device)
    assert (x.device, x.is_cuda, x.is_cpu, x.get_device()) == (torch.device("cuda:0"), True, False, 0)
    assert counts(fake_cuda) == (0, 0, 0)


def test_tensors_without_a_device_are_on_the_cpu(fake_cuda):
    for x in (
        torch.zeros(3),
        torch.tensor(1.0),
        torch.from_numpy(np.ones(3)),
        torch.zeros(3, device="cuda").new_zeros(2, device="cpu"),
    ):
        assert (x.device, x.is_cuda, x.is_cpu, x.get_device()) == (torch.device("cpu"), False, True, -1)


@pytest.mark.parametrize(
    "make", [torch.zeros_like, torch.randn_like, lambda x: x.new_ones(2), lambda x: x.new_full((2,), 1.0), torch.clone]
)
def test_likes_follow_their_input(fake_cuda, make):
    assert make(torch.zeros(3, device="cuda")).is_cuda and not make(torch.zeros(3)).is_cuda
    assert counts(fake_cuda) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("make", [torch.tensor, torch.as_tensor, torch.asarray])
@pytest.mark.parametrize("data", [1.0, [1.0, 2.0], np.ones(3), torch.ones(3)])
def test_data_of_the_host_is_one_transfer(fake_cuda, make, data):
    x = make(data, device="cuda")
    assert x.is_cuda and counts(fake_cuda) == (1, 0, 1)
    assert torch.ones(1, device="cuda").new_tensor([1.0]).is_cuda and counts(fake_cuda) == (1, 0, 1)


def test_a_tensor_on_the_device_never_shares_memory_with_an_array(fake_cuda):
    array = np.zeros(3)
    x = torch.as_tensor(array, device="cuda")
    array[:] = 1.0
    assert x.sum().item() == 0.0


def test_as_tensor_of_a_cuda_tensor_stays_there_and_may_come_back(fake_cuda):
    x = torch.ones(3, device="cuda")
    assert torch.as_tensor(x).is_cuda and counts(fake_cuda) == (0, 0, 0)
    assert not torch.as_tensor(x, device="cpu").is_cuda and counts(fake_cuda) == (0, 1, 1)


def test_a_second_gpu_does_not_exist(fake_cuda):
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(3, device="cuda:1")


def test_torch_cuda_reports_one_device_and_counts_synchronize(fake_cuda):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.get_device_name()
    torch.cuda.synchronize()
    assert counts(fake_cuda) == (0, 0, 1)


def test_views_in_place_and_out_stay_where_their_memory_is(fake_cuda):
    x = torch.zeros(6, device="cuda")
    for y in (
        x[1:],
        x.view(2, 3),
        x.view(2, 3).T,
        x.data,
        x.detach(),
        x.add_(1.0),
        torch.add(x, 1.0, out=torch.zeros(6, device="cuda")),
    ):
        assert y.is_cuda
    x[:2] = 5.0
    assert x.sum().item() == 14.0
    with pytest.raises(RuntimeError, match=MIXED):
        torch.add(x, 1.0, out=torch.zeros(6))


def test_results_are_where_their_operands_are(fake_cuda):
    x = torch.arange(6.0, device="cuda")
    parts = [
        *x.split(2),
        *x.chunk(3),
        torch.cat([x, x]),
        torch.stack([x, x]),
        torch.where(x > 2, x, -x),
        *torch.sort(x),
        x.sum(),
    ]
    assert all(part.is_cuda for part in parts)
    cpu = torch.arange(6.0)
    assert not any(part.is_cuda for part in [*cpu.split(2), torch.cat([cpu, cpu]), torch.where(cpu > 2, cpu, -cpu)])


# What must not mix.


@pytest.mark.parametrize(
    "mix",
    [
        lambda gpu, cpu: gpu + cpu,
        lambda gpu, cpu: cpu + gpu,
        lambda gpu, cpu: cpu + gpu.sum(),
        lambda gpu, cpu: cpu.add_(gpu),
        lambda gpu, cpu: gpu.add_(cpu),
        lambda gpu, cpu: cpu.sum().add_(gpu.sum()),
        lambda gpu, cpu: gpu @ cpu,
        lambda gpu, cpu: nn.functional.linear(gpu, cpu),
        lambda gpu, cpu: nn.functional.mse_loss(gpu, cpu),
        lambda gpu, cpu: torch.cat([gpu, cpu]),
        lambda gpu, cpu: torch.stack([gpu.sum(), cpu.sum()]),
        lambda gpu, cpu: torch.where(gpu > 0, gpu, cpu),
        lambda gpu, cpu: gpu.masked_fill(cpu > 0, 0.0),
        lambda gpu, cpu: gpu.index_select(0, torch.tensor([0])),
        lambda gpu, cpu: gpu.gather(0, torch.zeros(1, 1, dtype=torch.long)),
        lambda gpu, cpu: gpu.__setitem__(torch.tensor([0, 1]), cpu),
        lambda gpu, cpu: torch.equal(gpu.sum(), cpu.sum()),
        lambda gpu, cpu: torch._foreach_add_([cpu.sum()], [gpu.sum()]),
        lambda gpu, cpu: torch._foreach_add([gpu, cpu], [gpu, gpu]),
    ],
)
def test_operands_on_two_devices_raise(fake_cuda, mix):
    mix(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(RuntimeError, match=MIXED):
        mix(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))


@pytest.mark.parametrize(
    "mix",
    [
        lambda gpu, zero: gpu + zero,
        lambda gpu, zero: zero - gpu,
        lambda gpu, zero: gpu.mul_(zero),
        lambda gpu, zero: gpu.sum() * zero,
        lambda gpu, zero: torch.where(gpu > 0, gpu, zero),
        lambda gpu, zero: gpu.clamp(min=zero),
        lambda gpu, zero: gpu.masked_fill(gpu > 0, zero),
        lambda gpu, zero: torch._foreach_mul([gpu], zero)[0],
    ],
)
def test_a_number_on_the_cpu_may_meet_the_device_elementwise(fake_cuda, mix):
    assert mix(torch.ones(3, device="cuda"), torch.tensor(2.0)).is_cuda
    assert counts(fake_cuda) == (0, 0, 0)


def test_operands_in_inference_mode_raise_too(fake_cuda):
    with torch.inference_mode():
        x = torch.ones(2, 2, device="cuda")
        with pytest.raises(RuntimeError, match=MIXED):
            nn.functional.linear(x, torch.ones(2, 2))
        assert nn.functional.linear(x, x).is_cuda
        assert x.view_as(torch.ones(2, 2)).is_cuda
        assert x.sum().item() == 4.0 and torch.where(x > 0)[0].is_cuda and counts(fake_cuda) == (0, 2, 2)


def test_a_network_and_its_input_on_two_devices_raise(fake_cuda):
    with pytest.raises(RuntimeError, match=MIXED):
        network().cuda()(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match=MIXED):
        network()(torch.zeros(2, 4, device="cuda"))


@pytest.mark.parametrize(
    "draw", [lambda x, g: x.normal_(generator=g), lambda x, g: torch.randn(3, generator=g, device=x.device)]
)
def test_a_generator_of_the_other_device_raises(fake_cuda, draw):
    cpu, gpu = torch.zeros(3), torch.zeros(3, device="cuda")
    on_cpu, on_gpu = torch.Generator().manual_seed(3), torch.Generator("cuda").manual_seed(3)
    assert (on_cpu.device.type, on_gpu.device.type) == ("cpu", "cuda")
    assert draw(gpu, on_gpu).is_cuda and not draw(cpu, on_cpu).is_cuda
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        draw(gpu, on_cpu)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        draw(cpu, on_gpu)


def test_a_gradient_of_the_other_device_is_refused(fake_cuda):
    weight = nn.Parameter(torch.zeros(3, device="cuda"))
    weight.grad = torch.zeros(3, device="cuda")
    with pytest.raises(RuntimeError, match="assigned grad has data located on a different device"):
        weight.grad = torch.zeros(3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"foreach": False}, MIXED),
        ({"foreach": True}, "Tensors of the same index must be on the same device"),
        ({"fused": True}, "Tensors of the same index must be on the same device"),
    ],
)
def test_an_optimizer_whose_moments_stayed_on_the_cpu_raises(fake_cuda, options, words):
    net, optimizer = trained("cpu", steps=1, **options)
    net.cuda()
    with pytest.raises(RuntimeError, match=words):
        optimizer.step()


# What moves, and what makes the host wait.


def test_moving_is_one_transfer_and_moving_nowhere_is_none(fake_cuda):
    x = torch.ones(3)
    for move in (
        lambda: x.cuda(),
        lambda: x.to("cuda"),
        lambda: x.to(0),
        lambda: x.to("cuda", torch.float64),
        lambda: x.to(device="cuda"),
    ):
        assert move().is_cuda and counts(fake_cuda) == (1, 0, 1)
    y = x.cuda()
    fake_cuda.reset()
    assert x.to(y).is_cuda and x.type_as(y).is_cuda and counts(fake_cuda) == (2, 0, 2)
    assert not y.to(x).is_cuda and not y.cpu().is_cuda and not y.to("cpu").is_cuda and counts(fake_cuda) == (0, 3, 3)
    assert y.cuda() is y and y.to("cuda") is y and x.cpu() is x and x.to("cpu") is x and y.to(torch.float64).is_cuda
    assert counts(fake_cuda) == (0, 0, 0)


def test_the_host_does_not_wait_for_a_non_blocking_transfer(fake_cuda):
    x, y = torch.ones(3), torch.ones(3, device="cuda")
    x.to("cuda", non_blocking=True)
    x.pin_memory().cuda(non_blocking=True)
    y.copy_(x, non_blocking=True)
    assert counts(fake_cuda) == (3, 0, 0)


def test_copying_across_devices_is_a_transfer(fake_cuda):
    x, y = torch.zeros(3), torch.ones(3, device="cuda")
    x.copy_(y)
    assert not x.is_cuda and x.tolist() == [1.0] * 3 and counts(fake_cuda) == (0, 1, 1)
    assert y.copy_(x).is_cuda and counts(fake_cuda) == (1, 0, 1)
    y.copy_(y + 1)
    x.copy_(x + 1)
    assert counts(fake_cuda) == (0, 0, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: int(x[0]),
        lambda x: bool(x[0]),
        lambda x: 1 if x[0] > 0 else 0,
        lambda x: x.tolist(),
        lambda x: f"{x[0]:.1f}",
        lambda x: f"{x}",
        lambda x: repr(x),
        lambda x: torch.equal(x, x),
        lambda x: torch.allclose(x, x),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.__setitem__(x > 0, x + 1),
        lambda x: x.numpy(force=True),
        lambda x: torch.tensor([x[0]]),
    ],
)
def test_reading_on_the_host_transfers_and_waits(fake_cuda, read):
    read(torch.ones(3))
    assert counts(fake_cuda) == (0, 0, 0)
    read(torch.ones(3, device="cuda"))
    assert counts(fake_cuda) == (0, 1, 1)


def test_writing_one_number_through_a_mask_does_not_wait(fake_cuda):
    x = torch.ones(3, device="cuda")
    x[x > 0] = 2.0
    assert counts(fake_cuda) == (0, 0, 0)


def test_indices_of_the_cpu_are_uploaded(fake_cuda):
    x, order = torch.arange(6.0, device="cuda"), torch.from_numpy(np.random.default_rng(0).permutation(6))
    assert x[order].tolist() == order.tolist()
    assert counts(fake_cuda) == (1, 1, 2)
    assert x[order.cuda()].is_cuda and counts(fake_cuda) == (1, 0, 1)
    assert x[[0, 1]].is_cuda and counts(fake_cuda) == (1, 0, 1)
    x[order] = x.clone()
    assert counts(fake_cuda) == (1, 0, 1)
    x[order] = 1.0
    assert counts(fake_cuda) == (2, 0, 2), "the number goes up too"
    assert x[1:3].is_cuda and counts(fake_cuda) == (0, 0, 0)


def test_indices_of_the_device_into_a_cpu_tensor_raise(fake_cuda):
    with pytest.raises(
        RuntimeError, match=re.escape("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    ):
        torch.zeros(3)[torch.tensor([0], device="cuda")]


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray, lambda x: x.__array__()])
def test_numpy_refuses_a_tensor_on_the_device(fake_cuda, convert):
    convert(torch.ones(3))
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
        convert(torch.ones(3, device="cuda"))
    convert(torch.ones(3, device="cuda").cpu())


def test_events_name_the_line_that_caused_them(fake_cuda):
    x = torch.ones(3, device="cuda", requires_grad=True)
    nn.functional.softplus(x).sum().backward()
    x.grad.sum().item()
    (read, wait) = fake_cuda.events
    assert (read.kind, wait.kind, read.what) == ("d2h", "sync", "_local_scalar_dense")
    assert re.search(r"test_fake_cuda.py:\d+ in test_events_name_the_line_that_caused_them$", read.where)


# Networks, gradients, optimizers.


def test_a_module_moves_with_its_parameters_buffers_and_gradients(fake_cuda):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net(torch.randn(4, 2)).sum().backward()
    parameters = list(net.parameters())
    for move, cuda in (
        (lambda: net.to("cuda"), True),
        (net.cpu, False),
        (net.cuda, True),
        (lambda: net.to(torch.float64), True),
    ):
        move()
        assert all(new is old for new, old in zip(net.parameters(), parameters, strict=True))
        for p in parameters:
            assert (p.is_cuda, p.grad.is_cuda, p.is_leaf, p.requires_grad, type(p)) == (cuda, cuda, True, True, nn.Parameter)
        assert all(buffer.is_cuda == cuda for buffer in net.buffers())
    assert nn.Linear(2, 3, device="cuda").weight.is_cuda


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"foreach": True}, {"fused": True}])
def test_adam_gives_the_weights_of_the_cpu(FakeCuda, options):
    with FakeCuda() as fake:
        net, optimizer = trained("cuda", **options)
        assert all(p.is_cuda and p.grad.is_cuda and optimizer.state[p]["exp_avg"].is_cuda for p in net.parameters())
        assert counts(fake) == (7, 0, 7), "the six parameters and the input; the steps of Adam are on the CPU"
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


@pytest.mark.parametrize(
    "read", [lambda x: x[torch.tensor([0, 0], device="cuda")], lambda x: x[1:], lambda x: x.unbind()[0], lambda x: x.max()]
)
def test_zeros_made_in_a_backward_pass_are_on_the_device(fake_cuda, read):
    x = torch.ones(3, device="cuda", requires_grad=True)
    (gradient,) = torch.autograd.grad(read(x).sum(), x, create_graph=True)
    assert gradient.is_cuda


def test_a_gradient_goes_back_through_a_transfer(fake_cuda):
    x = torch.ones(3, requires_grad=True)
    (x.cuda() ** 2).sum().cpu().backward()
    assert not x.grad.is_cuda and x.grad.tolist() == [2.0] * 3
    assert counts(fake_cuda) == (2, 2, 4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_functional_transforms_follow_the_device(fake_cuda):
    net, x = network().cuda(), torch.randn(5, 4, device="cuda")
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def f(weights):
        assert all(w.is_cuda for w in weights.values())
        return torch.func.functional_call(net, weights, (x,))

    out, pull = torch.func.vjp(f, weights)
    assert out.is_cuda and all(g.is_cuda for g in pull(torch.ones_like(out))[0].values())
    assert torch.func.jvp(f, (weights,), (weights,))[1].is_cuda
    assert not torch.func.jvp(lambda x: x.cpu(), (x,), (x,))[1].is_cuda
    assert torch.vmap(net)(x).is_cuda and not torch.vmap(lambda row: row.cpu())(x).is_cuda


def test_parameters_to_vector_and_back(fake_cuda):
    net = network().cuda()
    vector = parameters_to_vector(net.parameters())
    assert vector.is_cuda
    vector_to_parameters(2 * vector, net.parameters())
    assert all(p.is_cuda for p in net.parameters()) and torch.equal(parameters_to_vector(net.parameters()), 2 * vector)
    net[0].cpu()
    with pytest.raises(TypeError, match="different"):
        parameters_to_vector(net.parameters())


# Copies and files.


def test_a_deep_copy_stays_on_the_device(fake_cuda):
    net, _ = trained("cuda", steps=1)
    leaf = torch.ones(3, device="cuda", requires_grad=True)
    leaf.sum().backward()
    fake_cuda.reset()
    assert copy.deepcopy(leaf).grad.is_cuda
    for tensor in (torch.ones(3, device="cuda"), *copy.deepcopy(net).parameters(), copy.deepcopy(net[0].weight)):
        assert copy.deepcopy(tensor).is_cuda
    assert counts(fake_cuda) == (0, 0, 0)


def test_states_load_across_devices(fake_cuda):
    net, optimizer = trained("cuda", steps=1)
    fake_cuda.reset()
    net.load_state_dict(network().state_dict())
    assert all(p.is_cuda for p in net.parameters()) and counts(fake_cuda) == (6, 0, 6)
    _, saved = trained("cpu", steps=1)
    optimizer.load_state_dict(saved.state_dict())
    assert all(s["exp_avg"].is_cuda and not s["step"].is_cuda for s in optimizer.state.values())
    assert counts(fake_cuda) == (12, 0, 12)


def test_safetensors_saves_by_way_of_the_cpu(fake_cuda, tmp_path):
    save_file({"x": torch.arange(3.0, device="cuda")}, tmp_path / "x.safetensors")
    assert fake_cuda.d2h == 1
    loaded = load_file(tmp_path / "x.safetensors")["x"]
    assert not loaded.is_cuda and loaded.tolist() == [0.0, 1.0, 2.0]


# The context manager.


def test_nothing_is_left_behind(FakeCuda):
    def state():
        cuda = {name: getattr(torch.cuda, name) for name in dir(torch.cuda)}
        return (
            cuda,
            torch.Generator,
            torch._C._group_tensors_by_device_and_dtype,
            torch._C._len_torch_function_stack(),
            torch._C._len_torch_dispatch_stack(),
        )

    before = state()
    fake = FakeCuda()
    with pytest.raises(ZeroDivisionError), fake:
        assert state() != before
        x = torch.zeros(3, device="cuda")
        1 / 0  # noqa: B018
    assert state() == before and not torch.cuda.is_available() and x.device.type == "cpu" and x.numpy().sum() == 0.0
    with fake:
        assert x.is_cuda and torch.zeros(3, device="cuda").is_cuda
    assert state() == before


def test_random_state_can_be_forked(fake_cuda):
    with torch.random.fork_rng():
        torch.randn(3, device="cuda")
