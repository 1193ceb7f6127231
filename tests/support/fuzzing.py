"""Input that hypothesis makes up, and what must hold whatever it is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.harness import Answer, published, swgctl
from swgctl.store import Artifact

# -- examples ----------------------------------------------------------------------------------------------------------

FEW, MANY = 3, 2_000
both = pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


def holds(examples: int, strategy: st.SearchStrategy, check: Callable[[Any], None]) -> None:
    """Call `check` with as many examples, the same ones on every machine."""

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def checked(example: Any) -> None:
        check(example)

    checked()


# -- what holds --------------------------------------------------------------------------------------------------------


def sound(answer: Answer, store: Path, before: set[Path]) -> None:
    """Asserts a refusal of one line, or success; and that what is new in the store since `before` is whole."""
    assert answer.code in (0, 2, 3, 4), answer.err
    assert "Traceback" not in answer.err
    assert "error: internal" not in answer.err
    if answer.code:
        assert len(answer.error) < 5_000
    assert all(line.isprintable() for line in answer.err.splitlines())
    for path in {*published(store)} - before:
        Artifact(path).check_all()
    assert not list(store.glob("tmp/*"))


def asked(store: Path, *args: Any) -> Answer:
    """The answer of a command, which is `sound`."""
    before = {*published(store)}
    answer = swgctl(*args)
    sound(answer, store, before)
    return answer


# -- strategies --------------------------------------------------------------------------------------------------------

HOSTILE = ["", "..", ".", "/", "\x1b[31m", "\u202e", "\udcff", "a\nb", "x" * 5_000, "1e999", "NaN", "-1", "٣", "~"]
names = st.one_of(  # that a command line can have
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
)
numbers = st.one_of(
    st.integers(-2, 3),
    st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63), 10**30, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
texts = st.one_of(names, st.text(max_size=12), st.just("\0"))
scalars = st.one_of(st.none(), st.booleans(), numbers, names)
anything = st.recursive(
    st.one_of(scalars, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def ways(value: Any, way: tuple = ()) -> Iterator[tuple]:
    """The ways to every value within a value of dicts and lists, but for itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*way, name)
        yield from ways(inner, (*way, name))


GONE = object()


def put(value: Any, way: tuple, new: Any) -> None:
    """Put `new` in the place of what lies at a way; GONE removes it."""
    *names, last = way
    for name in names:
        value = value[name]
    if new is GONE:
        del value[last]
    else:
        value[last] = new


@st.composite
def edits(draw: Any, size: int) -> list[tuple[str, int, int]]:
    """Changes of some bytes of `size` ones: (kind, place, byte)."""
    kinds = st.sampled_from(["flip", "set", "cut", "insert", "erase"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, size), st.integers(0, 255)), min_size=1, max_size=4))


def edited(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    changed = bytearray(content)
    for kind, place, byte in changes:
        if kind == "cut":
            del changed[place:]
        elif kind == "erase":
            del changed[place : place + byte]
        elif kind == "insert":
            changed[place:place] = bytes([byte])
        elif place < len(changed):
            changed[place] = changed[place] ^ (byte or 1) if kind == "flip" else byte
    return bytes(changed)
