#!/bin/sh
# This script makes a Redis Cluster of the empty nodes $NODES ("IP:PORT IP:PORT ...", the second half are replicas of
# the first) and waits until each node serves. It leaves nodes that have a cluster as they are.
# docker-compose.yml runs it.
set -eu

ask() { # a node, and a command for it
    node=$1
    shift
    redis-cli -h "${node%:*}" -p "${node##*:}" "$@"
}

first=${NODES%% *}
if ask "$first" cluster info | grep -q '^cluster_known_nodes:1[^0-9]*$'; then
    # shellcheck disable=SC2086  # the addresses are words
    redis-cli --cluster create $NODES --cluster-replicas 1 --cluster-yes
fi

for node in $NODES; do
    left=60
    until ask "$node" cluster info | grep -q '^cluster_state:ok'; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then
            echo "$node does not serve: see 'redis-cli --cluster check $node'" >&2
            exit 1
        fi
        sleep 1
    done
done
echo 'the cluster serves'
