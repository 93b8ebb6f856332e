//! `corelane`: the broker and the operator's commands in one binary.

use std::process::ExitCode;

/// Blocks are freed on whichever core dropped them last, and the buffers of a busy core come and go by the
/// megabyte: here the C library's allocator gives memory back to the kernel only to fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    broker::shell::main(std::env::args_os(), broker::start::start)
}
