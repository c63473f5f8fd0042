"""Random numbers by counter: known answers, streams that do not depend on each other, distributions."""

import numpy as np
import pytest
import torch

from qi_ext.utils.philox import LOW_32, Streams, integers, normal, philox, uniform

# Of Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, answer.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LOW_32,) * 4, (LOW_32, LOW_32), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_words_are_those_that_its_authors_publish(counter, key, answer):
    assert philox(torch.tensor(counter), key).tolist() == list(answer)


def test_an_envs_words_depend_on_its_number_and_the_time_alone():
    few, many = Streams((1, 2), 3, 10, "cpu"), Streams((1, 2), 40, 10, "cpu")
    many.draw(7)
    late = (5 << 32) + 6
    for time in (0, 1, late):
        assert torch.equal(few.draw(time), many.draw(time)[:, :3])
    rows = [tuple(column.tolist()) for time in (0, 1, 6, late) for column in many.draw(time).T]
    assert len(set(rows)) == len(rows) == 160
    assert not torch.equal(few.draw(0), Streams((2, 1), 3, 10, "cpu").draw(0))


def test_numbers_are_of_their_distributions_and_never_0_or_1():
    words = Streams((3, 4), 20_000, 8, "cpu").draw(0)
    drawn = uniform(words)
    assert 0.0 < uniform(torch.tensor(0)) < drawn.min() < drawn.max() <= uniform(torch.tensor(LOW_32)) < 1.0
    np.testing.assert_allclose(np.quantile(drawn.numpy(), [0.1, 0.5, 0.9], axis=1).T, [[0.1, 0.5, 0.9]] * 8, atol=0.015)
    drawn = normal(words)
    np.testing.assert_allclose(np.corrcoef(drawn.numpy()), np.eye(8), atol=0.03)
    np.testing.assert_allclose(drawn.mean(dim=1), 0.0, atol=0.03)
    np.testing.assert_allclose(drawn.std(dim=1), 1.0, atol=0.03)
    assert drawn.isfinite().all()


def test_whole_numbers_are_below_their_bound_and_all_as_frequent():
    words = Streams((3, 4), 30_000, 1, "cpu").draw(0)[0]
    assert integers(torch.tensor([0, LOW_32]), 7).tolist() == [0, 6]
    assert integers(torch.tensor([LOW_32, LOW_32]), torch.tensor([1, 2**31 - 1])).tolist() == [0, 2**31 - 2]
    np.testing.assert_allclose(np.bincount(integers(words, 3)) / 30_000, 1 / 3, atol=0.01)
