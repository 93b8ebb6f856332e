//! Waiting for several things at once. Knows the core only for its clock.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::handle::Core;

/// Which of two futures was first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Either<A, B> {
    Left(A),
    Right(B),
}

/// Runs both until one is done and drops the other. The left one is asked first.
pub async fn select<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(move |cx| {
        if let Poll::Ready(done) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(done));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// The time was up first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was up first")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `limit`, then drops it.
pub async fn timeout<F: Future>(
    core: &Core,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    match select(future, core.sleep(limit)).await {
        Either::Left(done) => Ok(done),
        Either::Right(()) => Err(Elapsed),
    }
}

/// Runs all to their ends; the results come in the order of the futures. Each wake-up asks all
/// that are still running, so this is for tens of futures, not for thousands.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    enum State<F: Future> {
        Running(Pin<Box<F>>),
        Done(Option<F::Output>),
    }
    let mut states: Vec<State<F>> = futures
        .into_iter()
        .map(|f| State::Running(Box::pin(f)))
        .collect();
    poll_fn(|cx| {
        let mut running = false;
        for state in &mut states {
            let State::Running(future) = state else {
                continue;
            };
            match future.as_mut().poll(cx) {
                Poll::Ready(done) => *state = State::Done(Some(done)),
                Poll::Pending => running = true,
            }
        }
        if running {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    let take = |state| match state {
        State::Done(done) => done,
        State::Running(_) => None,
    };
    states.into_iter().filter_map(take).collect()
}
