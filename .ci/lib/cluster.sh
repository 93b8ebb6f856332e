# Starts and ends three nodes for the suites that share them, and kills one after another while the suites run; to be
# sourced after broker.sh. Whoever sources it calls `end_cluster` in a trap on EXIT.

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
    disown # so that the shell does not tell of each one that is killed
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
    BOOTSTRAP=$(IFS=,; echo "${cluster_ports[*]/#/127.0.0.1:}")
    export BOOTSTRAP
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
    echo "three nodes serve on $BOOTSTRAP"
}

# How long all three nodes run between two kills: long enough for the leads to come back to the one that was gone, so
# that each kill takes leaders, coordinators and, every third time, most likely the controller.
torment_pause=${TORMENT_PAUSE:-7}

# One node after another, the one that clients begin with too, is killed, is away for a second, and starts again. The next
# one is not touched before it serves: two at once would be a pause for everybody, which is another question.
torment() {
    local n=0 enough= deadline
    trap 'enough=1' TERM
    while true; do
        # In the background, because bash runs no trap while a command in the foreground goes on.
        sleep "$torment_pause" &
        wait $! || true
        [[ -z $enough ]] || break
        n=$((n % 3 + 1))
        kill -KILL "$(< "$cluster_place/$n.pid")" 2> /dev/null || true
        sleep 1
        start_node "$n"
        deadline=$((SECONDS + 60))
        until kcat -b "127.0.0.1:${cluster_ports[n]}" -L -m 2 > /dev/null 2>&1; do
            ((SECONDS < deadline)) || return
            sleep 0.1
        done
        echo "$n" >> "$cluster_place/came-back"
    done
    touch "$cluster_place/torment-ended"
}

begin_torment() {
    torment &
    tormentor_pid=$!
}

# Ends it when the node that was killed last has come back.
end_torment() {
    [[ -n $tormentor_pid ]] || return 0
    kill "$tormentor_pid" 2> /dev/null || true
    wait "$tormentor_pid" 2> /dev/null || true
    tormentor_pid=
}

# torment_happened TIMES: what ran beside it proves nothing if no node was killed, or if one did not come back.
torment_happened() {
    local kills
    kills=$(wc -l < "$cluster_place/came-back")
    echo "nodes were killed and came back $kills times"
    [[ -e $cluster_place/torment-ended ]] && ((kills >= $1))
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
