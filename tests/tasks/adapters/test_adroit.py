"""Adroit: how things move, what the hand sees and is paid, where things start, and a door that people opened."""

import h5py
import numpy as np
import pytest
from numpy.linalg import norm
from support.harness import real
from support.simulator import bare, play, put, waves

HANDS = ("Pen", "Door", "Hammer", "Relocate")


@pytest.mark.parametrize(
    ("hand", "expected"),
    [
        ("Pen", [-0.01653438, -0.01274765, -0.03981784, -0.02257375, -0.85074974, -0.49531745]),
        ("Hammer", [-6.7235e-04, -8.32448e-03, 1.66788e-05, 7.86649e-04, -1.71259e-05, 2.75763521e-02]),
    ],
)
def test_pen_and_hammer_move_as_in_d4rls_files(hand, expected):
    """Rolling in the hand and lying on the table: cylinders, capsules and boxes touch."""
    env = bare(f"Adroit{hand}-v1")
    end = play(env, np.zeros(env.model.nq), waves(20, env.model.nu))[-1]
    np.testing.assert_allclose(end[-6:], expected, rtol=0, atol=1e-8)


def observed(hand, env):
    """D4RL's observation, from the simulator's arrays."""
    qpos, qvel = env.data.qpos, env.data.qvel
    palm, thing = env.data.site("S_grasp").xpos, env.data.body("Object").xpos if hand != "Door" else None
    if hand == "Pen":
        ends = [env.data.site(f"{pen}_{end}").xpos for pen in ("object", "target") for end in ("top", "bottom")]
        pen, target = (ends[0] - ends[1]) / norm(ends[0] - ends[1]), (ends[2] - ends[3]) / norm(ends[2] - ends[3])
        return [qpos[:24], thing, qvel[24:], pen, target, thing - env.data.site("eps_ball").xpos, pen - target]
    if hand == "Door":
        handle, hinge = env.data.site("S_handle").xpos, env.data.joint("door_hinge").qpos
        latch = env.data.joint("latch").qpos
        return [qpos[1:28], latch, hinge, palm, handle, palm - handle, [1.0 if hinge > 1 else -1.0]]
    if hand == "Hammer":
        (xx, xy, xz), (_, _, yz), (_, _, zz) = env.data.body("Object").xmat.reshape(3, 3)
        turned = np.arctan2(-yz, zz), np.arcsin(xz), np.arctan2(-xy, xx)  # about x, the new y, the new z
        nail, blow = env.data.site("S_target").xpos, np.clip(env.data.sensor("S_nail").data, -1, 1)
        return [qpos[:27], np.clip(qvel[27:], -1, 1), palm, thing, turned, nail, blow]
    target = env.data.site("target").xpos
    return [qpos[:30], palm - thing, palm - target, thing - target]


def paid(hand, env, o):
    """D4RL's reward, from the observation as far as it goes."""
    v = env.data.qvel
    if hand == "Pen":
        away, alike = norm(o[39:42]), o[33:36] @ o[36:39]
        return -away + alike + (away < 0.075) * (10 * (alike > 0.9) + 50 * (alike > 0.95)) - 5 * (o[26] < 0.075)
    if hand == "Door":
        bonus = 2 * (o[28] > 0.2) + 8 * (o[28] > 1) + 10 * (o[28] > 1.35)
        return -0.1 * norm(o[35:38]) - 0.1 * (o[28] - 1.57) ** 2 - 1e-5 * (v**2).sum() + bonus
    if hand == "Hammer":
        head, goal = env.data.site("tool").xpos, env.data.site("nail_goal").xpos
        left = norm(o[42:45] - goal)
        bonus = 2 * (o[38] > 0.04 and head[2] > 0.04) + 25 * (left < 0.02) + 75 * (left < 0.01)
        return -0.1 * norm(o[33:36] - o[36:39]) - norm(head - o[42:45]) - 10 * left - 0.01 * norm(v) + bonus
    up, left = env.data.body("Object").xpos[2] > 0.04, norm(o[36:39])
    lifted = up * (1 - 0.5 * norm(o[33:36]) - 0.5 * left)
    return -0.1 * norm(o[30:33]) + lifted + 10 * (left < 0.1) + 20 * (left < 0.05)


@pytest.mark.parametrize("hand", HANDS)
def test_a_hands_observation_and_reward_are_d4rls(hand):
    env, rng = bare(f"Adroit{hand}-v1"), np.random.default_rng(0)
    rewards = []
    for i in range(40):
        env.reset()
        env.set_state(rng.uniform(-0.3, 0.3, env.model.nq), rng.uniform(-2, 2, env.model.nv))
        if hand == "Door":
            put(env, door_hinge=0.04 * i)
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, env.model.nu))
        np.testing.assert_allclose(observation, np.concatenate(observed(hand, env)), rtol=0, atol=1e-12)
        assert reward == pytest.approx(paid(hand, env, observation), abs=1e-12)
        assert terminated is (hand == "Pen" and bool(observation[26] < 0.075))
        assert not truncated
        if hand == "Door":
            assert info["success"] == (observation[28] > 1.35)
        rewards.append(reward)
    assert len(np.unique(rewards)) == 40


@pytest.mark.parametrize(("short", "bonus"), [(0.022, 0), (0.018, 25), (0.012, 25), (0.008, 100)])
def test_the_nail_pays_by_its_depth(short, bonus):
    env = bare("AdroitHammer-v1")
    put(env, nail_dir=0.0)
    depth = norm(env.data.site("S_target").xpos - env.data.site("nail_goal").xpos)
    put(env, nail_dir=depth - short)
    palm, hammer = env.data.site("S_grasp").xpos, env.data.body("Object").xpos
    head, nail = env.data.site("tool").xpos, env.data.site("S_target").xpos
    left = norm(nail - env.data.site("nail_goal").xpos)
    assert left == pytest.approx(short, abs=5e-4)
    assert env.reward() == pytest.approx(bonus - 0.1 * norm(palm - hammer) - norm(head - nail) - 10 * left)
    assert env.step(np.zeros(26))[4]["success"] == (short < 0.01)


@pytest.mark.parametrize(("away", "bonus"), [(0.2, 0), (0.08, 10), (0.03, 30)])
def test_the_ball_pays_near_its_target(away, bonus):
    env = bare("AdroitRelocate-v1")
    env.model.body_pos[env.model.body("Object").id] = 0
    target = env.model.site_pos[env.model.site("target").id]
    put(env, OBJTx=target[0] - away, OBJTy=target[1], OBJTz=target[2])
    palm = env.data.site("S_grasp").xpos
    ball = target - [away, 0, 0]
    expected = bonus + 1 - 0.5 * norm(palm - target) - 0.5 * away - 0.1 * norm(palm - ball)
    assert env.reward() == pytest.approx(expected)
    put(env, OBJTx=0, OBJTy=0, OBJTz=0.035)
    assert env.reward() == pytest.approx(-0.1 * norm(palm - [0, 0, 0.035]))


def test_a_dropped_pen_costs_5_and_is_the_end():
    env = bare("AdroitPen-v1")
    assert env.step(np.zeros(24))[2] is False
    put(env, OBJTx=0.15)  # the pen lies on its side, and this is down: it starts at z = 0.25
    assert not env.ended()
    above = env.reward()
    put(env, OBJTx=0.2)
    assert env.reward() == pytest.approx(above - 0.05 - 5, abs=1e-6)
    assert env.step(np.zeros(24))[2] is True


def test_a_pen_like_the_green_one_pays_60():
    env = bare("AdroitPen-v1")
    env.model.body_quat[env.model.body("target").id] = env.model.body("Object").quat
    put(env)
    assert env.reward() == pytest.approx(61, abs=1e-9)
    for angle, bonus in ((0.31, 60), (0.33, 10), (0.44, 10), (0.46, 0)):  # cos: 0.952, 0.946, 0.905, 0.896
        put(env, OBJRx=angle)
        assert env.reward() == pytest.approx(np.cos(angle) + bonus, abs=1e-9)
    for away, bonus in ((0.074, 60), (0.076, 0)):
        put(env, OBJRx=0, OBJTx=away)
        assert env.reward() == pytest.approx(1 - away + bonus, abs=1e-9)


def test_the_hands_things_start_where_d4rls_do():
    env = {hand: bare(f"Adroit{hand}-v1") for hand in HANDS}
    drawn = {hand: [] for hand in HANDS}
    model = {hand: env[hand].model for hand in HANDS}
    for _ in range(200):
        for hand in HANDS:
            env[hand].reset()
            np.testing.assert_array_equal([*env[hand].data.qpos, *env[hand].data.qvel], 0)
        axis = env["Pen"].axis("target")
        drawn["Pen"].append([np.arctan2(-axis[1], axis[2]), np.arcsin(axis[0])])
        drawn["Door"].append(model["Door"].body("frame").pos.copy())
        drawn["Hammer"].append(model["Hammer"].body("nail_board").pos[2:].copy())
        ball, target = model["Relocate"].body("Object").pos[:2], model["Relocate"].site("target").pos
        drawn["Relocate"].append([*ball, *target])
    for hand, low, high in (
        ("Pen", [-1, -1], [1, 1]),
        ("Door", [-0.3, 0.25, 0.252], [-0.2, 0.35, 0.35]),
        ("Hammer", [0.1], [0.25]),
        ("Relocate", [-0.15, -0.15, -0.2, -0.2, 0.15], [0.15, 0.3, 0.2, 0.2, 0.35]),
    ):
        low, high, found = np.array(low), np.array(high), np.array(drawn[hand])
        np.testing.assert_allclose(found.min(0), low, atol=0.05 * (high - low).max())
        np.testing.assert_allclose(found.max(0), high, atol=0.05 * (high - low).max())
        assert ((low <= found) & (found <= high)).all()


@pytest.fixture(scope="module")
def demonstrations():
    """People who opened the door: observations, next observations (N, 39), rewards, and what is known of a row."""
    with h5py.File(real("adroit-door-human-dapg")) as file:
        rows = {key: file[key][:].astype(float) for key in ("observations", "next_observations", "rewards")}
        return rows | {"known": file["infos/next_observation_valid"][:], "ends": file["timeouts"][:]}


def restore(env, row, qvel):
    """Put the door's simulator where it was observed.

    The row has every joint but the first, which moves the palm along y; the frame stands where the handle is
    then right.  Not in it are the velocities, and the positions of the palm's x and z to better than its way of a
    substep, before which they were taken.
    """
    frame = env.model.body("frame")
    qpos = np.array([0, *row[:27], row[28], row[27]])
    env.set_state(qpos, np.zeros(30))
    frame.pos += row[32:35] - env.data.site("S_handle").xpos
    qpos[0] = (row[30] - env.data.site("S_grasp").xpos[1]) / env.data.joint(0).xaxis[1]
    env.set_state(qpos, qvel)


def test_the_door_is_observed_as_it_was_recorded(demonstrations):
    env = bare("AdroitDoor-v1")
    starts = np.flatnonzero(np.append(True, demonstrations["ends"][:-1]))
    assert len(starts) == 25
    for i in (*starts, *range(0, 6729, 50)):
        row = demonstrations["observations"][i]
        restore(env, row, np.zeros(30))
        observation = np.concatenate(observed("Door", env))
        # At rest nothing has moved in the last substep, and the file is float32.
        np.testing.assert_allclose(observation, row, rtol=0, atol=2e-7 if i in starts else 0.01)
        determined = np.ones(39, bool)
        determined[[29, 31, 35, 37]] = False
        np.testing.assert_allclose(observation[determined], row[determined], rtol=0, atol=2e-7)


def test_the_door_pays_what_was_recorded(demonstrations):
    """With velocities from the rows around; they are what the rest of the error is of."""
    env, o, o2 = bare("AdroitDoor-v1"), demonstrations["observations"], demonstrations["next_observations"]
    known = demonstrations["known"]
    rows = np.flatnonzero(known[:-1] & known[1:])[::6]
    off, hinges = [], []
    for i in rows:
        ahead = (o2[i + 1] - o[i]) / 0.02  # over two steps of 0.01 s
        restore(env, o2[i], np.array([ahead[30], *ahead[:27], ahead[28], ahead[27]]))
        off.append(env.reward() - demonstrations["rewards"][i])
        hinges.append(env.data.joint("door_hinge").qpos[0])
    off = np.abs(off)
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.99) < 2e-3
    assert off.max() < 0.02
    assert min(hinges) < 0.2
    assert max(hinges) > 1.35
    # The palm's term with the wrong sign would be off by twice 0.1 times its distance.
    apart = norm(o2[rows, 35:38], axis=1)
    assert np.median(0.2 * apart) > 50 * np.median(off)
