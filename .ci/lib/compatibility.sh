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

run_clients() {
    suite 'Java kafka-clients' 180 "$ci/clients/java/run" || true
    suite 'librdkafka (Rust)' 180 "$ci/clients/librdkafka/run" || true
    suite 'kcat' 120 "$ci/clients/kcat/run" || true
    suite 'franz-go' 180 "$ci/clients/go/run" || true
    suite 'confluent-kafka (Python)' 180 "$ci/clients/python/run" confluent-kafka || true
    suite 'kafka-python' 180 "$ci/clients/python/run" kafka-python || true
    suite 'kafkajs' 180 "$ci/clients/node/run" || true
    suite "Kafka's tools" 300 "$ci/tools/run" || true
}
