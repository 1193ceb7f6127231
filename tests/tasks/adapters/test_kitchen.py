"""Kitchen: what the arm sees, where it starts, how it is controlled, and what it is paid for."""

import numpy as np
import pytest
from numpy.linalg import norm
from support.simulator import bare, put

SLIDER, BURNER = "KitchenMicrowaveKettleLightSlider-v0", "KitchenMicrowaveKettleBottomBurnerLight-v0"
ARM = [f"robot:panda0_joint{i}" for i in range(1, 8)] + [f"robot:panda0_finger_joint{i}" for i in (1, 2)]
BURNERS = ["knob_Joint_1", "bottom_right_burner", "knob_Joint_2", "bottom_left_burner"]
BURNERS += ["knob_Joint_3", "top_right_burner", "knob_Joint_4", "top_left_burner"]
OTHERS = ["light_switch", "light_joint", "slide_cabinet", "left_hinge_cabinet", "right_hinge_cabinet", "microwave"]
AT_GOAL = {
    "microwave": {"microwave": -0.75},
    "kettle": {"kettle": (-0.23, 0.75, 1.62, 0.99, 0, 0, -0.06)},
    "bottom burner": {"knob_Joint_2": -0.88, "bottom_left_burner": -0.01},
    "light switch": {"light_switch": -0.69, "light_joint": -0.05},
    "slide cabinet": {"slide_cabinet": 0.37},
}


def test_the_kitchens_observation_is_its_position_with_noise_and_the_goals():
    env = bare(SLIDER)
    positions, readings = [], []
    for action in np.random.default_rng(0).uniform(-1, 1, (200, 9)):
        reading, *_ = env.step(action)
        positions.append(np.concatenate([env.data.joint(name).qpos for name in (*ARM, *BURNERS, *OTHERS, "kettle")]))
        readings.append(reading)
    noise = np.array(readings)[:, :30] - positions
    fine, coarse = [0.005] * 3, [0.1] * 3
    amplitude = 0.1 * np.array([*coarse * 3, *fine[:2], *[0.0005] * 6, *fine, *coarse, *fine, *coarse, fine[0]])
    assert (np.abs(noise) <= amplitude * (1 + 1e-9)).all()
    assert (np.abs(noise).max(0) > 0.95 * amplitude).all()
    np.testing.assert_allclose(noise.std(0), amplitude / np.sqrt(3), rtol=0.2)
    assert np.abs(np.corrcoef(noise.T) - np.eye(30)).max() < 0.35  # 5 sigma: one draw for each
    goals = np.zeros(30)
    goals[[17, 18, 19, 22]] = -0.69, -0.05, 0.37, -0.75
    goals[23:] = -0.23, 0.75, 1.62, 0.99, 0, 0, -0.06
    np.testing.assert_array_equal(readings[-1][30:], goals)
    goals[[11, 12, 19]] = -0.88, -0.01, 0
    np.testing.assert_array_equal(bare(BURNER).reset()[0][30:], goals)


def test_the_kitchen_starts_where_d4rls_does():
    """With the kettle's orientation of length 1, as the MuJoCo of D4RL made it."""
    env = bare(SLIDER)
    arm = [0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394]
    arm += [0.0479267505, 0.0371350919]
    np.testing.assert_array_equal(env.data.qpos[:9], arm)
    kettle = np.array([1.00618764, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04])
    np.testing.assert_allclose(env.data.qpos[26:], kettle / norm(kettle), rtol=1e-15)
    np.testing.assert_array_equal(env.data.qvel, 0)
    assert env.data.time == 0


def test_the_kitchens_controller_starts_from_the_noisy_reading():
    """For 0.08 s with twice the action, in rad/s, and within the joints' bounds."""
    env = bare(SLIDER)
    low = [-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0]
    high = [2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04]
    reading, _ = env.reset()
    for action in np.random.default_rng(1).uniform(-1.5, 1.5, (20, 9)):
        asked = np.clip(reading[:9] + 0.16 * np.clip(action, -1, 1), low, high)
        reading, *_ = env.step(action)
        np.testing.assert_allclose(env.data.ctrl, asked, rtol=0, atol=1e-12)
    assert env.dt == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        (SLIDER, ["light switch", "microwave", "slide cabinet", "kettle"]),
        (BURNER, ["kettle", "bottom burner", "light switch", "microwave"]),
    ],
)
def test_the_kitchen_pays_for_each_element_once_and_ends_with_the_last(name, elements):
    env, total = bare(name), 0.0
    assert env.step(np.zeros(9))[1:3] == (0.0, False)
    put(env, **AT_GOAL[({*AT_GOAL} - {*elements}).pop()])  # is none of its business
    assert env.step(np.zeros(9))[1:3] == (0.0, False)
    for i, element in enumerate(elements):
        put(env, **AT_GOAL[element])
        _, reward, terminated, _, info = env.step(np.zeros(9))
        assert (reward, terminated) == (1.0, i == 3)
        assert info["left"] == sorted(elements[i + 1 :])
        assert terminated or env.step(np.zeros(9))[1] == 0.0
        total += reward
    assert total == 4
    assert env.reset()[1]["left"] == sorted(elements)
    for element in elements:
        put(env, **AT_GOAL[element])
    assert env.step(np.zeros(9))[1:3] == (4.0, True)


def test_the_kitchen_judges_by_the_noisy_reading():
    env, paid, seen, true = bare(SLIDER), [], [], []
    for _ in range(60):
        env.reset()
        put(env, microwave=-0.448)  # 0.302 from its goal, where noise of 0.01 decides
        reading, reward, *_ = env.step(np.zeros(9))
        paid.append(reward)
        seen.append(abs(reading[22] + 0.75) < 0.3)
        true.append(abs(env.data.joint("microwave").qpos[0] + 0.75) < 0.3)
    np.testing.assert_array_equal(paid, seen)
    assert 5 < sum(seen) < 55
    assert len({*true}) == 1
