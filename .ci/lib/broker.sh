# Starts and ends one broker for the suites that share it; to be sourced. Whoever sources it calls
# `end_broker` in a trap on EXIT.

broker_pid=
broker_place=

# Two free ports in a row: for clients, and for what the broker needs itself. Below the ports that the system gives to
# outgoing connections: one of these would take the port of a broker that is down for a moment.
free_port() {
    python3 - << 'PYTHON'
import random
import socket

while True:
    port = random.randrange(22000, 29998, 2)
    with socket.socket() as first, socket.socket() as second:
        try:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
        except OSError:
            continue
        print(port)
        break
PYTHON
}

# start_broker COMMAND...: with {data}, {port} and {next} in it. Sets BOOTSTRAP once it serves.
start_broker() {
    local port word command=()
    port=$(free_port)
    broker_place=$(mktemp -d)
    for word in "$@"; do
        word=${word//'{data}'/$broker_place/data}
        word=${word//'{port}'/$port}
        command+=("${word//'{next}'/$((port + 1))}")
    done
    "${command[@]}" > "$broker_place/log" 2>&1 &
    broker_pid=$!
    export BOOTSTRAP=127.0.0.1:$port
    local deadline=$((SECONDS + 60))
    until kcat -b "$BOOTSTRAP" -L -m 2 > /dev/null 2>&1; do
        if ! kill -0 "$broker_pid" 2> /dev/null || ((SECONDS > deadline)); then
            echo "the broker does not serve:"
            tail -n 40 "$broker_place/log"
            return 1
        fi
        sleep 0.1
    done
    echo "a broker serves on $BOOTSTRAP"
}

# What the suites did to it: it must still run, and must not have panicked.
broker_is_well() {
    if ! kill -0 "$broker_pid" 2> /dev/null || grep -a -n 'panicked at' "$broker_place/log"; then
        tail -n 40 "$broker_place/log"
        return 1
    fi
}

end_broker() {
    [[ -n $broker_pid ]] || return 0
    kill -TERM "$broker_pid" 2> /dev/null || true
    local deadline=$((SECONDS + 35))
    while kill -0 "$broker_pid" 2> /dev/null && ((SECONDS < deadline)); do
        sleep 0.1
    done
    kill -KILL "$broker_pid" 2> /dev/null || true
    wait "$broker_pid" 2> /dev/null || true
    broker_pid=
    rm -rf "$broker_place"
}
