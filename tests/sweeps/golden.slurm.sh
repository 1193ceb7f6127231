#!/bin/bash
# 2 critic, 2 augment, 2 diffuse, 4 eval, 1 behaviour, 2 guide: an array of jobs a level, each level after the one before.
# Arguments are options of sbatch for all of them: --partition=gpu --gres=gpu:1 --cpus-per-task=4 --time=4:00:00
set -euo pipefail
options=("$@")

# One job: its line of the array.  SIGTERM, which Slurm sends a minute before the time is over, goes to the command;
# that exits with 75 after a checkpoint, and the job goes back to the queue.
one() {
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
    stopped= child=
    trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child"' TERM
    bash -c "exec ${lines[SLURM_ARRAY_TASK_ID]}" &
    child=$!
    [ -z "$stopped" ] || kill -TERM "$child"
    wait "$child"
    code=$?
    if [ "$stopped" ]; then
        wait "$child"
        code=$?
    fi
    if [ "$code" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
        scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$code"
}

# submit NAME [JOBS]: the array of ${lines[@]}, after those jobs; prints its number.
submit() {
    local last=$((${#lines[@]} - 1)) number
    number=$({ echo '#!/bin/bash' && declare -p lines && declare -f one && echo one; } |
        sbatch --parsable --requeue --open-mode=append --signal=B:TERM@60 --kill-on-invalid-dep=yes --job-name="$1" \
            --array="0-$last" ${2:+"--dependency=afterok:$2"} "${options[@]}")
    echo "${number%%;*}"
}

lines=(
    'swgctl run demo --seeds 0-1 --store /store --until critic --set critic.tau=0.7 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --until behaviour --set eval.method=dps'
    'swgctl run demo --seeds 0-1 --store /store --until critic --set critic.tau=0.9 --set eval.method=swg'
)
level_1=$(submit critic-behaviour)

lines=(
    'swgctl run demo --seeds 0-1 --store /store --until augment --set critic.tau=0.7 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --until guide --set critic.tau=0.7 --set eval.method=dps'
    'swgctl run demo --seeds 0-1 --store /store --until augment --set critic.tau=0.9 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --until guide --set critic.tau=0.9 --set eval.method=dps'
)
level_2=$(submit augment-guide "$level_1")

lines=(
    'swgctl run demo --seeds 0-1 --store /store --until diffuse --set critic.tau=0.7 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --set critic.tau=0.7 --set eval.method=dps'
    'swgctl run demo --seeds 0-1 --store /store --until diffuse --set critic.tau=0.9 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --set critic.tau=0.9 --set eval.method=dps'
)
level_3=$(submit diffuse-eval "$level_2")

lines=(
    'swgctl run demo --seeds 0-1 --store /store --set critic.tau=0.7 --set eval.method=swg'
    'swgctl run demo --seeds 0-1 --store /store --set critic.tau=0.9 --set eval.method=swg'
)
level_4=$(submit eval "$level_3")

echo "submitted; the last: ${level_4}"
