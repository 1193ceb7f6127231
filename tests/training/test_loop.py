"""The training loop: its randomness, its checkpoints, its rows; with a learner whose every number is known."""

import json
import math
import os
import signal
import threading

import pytest
import torch

from swgctl.errors import CorruptError, Interrupted, SwgError
from swgctl.files import read_signed, read_tensors, write_atomically
from swgctl.randomness import generator
from swgctl.training import loop, summary, to_lines, train
from swgctl.training.optimisers import Adam

CPU = torch.device("cpu")


class Walk:
    """S random walks; the loss of a step is its number, 1, 2, ...; chunks of 7 steps."""

    chunk = 7

    def __init__(self, members: int):
        self.position, self.count = torch.zeros(members, 4), torch.zeros(members)

    def draw(self, streams):
        return {
            "noise": torch.stack([torch.randn(self.chunk, 4, generator=g) for g in streams("noise")], 1),
            "sign": torch.stack([torch.randint(2, (self.chunk,), generator=g) for g in streams("sign")], 1),
        }

    def step(self, drawn):
        self.position += (2 * drawn["sign"] - 1).unsqueeze(-1) * drawn["noise"]
        self.count += 1
        return {"loss": self.count.clone(), "position": self.position.mean(-1)}

    def state(self):
        return {"position": self.position, "count": self.count}


class Stopped(Walk):
    """Gets a signal in the middle of a step."""

    def __init__(self, members: int, at: int, number=signal.SIGTERM):
        super().__init__(members)
        self.at, self.number = at, number

    def step(self, drawn):
        info = super().step(drawn)
        if self.count[0] == self.at:
            os.kill(os.getpid(), self.number)
        return info


class Broken(Walk):
    """The second member's loss is not finite from step `at` on, and neither is its state."""

    def __init__(self, members: int, at: int, value: float):
        super().__init__(members)
        self.at, self.value = at, value

    def step(self, drawn):
        info = super().step(drawn)
        if self.count[0] >= self.at:
            self.position[1] = self.value
            info["loss"][1] = self.value
        return info


def run(learner, work, seeds=(0, 1), steps=40, **options):
    return train(learner, name="walk", seeds=list(seeds), steps=steps, work=work, device=CPU, **options)


def checkpointed(work, at=20, **options):
    """A checkpoint at step `at` of 40; its path."""
    with pytest.raises(Interrupted):
        run(Stopped(2, at), work, **options)
    return work / "checkpoint.safetensors"


# -- randomness --------------------------------------------------------------------------------------------------------


def test_a_stream_repeats_and_differs_by_seed_name_and_index():
    def draw(*counter):
        return tuple(torch.randn(4, generator=generator(*counter)).tolist())

    counters = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (1, "a", 1), (10, "a", 0), (0, "a", 10)]
    counters += [(1, "1a", 0), (11, "a", 0), (0, "a/1", 0), (0, "a", 100)]
    assert len({draw(*c) for c in counters}) == len(counters)
    assert all(draw(*c) == draw(*c) for c in counters)


def test_streams_are_not_correlated():
    """The correlation of 20,000 draws of two streams has a deviation of 0.007."""
    draws = torch.stack(
        [torch.randn(20_000, generator=generator(s, n, i)) for s in (0, 1) for n in "ab" for i in (0, 1)]
    )
    off = torch.corrcoef(draws) - torch.eye(len(draws))
    assert off.abs().max() < 0.03


def test_the_global_generator_is_neither_read_nor_moved(tmp_path):
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        learner = Walk(2)
        run(learner, tmp_path / str(seed))
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(learner.position)
    assert torch.equal(*ends)


def test_draws_depend_on_the_step_and_not_on_how_many_are_asked_for(tmp_path):
    short, long = Walk(2), Walk(2)
    run(short, tmp_path / "a", steps=9)
    positions = []
    step = long.step
    long.step = lambda drawn: (step(drawn), positions.append(long.position.clone()))[0]
    run(long, tmp_path / "b", steps=30)
    assert torch.equal(positions[8], short.position)


def test_no_step_repeats_the_draws_of_another(tmp_path):
    """40 steps of 2 members in chunks of 7, 4 normal numbers each."""
    learner, drawn = Walk(2), []
    step = learner.step
    learner.step = lambda slice: (drawn.append(slice["noise"]), step(slice))[1]
    run(learner, tmp_path)
    assert len(torch.stack(drawn).unique()) == 40 * 2 * 4


def test_a_member_walks_as_it_does_alone(tmp_path):
    together = Walk(3)
    run(together, tmp_path / "all", seeds=(0, 1, 5))
    for i, seed in enumerate((0, 1, 5)):
        alone = Walk(1)
        run(alone, tmp_path / str(seed), seeds=(seed,))
        assert torch.equal(alone.position[0], together.position[i])


# -- interruption and resume -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 6, 7, 8, 23, 39])
def test_stopped_and_started_again_is_never_stopped(tmp_path, at):
    """Bit for bit, whether the signal came at a chunk's first step, its last or between."""
    whole, resumed = Walk(2), Walk(2)
    run(whole, tmp_path / "whole")
    checkpointed(tmp_path / "cut", at)
    run(resumed, tmp_path / "cut")
    for key, value in whole.state().items():
        assert torch.equal(resumed.state()[key], value)


def test_stopped_again_and_again_it_arrives(tmp_path):
    whole, resumed = Walk(2), Walk(2)
    run(whole, tmp_path / "whole")
    for at in (3, 11, 12, 30):
        checkpointed(tmp_path / "cut", at)
    run(resumed, tmp_path / "cut")
    assert torch.equal(resumed.position, whole.position)


def test_a_checkpoint_in_passing_changes_nothing(tmp_path):
    often, never = Walk(2), Walk(2)
    run(often, tmp_path / "often", checkpoint_every=0.0)
    run(never, tmp_path / "never", checkpoint_every=math.inf)
    assert torch.equal(often.position, never.position)
    assert not (tmp_path / "never" / "checkpoint.safetensors").exists()


def test_a_run_that_dies_goes_on_from_its_last_checkpoint(tmp_path):
    """A power cut raises nothing that could be caught: here, an error in step 31."""
    whole, dying, resumed = Walk(2), Walk(2), Walk(2)
    run(whole, tmp_path / "whole")
    step = dying.step

    def die(drawn):
        if dying.count[0] == 30:
            raise MemoryError
        return step(drawn)

    dying.step = die
    with pytest.raises(MemoryError):
        run(dying, tmp_path / "cut", checkpoint_every=0.0)
    run(resumed, tmp_path / "cut")
    assert torch.equal(resumed.position, whole.position)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_signals_stop_after_the_step_with_their_exit_code(tmp_path, number, code):
    learner = Stopped(2, 5, number)
    with pytest.raises(Interrupted) as caught:
        run(learner, tmp_path)
    assert caught.value.code == code
    assert caught.value.help
    assert (learner.count == 5).all(), "no further step was taken"


def test_a_signal_from_elsewhere_stops_it_too(tmp_path):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Interrupted):
        run(Walk(2), tmp_path, steps=10**9)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_checkpoint_that_another_process_removes_meanwhile_is_not_called_damaged(tmp_path, monkeypatch):
    """As where file locks do nothing: `Store.build` then takes what the other has finished."""
    checkpointed(tmp_path)

    def late(path):
        path.unlink()
        return read_signed(path)

    monkeypatch.setattr(loop, "read_signed", late)
    with pytest.raises(FileNotFoundError):
        run(Walk(2), tmp_path)


def test_handlers_are_given_back(tmp_path):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    checkpointed(tmp_path)
    assert [signal.getsignal(n) for n in numbers] == before


def test_a_finished_run_is_not_run_again(tmp_path):
    rows = run(Walk(2), tmp_path, checkpoint_every=0.0)
    learner = Walk(2)
    assert run(learner, tmp_path) == rows
    assert (learner.count == 40).all()


# -- damage ------------------------------------------------------------------------------------------------------------


def refused(work):
    with pytest.raises(CorruptError) as caught:
        run(Walk(2), work)
    assert caught.value.code == 4
    assert str(work / "checkpoint.safetensors") in str(caught.value)
    assert caught.value.help


def test_a_flipped_bit_of_any_tensor_is_noticed(tmp_path):
    path = checkpointed(tmp_path)
    whole = path.read_bytes()
    tensors = 4 * (2 * 4 + 2)
    for place in range(len(whole) - tensors, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(tmp_path)


def test_a_flipped_bit_of_the_step_is_noticed(tmp_path):
    path = checkpointed(tmp_path)
    whole = path.read_bytes()
    before, after = b'step\\":20,\\"sums', b'step\\":30,\\"sums'
    assert whole.count(before) == 1
    path.write_bytes(whole.replace(before, after))
    refused(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = checkpointed(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path)


def test_a_checkpoint_of_other_tensors_is_refused(tmp_path):
    checkpointed(tmp_path)
    learner = Walk(2)
    learner.state = lambda: {"position": learner.position}
    with pytest.raises(CorruptError):
        run(learner, tmp_path)


def test_refusal_leaves_the_learner_and_the_file_alone(tmp_path):
    path = checkpointed(tmp_path)
    damaged, learner = bytearray(path.read_bytes()), Walk(2)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptError):
        run(learner, tmp_path)
    assert path.read_bytes() == damaged
    assert (learner.position == 0).all()


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_one_of_the_two(tmp_path):
    """Where locks do nothing, another process builds the same key."""
    path = checkpointed(tmp_path / "old", at=20)
    other = checkpointed(tmp_path / "new", at=30)
    versions = [path.read_bytes(), other.read_bytes()]
    done = threading.Event()

    def replace():
        while not done.is_set():
            versions.reverse()
            write_atomically(path, lambda to: to.write_bytes(versions[0]), durable=False)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            tensors, meta = read_tensors(path)
            assert meta["step"] == tensors["count"][0]
    finally:
        done.set()
        writer.join()


# -- losses that are not finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_loss_is_named_with_its_seed(tmp_path, value):
    with pytest.raises(SwgError, match=r"walk: loss is not finite at step 11 \(seed 7\)") as caught:
        run(Broken(3, 11, value), tmp_path, seeds=(4, 7, 9))
    assert caught.value.code == 1
    assert "--set walk.lr" in caught.value.help


def test_no_checkpoint_holds_a_broken_loss(tmp_path):
    """Checkpoints after every step, rows only every tenth: the last one is from before the break."""
    with pytest.raises(SwgError):
        run(Broken(2, 15, math.nan), tmp_path, steps=2000, checkpoint_every=0.0)
    learner = Walk(2)
    rows = run(learner, tmp_path, steps=14)  # which are done: this only reads
    assert (learner.count == 14).all()
    assert learner.position.isfinite().all()
    assert [row["step"] for row in rows] == [10]


def test_a_signal_after_a_broken_loss_saves_nothing(tmp_path):
    class Both(Broken, Stopped):
        def __init__(self):
            Stopped.__init__(self, 2, 15)
            self.value = math.nan

    with pytest.raises(SwgError, match="loss is not finite at step 15"):
        run(Both(), tmp_path, steps=2000)
    assert not (tmp_path / "checkpoint.safetensors").exists()


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_is_the_mean_since_the_last_one(tmp_path):
    """Of 2,000 steps every tenth has a row: the mean of 1 .. 10 is 5.5, of 11 .. 20 is 15.5."""
    rows = run(Walk(2), tmp_path, steps=2000)
    assert [row["step"] for row in rows] == list(range(10, 2001, 10))
    assert [row["loss"] for row in rows] == [[10 * i + 5.5] * 2 for i in range(200)]


def test_the_last_row_is_of_the_last_step_and_covers_what_is_left(tmp_path):
    rows = run(Walk(2), tmp_path, steps=405)
    assert [row["step"] for row in rows[-2:]] == [404, 405]
    assert rows[-1]["loss"] == [405, 405]


def test_the_file_holds_the_rows(tmp_path):
    rows = run(Walk(2), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert lines == to_lines(rows)
    assert [json.loads(line) for line in lines.splitlines()] == rows


def test_rows_before_the_interruption_are_kept(tmp_path):
    checkpointed(tmp_path / "cut", at=35, steps=2000)
    rows, whole = run(Walk(2), tmp_path / "cut", steps=2000), run(Walk(2), tmp_path / "whole", steps=2000)
    assert [row["step"] for row in rows] == [row["step"] for row in whole]
    assert [row["position"] for row in rows] == [row["position"] for row in whole]


def test_summary_is_the_last_rows_means_and_the_rate_of_the_whole_run():
    """100 steps at 10/s and 100 at 50/s are 200 steps in 12 s."""
    rows = [
        {"step": 100, "loss": [5.0, 7.0], "train_s": 10.0},
        {"step": 200, "loss": [1.0, 2.0], "train_s": 12.0},
    ]
    assert summary(rows) == {"steps": 200, "steps_per_s": round(200 / 12, 2), "loss": 1.5}


# -- Adam --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_adam_is_kingma_and_bas(decay):
    """m and v are running means with 0.9 and 0.999, both corrected for their start (Adam, Algorithm 1).

    The rate is one number, or rises for 2 of 32 steps and falls along half a cosine.
    """
    x = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    adam = Adam([x], lr=0.01, decay=decay, steps=32)
    y, m, v = x.detach().clone(), torch.zeros(3), torch.zeros(3)
    for t in range(1, 33):
        rate = 0.01
        if decay == "cosine":
            rate *= min((t - 1) / 2, 1) * math.cos(math.pi * (t - 1) / 64) ** 2
        adam.descend((x**4).sum())
        g = 4 * y**3
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        y = y - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(x.detach(), y, rtol=1e-5, atol=1e-6)


def test_adams_named_tensors_are_its_whole_state():
    """Copied into a fresh one, they make it go on as the first does."""
    paths = []
    first_x = torch.tensor([1.0, -2.0], requires_grad=True)
    first = Adam([first_x], lr=0.1)
    for _ in range(5):
        first.descend((first_x**4).sum())
    second_x = first_x.detach().clone().requires_grad_()
    second = Adam([second_x], lr=0.1)
    for name, tensor in second.tensors("adam").items():
        tensor.copy_(first.tensors("adam")[name])
    for x, adam in ((first_x, first), (second_x, second)):
        for _ in range(5):
            adam.descend((x**4).sum())
        paths.append(x.detach())
    assert torch.equal(*paths)
