import pytest
import torch

from qi_ext.learning.networks import MLP, Normalizer, forward_pass


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_normalizer_is_the_identity_before_the_first_update():
    x = torch.randn(5, 3, generator=seeded())
    torch.testing.assert_close(Normalizer(3)(x), x, rtol=0, atol=0)


def test_statistics_of_batches_are_those_of_all_samples_at_once():
    samples = 1e4 + 0.5 * torch.randn(1000, 4, generator=seeded(), dtype=torch.float64)
    normalizer = Normalizer(4)
    before = samples.clone()
    for batch in samples.split([1, 9, 500, 490]):
        normalizer.update(batch)
        normalizer(torch.full((5, 4), 7.0))
    assert torch.equal(samples, before)
    assert normalizer.count == 1000
    torch.testing.assert_close(normalizer.mean, samples.mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(normalizer.variance, samples.var(dim=0, correction=0), rtol=1e-6, atol=0)


def test_statistics_still_move_after_a_million_samples():
    normalizer = Normalizer(1)
    normalizer.update(torch.zeros(1_000_000, 1))
    normalizer.update(torch.ones(1_000_000, 1))
    normalizer.update(torch.full((100, 1), 1e-3))
    n, total, squares = 2_000_100, 1_000_000 + 0.1, 1_000_000 + 1e-4
    mean = torch.tensor([total / n], dtype=torch.float64)
    torch.testing.assert_close(normalizer.mean, mean, rtol=1e-9, atol=0)
    torch.testing.assert_close(normalizer.variance, squares / n - mean**2, rtol=1e-9, atol=0)


def test_outliers_are_clipped_where_asked():
    assert Normalizer(2, clip=10.0)(torch.tensor([1e6, -1e6])).tolist() == [10.0, -10.0]
    assert Normalizer(2)(torch.tensor([1e6, -1e6])).tolist() == [1e6, -1e6]


def test_a_constant_feature_is_left_out_however_it_changes_later():
    samples = torch.randn(1000, 2, generator=seeded())
    samples[:, 1] = 0.3
    normalizer = Normalizer(2)
    for part in samples.split(300):
        normalizer.update(part)
    assert normalizer(torch.tensor([[0.0, 0.3], [0.0, 0.7]]))[:, 1].tolist() == [0.0, 0.0]
    assert normalizer(torch.tensor([[2.0, 0.7]]))[0, 0] > 1.0


def test_network_is_relu_between_linear_layers():
    network = MLP([3, 4, 5, 2], seeded())
    x = torch.randn(7, 3, generator=seeded(1))
    first, second, third = network.linears
    expected = third(torch.relu(second(torch.relu(first(x)))))
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(forward_pass(network.layers(), x), expected, rtol=1e-6, atol=1e-7)


def test_initial_weights_are_orthogonal_with_gain_sqrt_2_and_that_of_the_output():
    hidden, output = MLP([8, 4, 2], seeded(), output_gain=0.1).linears
    torch.testing.assert_close(hidden.weight @ hidden.weight.T, 2.0 * torch.eye(4))
    torch.testing.assert_close(output.weight @ output.weight.T, 0.01 * torch.eye(2))
    assert not hidden.bias.any()
    assert not output.bias.any()


def test_keep_function_undoes_a_change_of_statistics():
    normalizer, network = Normalizer(5), MLP([5, 16, 3], seeded())
    x = 2.0 + torch.randn(200, 5, generator=seeded(1))
    normalizer.update(x)
    before = network(normalizer(x)).detach()
    mean, inverse_std = normalizer.mean.clone(), normalizer.inverse_std
    normalizer.update(5.0 * torch.randn(400, 5, generator=seeded(2)) - 3.0)
    assert (network(normalizer(x)) - before).abs().max() > 0.1
    network.keep_function(mean, inverse_std, normalizer)
    torch.testing.assert_close(network(normalizer(x)).detach(), before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("changes", [(False, True), (True, False)], ids=["a feature begins to change", "one is found constant"])
def test_keep_function_knows_features_that_are_left_out(changes):
    def samples(n, changes, seed):
        x = torch.randn(n, 3, generator=seeded(seed))
        x[:, 1] = 2.0 + x[:, 1] if changes else 2.0
        return x

    normalizer, network = Normalizer(3), MLP([3, 16, 2], seeded())
    if not changes[0]:
        normalizer.update(samples(200, False, 1))
    x = samples(200, False, 2)
    before = network(normalizer(x)).detach()
    mean, inverse_std = normalizer.mean.clone(), normalizer.inverse_std
    normalizer.update(samples(400, changes[1], 3))
    network.keep_function(mean, inverse_std, normalizer)
    torch.testing.assert_close(network(normalizer(x)).detach(), before, rtol=0, atol=1e-4)
    assert torch.isfinite(network.linears[0].weight).all()
