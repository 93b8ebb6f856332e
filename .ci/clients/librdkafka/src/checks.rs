//! Counts named checks and prints one PASS or FAIL line for each.

use std::error::Error;
use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Default)]
pub struct Checks {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

impl Checks {
    pub fn run(&self, name: &str, check: impl FnOnce() -> Outcome) {
        let start = Instant::now();
        match check() {
            Ok(()) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                println!("PASS {name} ({:.1} s)", start.elapsed().as_secs_f64());
            }
            Err(problem) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                println!("FAIL {name}: {problem}");
            }
        }
    }

    /// Prints the sum and gives the exit code.
    pub fn close(&self) -> ExitCode {
        let failed = self.failed.load(Ordering::Relaxed);
        println!(
            "{} passed, {failed} failed",
            self.passed.load(Ordering::Relaxed)
        );
        if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

pub fn same<T: PartialEq + Debug>(what: &str, expected: T, actual: T) -> Outcome {
    if expected == actual {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, got {actual:?}").into())
}

/// Polls until the condition holds; `what` says what was waited for in vain.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Outcome<bool>,
) -> Outcome {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(format!("not within {limit:?}: {what}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
