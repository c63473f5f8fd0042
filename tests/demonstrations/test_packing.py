import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qi_ext.demonstrations import formats
from qi_ext.demonstrations.packing import pack, unpack
from qi_ext.utils.errors import UserError

BITS = 12
LARGEST = 2**31 - 1
whole = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, min_side=0), elements=st.integers(-LARGEST, LARGEST))


def bits_of(values):
    return np.ascontiguousarray(values, dtype=np.float64).view(np.int64)


@given(whole, st.booleans())
def test_what_has_few_enough_digits_is_unpacked_to_the_last_bit(whole, negative_zeros):
    values = whole / 2.0**BITS
    values[values == 0.0] = -0.0 if negative_zeros else 0.0
    np.testing.assert_array_equal(bits_of(unpack(pack(values, BITS), BITS)), bits_of(values))


def test_other_numbers_are_rounded_and_too_large_ones_refused():
    values = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(unpack(pack(values, BITS), BITS), values, rtol=0.0, atol=2.0 ** -(BITS + 1))
    with pytest.raises(ValueError, match="below 524288"):
        pack(np.full((1, 1), 2.0**19), BITS)
    with pytest.raises(ValueError, match="finite"):
        pack(np.full((1, 1), np.nan), BITS)


def packed_file(path, demonstrations, **changed):
    formats.write(path, demonstrations, packed=True)
    with np.load(path) as archive:
        held = {key: archive[key] for key in archive.files}
    np.savez(path, **{key: array for key, array in (held | changed).items() if array is not None})
    return path


def test_a_packed_file_holds_what_the_plain_one_does(walking, tmp_path):
    demonstrations = walking((0.0, 90.0))
    formats.write(tmp_path / "plain.npz", demonstrations)
    plain, packed = formats.read(tmp_path / "plain.npz"), formats.read(packed_file(tmp_path / "packed.npz", demonstrations))
    for name in ("states", "actions", "executed_actions", "external_force", "initial_state", "bounds"):
        np.testing.assert_allclose(getattr(packed, name), getattr(plain, name), rtol=0.0, atol=2.0**-BITS, err_msg=name)
    assert (packed.commands, packed.kind) == (plain.commands, plain.kind)


@pytest.mark.parametrize(
    ("key", "wrong", "said"),
    [
        ("packed_states", np.zeros((4, 37, 20)), "packed_states must be .* bytes"),
        ("packed_states", np.zeros((3, 37, 20), dtype=np.uint8), "packed_states must be"),
        ("packed_states", np.uint8(7), "packed_states must be"),
        ("packed_states", np.zeros((4, 36, 20), dtype=np.uint8), "states must be"),
        ("packed_executed_noise", np.zeros((4, 12, 3), dtype=np.uint8), "needs packed_actions of its shape"),
        ("packed_actions", None, "needs packed_actions"),
        ("packed_executed_noise", np.ones((4, 12, 20), dtype=np.uint8), "executed_actions reach"),
    ],
)
def test_a_packed_array_of_another_form_is_refused(walking, tmp_path, key, wrong, said):
    with pytest.raises(UserError, match=said):
        formats.read(packed_file(tmp_path / "bad.npz", walking((0.0, 0.0), rows=10), **{key: wrong}))
