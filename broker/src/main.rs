//! `corelane`: the broker and the operator's commands in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::shell::main(std::env::args_os(), broker::start::start)
}
