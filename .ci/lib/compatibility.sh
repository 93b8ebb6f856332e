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
