#!/usr/bin/env bash
# A suite on the nodes of one Slurm job: sbatch --nodes=4 deploy/slurm.sh suites/cifar.yaml [further options of bench run]
#SBATCH --job-name=normbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

if [ $# -eq 0 ]; then echo "usage: sbatch deploy/slurm.sh SUITE [options of bench run]" >&2; exit 2; fi
if [ -z "${SLURM_JOB_ID:-}" ]; then echo "this is a Slurm job: sbatch deploy/slurm.sh $*" >&2; exit 2; fi

# One token a job, readable by its owner alone; srun hands the variables on to every node.
umask 077
token_file=$(mktemp "${SLURM_SUBMIT_DIR:-$PWD}/.ray-token-$SLURM_JOB_ID.XXXXXX")
trap 'rm -f "$token_file"' EXIT
head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' > "$token_file"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token_file
export RAY_USAGE_STATS_ENABLED=0 RAY_memory_monitor_refresh_ms=0

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export HEAD_ADDRESS=$first:$((6400 + SLURM_JOB_ID % 1000))  # two jobs may share a node

# Starts Ray on every node, runs bench on the first one, stops Ray everywhere when it ends. Ray opens its files to all
# users of a machine (mode 0777), so on each node they lie in a folder that nobody else enters.
# shellcheck disable=SC2016
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=0 bash -c '
    private=$(mktemp -d /tmp/normbench-XXXXXXXX)
    trap "rm -rf $private" EXIT
    RAY_TMPDIR=$private ray symmetric-run --address "$HEAD_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
        --temp-dir "$private/ray" --include-dashboard=false --disable-usage-stats \
        --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_PER_TASK:-0}" \
        -- bench run "$@" --address "$HEAD_ADDRESS"
' bash "$@"
