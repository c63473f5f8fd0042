"""PPO in one file, in the manner of CleanRL, on the vector environment: python examples/cleanrl_ppo.py --steps 2000000

Proximal Policy Optimization Algorithms, Schulman et al. 2017; advantages as in GAE, Schulman et al. 2016.
"""

import argparse
import time
from contextlib import closing

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn

GAMMA, LAMBDA, CLIP, EPOCHS, MINIBATCHES, LEARNING_RATE = 0.98, 0.95, 0.2, 5, 8, 1e-4


def network(n_outputs):
    return nn.Sequential(nn.Linear(37, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, n_outputs))


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor, self.critic = network(12), network(1)
        self.log_std = nn.Parameter(torch.full((12,), -1.5))

    def policy(self, observations):
        return torch.distributions.Normal(self.actor(observations), self.log_std.exp())

    def value(self, observations):
        return self.critic(observations).squeeze(-1)


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float32)


def collect(envs, agent, observations, n_steps):
    """Step each env `n_steps` times; returns the last observations and (n_steps, N, ...) of all that is learned from."""
    columns = []
    for _ in range(n_steps):
        policy, values = agent.policy(tensor(observations)), agent.value(tensor(observations))
        actions = policy.sample()
        following, rewards, terminated, truncated, infos = envs.step(actions.numpy())
        ended = terminated | truncated
        # Where an episode ended, what followed its last step is its own last observation, not the next one's first.
        after = following.copy()
        for env in np.flatnonzero(ended):
            after[env] = infos["final_obs"][env]
        next_values = agent.value(tensor(after)) * tensor(~terminated)
        log_probability = policy.log_prob(actions).sum(-1)
        columns.append((tensor(observations), actions, log_probability, values, tensor(rewards), next_values, tensor(ended)))
        observations = following
    return observations, [torch.stack(column) for column in zip(*columns, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000, help="env steps, of all envs together [2000000]")
    parser.add_argument("--envs", type=int, default=32, help="[32]")
    parser.add_argument("--task", default="hard", help="simple or hard [hard]")
    parser.add_argument("--n_steps", type=int, default=128, help="steps of each env between updates [128]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    settings = {"task": options.task, "autoreset_mode": AutoresetMode.SAME_STEP}
    envs = RecordEpisodeStatistics(gymnasium.make_vec("qi_ext.tasks:QuadrupedDirection-v0", options.envs, **settings))
    with closing(envs):
        observations, _ = envs.reset(seed=options.seed)
        begin, done = time.perf_counter(), 0
        while done < options.steps:
            with torch.no_grad():
                observations, batch = collect(envs, agent, observations, options.n_steps)
                seen, actions, old, values, rewards, next_values, ended = batch
                advantages, following = torch.zeros_like(rewards), torch.zeros(options.envs)
                for t in reversed(range(options.n_steps)):
                    # A_t = r_t + gamma V(s_t+1) - V(s_t) + gamma lambda A_t+1
                    following = rewards[t] + GAMMA * next_values[t] - values[t] + GAMMA * LAMBDA * (1.0 - ended[t]) * following
                    advantages[t] = following
                returns = advantages + values
            flat = [array.flatten(0, 1) for array in (seen, actions, old, advantages, returns)]
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(flat[0])).chunk(MINIBATCHES):
                    s, a, old_log, advantage, value = (array[rows] for array in flat)
                    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                    ratio = (agent.policy(s).log_prob(a).sum(-1) - old_log).exp()
                    clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP)
                    loss = -torch.min(ratio * advantage, clipped * advantage).mean()
                    loss = loss + 0.5 * (agent.value(s) - value).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                    optimizer.step()
            done += options.envs * options.n_steps
            mean = np.mean(envs.return_queue) if envs.return_queue else float("nan")
            print(f"{done:,} steps  {done / (time.perf_counter() - begin):.0f} steps/s  return {mean:.1f}", flush=True)
        torch.save(agent.state_dict(), "cleanrl_ppo.pt")


if __name__ == "__main__":
    main()
