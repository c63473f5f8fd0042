"""Random numbers by counter, in torch: each word is a function of a key and a counter, on any device and in any order.

Philox-4x32-10 of Salmon et al. 2011 (Parallel random numbers: as easy as 1, 2, 3). Words are whole numbers below 2^32, held in
int64, because torch computes little with unsigned numbers.
"""

import math
from typing import Any

import torch

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW_32 = 0xFFFFFFFF


def philox(counter: torch.Tensor, key: tuple[int, int]) -> torch.Tensor:
    """Return four random words for each counter of four words: int64, (4, ...), of int64, (4, ...)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # Products wrap around 2^64; their halves are right all the same.
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32 & LOW_32) ^ c1 ^ k0, second & LOW_32, (first >> 32 & LOW_32) ^ c3 ^ k1, first & LOW_32
        k0, k1 = k0 + WEYL[0] & LOW_32, k1 + WEYL[1] & LOW_32
    return torch.stack([c0, c1, c2, c3])


class Streams:
    """A stream of random words for each of N envs, of which a row is drawn at each time, whatever was drawn before."""

    def __init__(self, key: tuple[int, int], n_envs: int, n_words: int, device: str | torch.device) -> None:
        """key: two words, the same for all envs. n_words: of a row."""
        self._key, self._n_words = key, n_words
        place, env = torch.meshgrid(torch.arange(-(-n_words // 4)), torch.arange(n_envs), indexing="ij")
        self._counter = torch.stack([place, env, torch.zeros_like(env), torch.zeros_like(env)]).to(device)

    def draw(self, time: int) -> torch.Tensor:
        """Return the words of step `time`, which is below 2^63: (n_words, N), int64."""
        self._counter[2].fill_(time & LOW_32)
        self._counter[3].fill_(time >> 32)
        return philox(self._counter, self._key).transpose(0, 1).flatten(0, 1)[: self._n_words]


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Return numbers in (0, 1), float32, of as many words."""
    # As many bits as float32 has: more would be rounded to 1.
    return ((words >> 9).float() + 0.5) * 2.0**-23


def normal(words: torch.Tensor) -> torch.Tensor:
    """Return standard normal numbers, float32, (2 n, ...), of as many words (Box and Muller 1958)."""
    first, second = uniform(words).chunk(2)
    radius, angle = torch.sqrt(-2.0 * torch.log(first)), 2.0 * math.pi * second
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)])


def integers(words: torch.Tensor, n: Any) -> torch.Tensor:
    """Return whole numbers from 0 to below n, int64. n: below 2^31, one or a tensor of as many."""
    return words * n >> 32
