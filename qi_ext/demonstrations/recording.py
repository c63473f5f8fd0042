"""Recordings of the trot expert: segments of four kinds, each of which replays exactly from its start state."""

import mujoco
import numpy as np

from qi_ext.demonstrations.dataset import Demonstrations
from qi_ext.demonstrations.mending import RANGE_TOLERANCE, range_excess
from qi_ext.demonstrations.packing import BITS
from qi_ext.demonstrations.trot import Gait, TrotController, standing_qpos, walking_state
from qi_ext.robot import a1
from qi_ext.robot.commands import Command, key_among, label_among
from qi_ext.robot.courses import SPEEDS, Course, constant_command
from qi_ext.robot.frames import velocity_in_command_frame

# Kinds of a round of segments: most are nominal, and every kind occurs.
PATTERN = ("nominal", "noise", "nominal", "start", "nominal", "noise", "nominal", "push", "nominal", "noise", "nominal")
SEGMENT_SECONDS = 2.5
SETTLING_SECONDS = 4.0
COURSE_SECONDS = 4.0  # of a segment along a course
PUSH_SECONDS = 0.1
PUSH_EVERY_SECONDS = 1.25
MAX_PUSH = 60.0  # N
NOISE_STD = (0.03, 0.07)  # range that a segment draws its own from, in units of the action
ATTEMPTS = 20  # to record a segment without a fall

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
SOURCE = "synthetic: {} expert in simulation"


def segment_plan(seconds):
    """Return the kinds of the segments of one direction, a list, and their rows each, for about `seconds` of motion."""
    rounds = max(1, round(seconds / (SEGMENT_SECONDS * len(PATTERN))))
    rows = round(seconds / (rounds * len(PATTERN)) / a1.CONTROL_DT)
    return list(PATTERN) * rounds, rows


def record(environment, seconds, seed, progress=lambda done, total: None, gait=None):
    """Record the trot expert in the task of `environment`, a `QuadrupedDirection`; return `Demonstrations` and falls.

    seconds: of each command, or, where the task has courses, of all segments together, each along a course of its own. gait: a
    `Gait`; None for the task's trot. A segment that ends in a fall, or leaves the joints' range, is recorded anew; falls,
    {label of the command, or "drawn": n}, counts them. A segment depends on the seed, its command and its place alone.
    progress(done, total) is called after each segment. Raises RuntimeError where no attempt at a segment is as it must be.
    """
    plan, rows = _plan(environment.commands, seconds, seed)
    segments, falls = [], {}
    for label, kind, command, sequence in plan:
        falls.setdefault(label, 0)
        for attempt in sequence.spawn(ATTEMPTS):
            generator = np.random.default_rng(attempt)
            told = command or Command(generator.uniform(0.0, 360.0), generator.uniform(*SPEEDS))
            segment = record_segment(environment, told, kind, rows, generator, gait)
            if segment is not None:
                break
            falls[label] += 1
        else:
            raise RuntimeError(
                f"the expert fell, or left the joints' range, {ATTEMPTS} times in {kind} segments, command {label}"
            )
        segments.append((told, kind, segment))
        progress(len(segments), len(plan))
    columns = {name: np.concatenate([segment[name] for *_, segment in segments]) for name in segments[0][2]}
    return (
        Demonstrations(
            bounds=np.arange(len(plan) + 1, dtype=np.int64) * rows,
            commands=tuple(command for command, *_ in segments),
            kind=tuple(kind for _, kind, _ in segments),
            source=SOURCE.format("trot" if gait is None else gait.name),
            synthetic=True,
            **columns,
        ),
        falls,
    )


def size(commands, seconds):
    """Return how many segments `record` makes in a task of these commands, and the rows of each."""
    plan, rows = _plan(commands, seconds, 0)
    return len(plan), rows


def _plan(commands, seconds, seed):
    """Return (label, kind, `Command` or None where it is drawn, `SeedSequence`) of each segment, and the rows of all."""
    if any(isinstance(command, Course) for command in commands):
        n = max(1, round(seconds / COURSE_SECONDS))
        kinds = (PATTERN[i % len(PATTERN)] for i in range(n))
        plan = [("drawn", kind, None, np.random.SeedSequence([seed, i])) for i, kind in enumerate(kinds)]
        return plan, round(COURSE_SECONDS / a1.CONTROL_DT)
    kinds, rows = segment_plan(seconds)
    keyed = [(command, label_among(command, commands), key_among(command, commands)) for command in commands]
    return [
        (label, kind, command, np.random.SeedSequence([seed, key, i]))
        for command, label, key in keyed
        for i, kind in enumerate(kinds)
    ], rows


def record_segment(environment, command, kind, rows, generator, gait=None):
    """Record one segment: a dict of arrays of `rows` rows, and its initial_state, (1, k).

    None where it ended in a fall, or joints went further past their range than `check` accepts, because MuJoCo's limits yield.
    """
    task = environment.task
    controller = TrotController(environment.model, command.direction, command.speed, gait=gait or Gait(**task.expert_gait))
    observation = _begin(environment, command, kind, controller, generator)
    if observation is None:
        return None
    data = environment.data
    changes = task.along_drawn_course(environment.command_array)
    if changes is not None:
        environment.seed(int(generator.integers(2**63)))
        environment.command_array = changes
    initial_state = np.empty(mujoco.mj_stateSize(environment.model, _STATE))
    mujoco.mj_getState(environment.model, data, initial_state, _STATE)
    steadiness = controller.gait.steadiness
    forces = _pushes(rows, generator, steadiness * MAX_PUSH) if kind == "push" else np.zeros((rows, 3))
    noise = np.zeros((rows, a1.N_ACTIONS))
    if kind == "noise":
        noise = steadiness * generator.uniform(*NOISE_STD) * generator.standard_normal(noise.shape)
    segment = {name: [] for name in ("states", "actions", "executed_actions", "headings")}
    for row in range(rows):
        steering = task.steering(environment.command_array)
        if changes is not None:
            controller.steer(*steering)
        # Rounded before execution, so that the file replays exactly.
        action = _rounded(controller.action(data), BITS["actions"])
        executed = _rounded(np.clip(action + noise[row], -1.0, 1.0), BITS["actions"])
        heading = _rounded(np.array(steering[2:]), BITS["headings"])
        columns = {"states": observation, "actions": action, "executed_actions": executed, "headings": heading}
        for name, value in columns.items():
            segment[name].append(value)
        observation, absorbing = step_with_force(environment, executed, forces[row])
        if absorbing:
            return None
    if changes is None:
        del segment["headings"]
    segment["states"] = _rounded(np.array(segment["states"]), BITS["states"])
    if range_excess(segment["states"]).max() > RANGE_TOLERANCE:
        return None
    return {name: np.array(values, dtype=np.float64) for name, values in segment.items()} | {
        "external_force": forces,
        "initial_state": initial_state[None],
    }


def step_with_force(environment, action, force):
    """Step with a force, (3,) N in the world frame, on the trunk; return the observation and absorbing."""
    trunk = environment.model.body("trunk").id
    environment.data.xfrc_applied[trunk, :3] = force
    observation, _, absorbing, _ = environment.step(action)
    environment.data.xfrc_applied[trunk, :3] = 0.0
    return observation, absorbing


def replay(environment, demonstrations, index):
    """Execute a segment's actions open loop from its start state; return the observations, (rows, 37)."""
    rows = demonstrations.segment(index)
    environment.reset(obs=demonstrations.states[rows][0])
    mujoco.mj_setState(environment.model, environment.data, demonstrations.initial_state[index], _STATE)
    observations = [demonstrations.states[rows][0]]
    executed = demonstrations.executed_actions[rows][:-1]
    for row, (action, force) in enumerate(zip(executed, demonstrations.external_force[rows], strict=False), rows.start + 1):
        if demonstrations.headings is not None:
            cosine, sine, speed = demonstrations.states[row, a1.GOAL]
            environment.command_array = constant_command(speed, np.arctan2(sine, cosine), *demonstrations.headings[row])
        observations.append(step_with_force(environment, action, force)[0])
    return np.array(observations)


def _begin(environment, command, kind, controller, generator):
    """Put the robot into the segment's first state, with the controller running; return the observation, None after a fall."""
    gait, phase = controller.gait, None
    if gait.from_stand:
        qpos, qvel = standing_qpos(environment.model, gait), np.zeros(len(a1.JOINTS))
    else:
        phase = generator.uniform()
        qpos, qvel = walking_state(environment.model, gait, controller.velocity, phase)
    if kind == "start":
        qpos[3:6] += generator.uniform(-1.0, 1.0, 3) * (0.06, 0.04, 0.05)
        qpos[6:] += generator.uniform(-0.1, 0.1, a1.N_ACTIONS)
        qvel[:2] += generator.uniform(-0.3, 0.3, 2)
        qvel[6:] += generator.uniform(-0.5, 0.5, a1.N_ACTIONS)
    observation = environment.reset(obs=np.concatenate([qpos[2:], qvel, command.features]))
    controller.reset(environment.data, phase=generator.uniform() if phase is None else phase)
    if kind != "start":
        for _ in range(round(SETTLING_SECONDS / a1.CONTROL_DT)):
            observation, _, absorbing, _ = environment.step(controller.action(environment.data))
            if absorbing:
                return None
    return observation


def _rounded(values, bits):
    return np.round(values * 2.0**bits) / 2.0**bits


def _pushes(rows, generator, largest):
    """Forces on the trunk, (rows, 3) N: horizontal pushes in random directions, of at most `largest`."""
    forces = np.zeros((rows, 3))
    every, length = round(PUSH_EVERY_SECONDS / a1.CONTROL_DT), round(PUSH_SECONDS / a1.CONTROL_DT)
    for begin in range(0, rows, every):
        first = begin + generator.integers(max(1, every // 4))
        angle, size = generator.uniform(0.0, 2.0 * np.pi), generator.uniform(0.5, 1.0) * largest
        forces[first : first + length, :2] = _rounded(size * np.array([np.cos(angle), np.sin(angle)]), BITS["actions"])
    return forces


def summary(demonstrations):
    """Return figures of the nominal segments of each command, or of all drawn courses, a list of dicts.

    Keys: command, as `record` labels its falls; speed, along the command, m/s; reward, mean of a step; roll, pitch, yaw,
    largest magnitudes in rad; saturation, the share of actions at the limit.
    """
    different = set(demonstrations.commands)
    names = {each: label_among(each, different) if demonstrations.headings is None else "drawn" for each in different}
    labels = [names[command] for command in demonstrations.commands]
    rows = []
    for label in dict.fromkeys(labels):
        kinds = zip(labels, demonstrations.kind, strict=True)
        part = demonstrations.select(i for i, each in enumerate(kinds) if each == (label, "nominal"))
        states = part.states
        rows.append(
            {
                "command": label,
                "speed": float(velocity_in_command_frame(states)[0].mean()),
                "reward": float(a1.environment_reward(states).mean()),
                "roll": float(np.abs(states[:, a1.ROLL]).max()),
                "pitch": float(np.abs(states[:, a1.PITCH]).max()),
                "yaw": float(np.abs(states[:, a1.YAW]).max()),
                "saturation": float(np.mean(np.abs(part.executed_actions) >= 1.0)),
            }
        )
    return rows
