"""plan --format slurm: a script that submits a sweep to Slurm, one array of jobs a level of the graph."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from swgctl.store import Store
from swgctl.sweeps.nodes import Item, items_of, survey
from swgctl.sweeps.plan import Run

ARRAY = 1000  # most jobs of one array; Slurm's own default limit is 1001

HEAD = """\
#!/bin/bash
# {summary}: an array of jobs a level, each level after the one before.
# Arguments are options of sbatch for all of them: --partition=gpu --gres=gpu:1 --cpus-per-task=4 --time=4:00:00
set -euo pipefail
options=("$@")

# One job: its line of the array.  SIGTERM, which Slurm sends a minute before the time is over, goes to the command;
# that exits with 75 after a checkpoint, and the job goes back to the queue.
one() {{
    export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}"
    stopped= child=
    trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child"' TERM
    bash -c "exec ${{lines[SLURM_ARRAY_TASK_ID]}}" &
    child=$!
    [ -z "$stopped" ] || kill -TERM "$child"
    wait "$child"
    code=$?
    if [ "$stopped" ]; then
        wait "$child"
        code=$?
    fi
    if [ "$code" = 75 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$code"
}}

# submit NAME [JOBS]: the array of ${{lines[@]}}, after those jobs; prints its number.
submit() {{
    local last=$((${{#lines[@]}} - 1)) number
    number=$({{ echo '#!/bin/bash' && declare -p lines && declare -f one && echo one; }} |
        sbatch --parsable --requeue --open-mode=append --signal=B:TERM@60 --kill-on-invalid-dep=yes --job-name="$1" \\
            --array="0-$last" ${{2:+"--dependency=afterok:$2"}} "${{options[@]}}")
    echo "${{number%%;*}}"
}}
"""


def script(runs: Sequence[Run], store: Store, retries: int = 3) -> str:
    """A bash script that submits what is missing of some runs; its jobs build one artifact each.

    Every job waits for the whole level before its own, whose artifacts' digests are part of its key.
    """
    items, _ = items_of(runs)
    survey(items, store)
    lines = _lines(runs)
    levels: dict[Item, int] = {}
    for item in items:  # after its inputs
        if item.state != "cached":
            levels[item] = 1 + max((levels.get(parent, 0) for parent in item.inputs.values()), default=0)
    counts = Counter(item.node.stage.name for item in levels)
    summary = ", ".join(f"{count} {stage}" for stage, count in counts.items()) or "nothing to build"
    parts = [HEAD.format(summary=summary, retries=retries)]
    for level in range(1, max(levels.values(), default=0) + 1):
        of_level = [item for item in items if levels.get(item) == level]
        stages = "-".join(dict.fromkeys(item.node.stage.name for item in of_level))
        after = f' "$level_{level - 1}"' if level > 1 else ""
        for start in range(0, len(of_level), ARRAY):
            quoted = "".join(
                f"    {shlex.quote(lines[item.node.identity])}\n" for item in of_level[start : start + ARRAY]
            )
            before = f"$level_{level}:" if start else ""
            parts.append(f"\nlines=(\n{quoted})\nlevel_{level}={before}$(submit {stages}{after})\n")
    if levels:
        parts.append(f'\necho "submitted; the last: ${{level_{max(levels.values())}}}"\n')
    return "".join(parts)


def _lines(runs: Sequence[Run]) -> dict[str, str]:
    """The line `swgctl run ... --until STAGE` of every node, by its identity."""
    lines: dict[str, str] = {}
    for one in runs:
        for node in one.node.walk():
            if node.identity not in lines:
                whole = node.identity == one.node.identity
                lines[node.identity] = (one if whole else replace(one, until=node.stage.name)).command()
    return lines
