"""Recipes, settings, REFs and seeds that hypothesis makes up."""

import pytest
from hypothesis import strategies as st
from support.fuzzing import asked, both, edited, edits, holds, names, numbers, scalars

pytestmark = pytest.mark.training


@pytest.fixture
def ask(tmp_path):
    return lambda *args: asked(tmp_path / "store", *args)


# -- recipes -----------------------------------------------------------------------------------------------------------

SECTIONS = ["critic", "diffuse", "eval", "guide", "synth", "agent", "toy", "tasks", "seeds", "about", "critc", "<<"]
FIELDS = ["lr", "hidden", "steps", "rho", "method", "demo", "tau", "K", "schedule", "precision", "resample"]
words = st.one_of(
    st.sampled_from([*SECTIONS, *FIELDS, "&a", "*a", "!!python/name:os.system", "<<: *a", "? ", "| ", "---"]),
    st.sampled_from(["9" * 5_000, "0x_1", ".inf", "1_0", "1:30", "2001-01-01", "!!binary AA==", "!!set {a}", "~"]),
    names,
    scalars.map(str),
)


@st.composite
def texts(draw):
    """YAML, or nearly: sections of settings, flow and block, with anchors, aliases and tags between them."""
    lines = []
    for _ in range(draw(st.integers(1, 5))):
        anchor = draw(st.sampled_from(["", "&a ", "!!map ", "!x "]))
        values = draw(st.lists(st.tuples(words, words), max_size=3))
        inner = ", ".join(f"{name}: {value}" for name, value in values)
        form = draw(st.sampled_from(["{0}: {1}{{{2}}}", "{0}: {1}[{2}]", "{0}:\n  {2}", "{0}: *a", "- {0}", "{0}"]))
        lines.append(form.format(draw(words), anchor, inner))
    return "\n".join(lines)


recipes = st.one_of(
    texts().map(lambda text: text.encode(errors="surrogatepass")),
    edits(600).map(lambda changes: edited(VALID, changes)),
    st.binary(max_size=60),
)
VALID = b"""\
about: all that can stand in a recipe
seeds: 0-4
critic: &critic {lr: 3e-4, hidden: [256, 256], tau: 0.7, loss: expectile, clip_actions: true}
diffuse: {K: 15, schedule: vp, steps: 1000}
eval: {rho: [0, 1.5], resample: 1, temperature: [0.5, 1], method: swg}
tasks:
  demo: {critic: *critic, seeds: [0, 3]}
  hopper-medium-v2:
    eval: {rho: 10}
"""


@both
def test_recipes(examples, ask, tmp_path):
    path = tmp_path / "recipe.yaml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        ask("recipe", "validate", path)

    holds(examples, recipes, check)


# -- settings, REFs, seeds ---------------------------------------------------------------------------------------------

SETTINGS = ["critic.lr", "critic.hidden", "critic.loss", "critic.steps", "eval.rho", "eval.resample", "eval.method"]
SETTINGS += ["diffuse.K", "diffuse.weight_block", "guide.method", "seeds", "critic", "toy.beta", "critic.precision"]
values = st.one_of(
    scalars.map(str),
    st.lists(scalars, max_size=4).map(str),
    st.lists(numbers, max_size=4).map(lambda many: ",".join(map(str, many))),
    words,
    st.sampled_from(["{a: 1}", "[&a [*a]]", "&a *a", "[" * 100, "!!python/object:os.x {}", "1e400", "yes", "0-3"]),
)
assignments = st.one_of(st.tuples(st.sampled_from(SETTINGS), values).map("=".join), names, values)


@both
def test_settings(examples, ask):
    holds(
        examples,
        st.lists(assignments, min_size=1, max_size=2),
        lambda texts: ask("plan", "demo", *(f"--set={text}" for text in texts)),
    )


@both
def test_grids(examples, ask):
    axes = st.one_of(
        st.tuples(st.sampled_from(SETTINGS), st.lists(values, max_size=3).map(",".join)).map("=".join), names
    )
    holds(examples, axes, lambda text: ask("plan", "demo", f"--grid={text}", "--format", "commands"))


references = st.one_of(
    names,
    st.text("0123456789abcdef/.~-#", max_size=20),
    st.sampled_from(
        ["-", "/", ".", "/proc/self", "/dev/null", "s3://", "file:///x#y", "hf://a/b#c", "sftp://h#1", "=", "a=b"]
    ),
    st.tuples(names, names).map("#".join),
    st.tuples(names, names).map("=".join),
)
READERS = [
    *("show", "tree", "verify", "diff 0", "report", "ls", "ls --stage", "ls --task", "augment --from", "critic"),
    *("plot rho", "plot weights", "plot likelihood", "plot compare", "plot maze", "log --to tensorboard:x", "video"),
    *(
        "export --policy x",
        "pull",
        "compare",
        "task show",
        "data info",
        "recipe show",
        "plan",
        "bench",
        "eval --critic",
    ),
]


@both
def test_references(examples, ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    holds(examples, st.tuples(st.sampled_from(READERS), references), lambda pair: ask(*pair[0].split(), pair[1]))


seeds = st.one_of(
    st.text("0123456789-, ", max_size=20),
    st.lists(st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]}-{pair[1]}"), max_size=3).map(",".join),
    names,
    st.sampled_from(["9" * 5_000, "0-" + "9" * 18, "٣", "0-1000,5-1005", "0x1", "1_0", "+1", "0-", "-0"]),
)


@both
def test_seeds(examples, ask):
    holds(examples, seeds, lambda text: ask("plan", "demo", f"--seeds={text}"))
