"""numpy's random generators as arrays, so that they travel and are stored as plain data."""

import numpy as np

_WORD = (1 << 64) - 1


def pack_generator(generator):
    """Return the state of a PCG64 generator, (6,), uint64: state and increment (high, low), and its half-used word."""
    state = generator.bit_generator.state
    words = []
    for number in (state["state"]["state"], state["state"]["inc"]):
        words += [number >> 64, number & _WORD]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def unpack_generator(words):
    """Return the generator whose state `pack_generator` gave. Raises ValueError for words that are of none."""
    high, low, increment_high, increment_low, has_uint32, uinteger = (int(word) for word in words)
    if has_uint32 not in (0, 1) or uinteger >> 32 or not increment_low & 1:
        raise ValueError("is the state of no generator")
    bits = np.random.PCG64(0)
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)
