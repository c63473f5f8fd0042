import numpy as np
import pytest
import torch

from qi_ext.learning.batch import COLUMNS, Batch


@pytest.fixture
def columns():
    """Three envs of four steps: numbers that say where they are from."""
    places = 10.0 * np.arange(3)[:, None] + np.arange(4)
    observations = places[..., None] + np.arange(37) / 100.0
    actions = (-places[..., None] - np.arange(12) / 100.0).astype(np.float32)
    absorbing, last = np.zeros((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)
    absorbing[1, 1] = last[1, 1] = True
    return [observations, actions, 1000.0 + places, observations + 1.0, absorbing, last]


def test_rows_go_env_after_env(columns):
    batch = Batch.upload(*columns, "cpu")
    assert len(batch) == 12
    for name, column in zip(COLUMNS[:4], columns, strict=False):
        expected = torch.from_numpy(column.reshape(12, *column.shape[2:])).float()
        assert torch.equal(getattr(batch, name), expected), name


def test_flags_keep_env_and_time_and_envs_end_as_last(columns):
    batch = Batch.upload(*columns, "cpu")
    assert batch.absorbing.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert batch.last.tolist() == [[0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_cuts_are_the_rows_that_nothing_follows(columns):
    batch = Batch.upload(*columns, "cpu")
    assert batch.cuts.tolist() == [3, 5, 7, 11]
    assert batch.cuts.dtype == torch.int64


def test_a_list_of_transitions_is_one_env(columns):
    flat = [column.reshape(12, *column.shape[2:]) for column in columns]
    batch = Batch.upload(*flat, "cpu")
    assert batch.last.tolist() == [0] * 5 + [1] + [0] * 5 + [1]
    assert batch.cuts.tolist() == [5, 11]
    assert torch.equal(batch.observations, Batch.upload(*columns, "cpu").observations)


def test_everything_is_contiguous_and_float32(columns):
    batch = Batch.upload(*columns, "cpu")
    for name in COLUMNS:
        tensor = getattr(batch, name)
        assert tensor.is_contiguous() and tensor.dtype == torch.float32, name


def test_inputs_are_left_alone_and_not_kept(columns):
    before = [column.copy() for column in columns]
    batch = Batch.upload(*columns, "cpu")
    for name in COLUMNS:
        getattr(batch, name).fill_(7.0)
    batch.cuts.fill_(7)
    for column, expected in zip(columns, before, strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("name", COLUMNS[:4])
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_column(columns, name, bad):
    columns[COLUMNS.index(name)].flat[5] = bad
    with pytest.raises(FloatingPointError, match=f"training: {name} are not finite; nothing was learned from them"):
        Batch.upload(*columns, "cpu")
