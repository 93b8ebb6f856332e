# What the suites need of a Debian-like machine; to be sourced. Only what is missing is installed.

# Pairs of a question that succeeds where something is there, and the Debian package that brings it.
machine_needs=(
    'command -v cc'                      build-essential
    'command -v pkg-config'              pkg-config
    'pkg-config --exists rdkafka'        librdkafka-dev
    'command -v kcat'                    kcat
    'command -v jq'                      jq
    'command -v java'                    default-jdk-headless
    'command -v javac'                   default-jdk-headless
    'command -v mvn'                     maven
    'command -v go'                      golang
    'command -v node'                    nodejs
    'command -v npm'                     npm
    'python3 -c "import ensurepip"'      python3-venv
    'command -v mkfs.ext4'               e2fsprogs
    'command -v mount'                   mount
)

missing_packages() {
    local i
    for ((i = 0; i < ${#machine_needs[@]}; i += 2)); do
        bash -c "${machine_needs[i]}" > /dev/null 2>&1 || echo "${machine_needs[i + 1]}"
    done | sort -u
}

# Debian's Rust is too old for this workspace, and a toolchain is not ours to install.
require_rust() {
    command -v cargo > /dev/null || {
        echo 'cargo is missing: install Rust with rustup first' >&2
        return 1
    }
    cargo fmt --version > /dev/null && cargo clippy --version > /dev/null
}

install_missing_packages() {
    local packages as_root=()
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} > 0)) || return 0
    ((EUID == 0)) || as_root=(sudo)
    echo "installing ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends \
        "${packages[@]}"
}
