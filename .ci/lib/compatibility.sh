# The suites of unmodified clients and tools against the broker at BOOTSTRAP; to be sourced after
# suites.sh.

ci=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# All that is downloaded and compiled, before time counts.
build_clients() {
    local client
    for client in java librdkafka go python node; do
        "$ci/clients/$client/run" build || return 1
    done
    "$ci/tools/run" build
}

# run_clients [WHERE]: the words are put behind the name of each suite.
run_clients() {
    local where=${1:-}
    suite "Java kafka-clients$where" 180 "$ci/clients/java/run" || true
    suite "librdkafka (Rust)$where" 180 "$ci/clients/librdkafka/run" || true
    suite "kcat$where" 120 "$ci/clients/kcat/run" || true
    suite "franz-go$where" 180 "$ci/clients/go/run" || true
    suite "confluent-kafka (Python)$where" 180 "$ci/clients/python/run" confluent-kafka || true
    suite "kafka-python$where" 180 "$ci/clients/python/run" kafka-python || true
    suite "kafkajs$where" 180 "$ci/clients/node/run" || true
    suite "Kafka's tools$where" 300 "$ci/tools/run" || true
}

# What is asked while nodes are killed. Clients try again, so what they write and read, their groups, their sequences and
# their transactions must come out as if nothing had happened. Not asked, by their nature: the admin parts and Kafka's
# tools, whose calls are made once and whose checks demand the one exact answer of the node that is asked at that moment,
# which may be dead, or not have heard yet of what another one answered before; and kcat's searches by offset and time,
# one request each of a program that does not try again. What they ask is asked of three quiet nodes before.
#
# run_clients_under_torment: while another one kills nodes. The limits are twice those of quiet nodes.
run_clients_under_torment() {
    local where=', nodes killed'
    local -x TORMENTED=1
    suite "Java kafka-clients$where" 360 env PARTS=content,groups,transactions "$ci/clients/java/run" || true
    suite "librdkafka (Rust)$where" 360 env PARTS=content,groups "$ci/clients/librdkafka/run" || true
    suite "kcat$where" 240 env PARTS=groups,transactions "$ci/clients/kcat/run" || true
    suite "franz-go$where" 360 env PARTS=content,groups,idempotence,transactions "$ci/clients/go/run" || true
    suite "confluent-kafka (Python)$where" 360 env PARTS=content,groups "$ci/clients/python/run" confluent-kafka || true
    suite "kafka-python$where" 360 env PARTS=content,groups "$ci/clients/python/run" kafka-python || true
    suite "kafkajs$where" 360 env PARTS=content-tormented,groups "$ci/clients/node/run" || true
}
