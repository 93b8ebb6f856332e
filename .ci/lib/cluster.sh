# Starts and ends three nodes for the suites that share them, and ends one after another by kill -9 while the suites
# run; to be sourced after broker.sh. Whoever sources it calls `end_cluster` in a trap on EXIT.

cluster_place=
cluster_voters=
cluster_ports=()
cluster_command=()
tormentor_pid=

# start_node N: N is 1, 2 or 3.
start_node() {
    local n=$1 word command=()
    for word in "${cluster_command[@]}"; do
        word=${word//'{data}'/$cluster_place/$n}
        command+=("${word//'{port}'/${cluster_ports[n]}}")
    done
    "${command[@]}" --set "node.id=$n" --set "controller.quorum.voters=$cluster_voters" \
        --set default.replication.factor=3 >> "$cluster_place/$n.log" 2>&1 &
    echo $! > "$cluster_place/$n.pid"
}

# start_cluster COMMAND...: with {data} and {port} in it. Sets BOOTSTRAP once all nodes serve.
start_cluster() {
    local n voters=()
    cluster_place=$(mktemp -d)
    cluster_command=("$@")
    for n in 1 2 3; do
        cluster_ports[n]=$(free_port)
        voters+=("$n@127.0.0.1:$((cluster_ports[n] + 1))")
    done
    cluster_voters=$(IFS=,; echo "${voters[*]}")
    for n in 1 2 3; do
        start_node "$n"
    done
    export BOOTSTRAP=127.0.0.1:${cluster_ports[1]}
    local deadline=$((SECONDS + 60))
    for n in 1 2 3; do
        until kcat -b "127.0.0.1:${cluster_ports[n]}" -L -m 2 > /dev/null 2>&1; do
            if ((SECONDS > deadline)); then
                echo "node $n does not serve:"
                tail -n 40 "$cluster_place/$n.log"
                return 1
            fi
            sleep 0.1
        done
    done
    echo "three nodes serve, the first on $BOOTSTRAP"
}

# Every few seconds another node than the first, which clients begin with, is killed and started again.
torment() {
    local n=0
    while sleep 6; do
        n=$((n % 2 + 1))
        kill -KILL "$(< "$cluster_place/$((n + 1)).pid")" 2> /dev/null || true
        sleep 1
        start_node "$((n + 1))"
    done
}

begin_torment() {
    torment &
    tormentor_pid=$!
}

end_torment() {
    [[ -n $tormentor_pid ]] || return 0
    kill "$tormentor_pid" 2> /dev/null || true
    wait "$tormentor_pid" 2> /dev/null || true
    tormentor_pid=
}

# None of the nodes may have panicked, whatever was done to them.
cluster_is_well() {
    ! grep -a -n 'panicked at' "$cluster_place"/*.log
}

end_cluster() {
    end_torment
    [[ -n $cluster_place ]] || return 0
    local n
    for n in 1 2 3; do
        [[ -f $cluster_place/$n.pid ]] && kill -KILL "$(< "$cluster_place/$n.pid")" 2> /dev/null
    done
    rm -rf "$cluster_place"
    cluster_place=
}
