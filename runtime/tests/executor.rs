//! The executor, driven by the ring on one real core: order, turns, cancellation, timers, wakers
//! from foreign threads, and the building blocks on top.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use runtime::{Core, Either, Notify, join_all, oneshot, select, timeout, uring};

/// Runs a test on one core, and passes its panic on.
fn on_core<F, Fut>(test: F)
where
    F: Fn(Core) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let main = move |core, _post, _inbox| test(core);
    let node = uring::launch::<(), _, _>(uring::Options::cores(1), main).unwrap();
    if let Err(panic) = node.join() {
        panic!("{panic}");
    }
}

#[test]
fn ready_tasks_run_in_the_order_of_their_wake_ups() {
    on_core(|core| async move {
        let log = Rc::new(RefCell::new(Vec::new()));
        for i in 0..5 {
            let log = Rc::clone(&log);
            core.spawn("numbered", async move { log.borrow_mut().push(i) });
        }
        assert!(log.borrow().is_empty(), "a spawn ran inside its call");
        core.yield_now().await;
        assert_eq!(*log.borrow(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_turn_ends_after_chains_of_wake_ups() {
    on_core(|core| async move {
        let done = Rc::new(Cell::new(0));
        let (first, mut previous) = oneshot::<()>();
        for _ in 0..20 {
            let (next, receiver) = oneshot::<()>();
            let done = Rc::clone(&done);
            core.spawn("link", async move {
                previous.await.unwrap();
                done.set(done.get() + 1);
                next.send(()).unwrap();
            });
            previous = receiver;
        }
        core.yield_now().await;
        first.send(()).unwrap();
        core.yield_now().await;
        assert_eq!(done.get(), 20);
    });
}

#[test]
fn tasks_that_wake_each_other_do_not_hold_the_turn_open() {
    on_core(|core| async move {
        let spinning = core.spawn_task("spinner", async {
            poll_fn::<(), _>(|cx| {
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
        for _ in 0..10 {
            core.yield_now().await;
        }
        let before = core.now();
        core.sleep(Duration::from_millis(2)).await;
        assert!(core.now() - before >= Duration::from_millis(2));
        drop(spinning);
    });
}

struct SetOnDrop(Rc<Cell<bool>>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn dropping_a_task_cancels_it_and_detaching_does_not() {
    on_core(|core| async move {
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(Rc::clone(&dropped));
        let waiting = core.spawn_task("waiting", async move {
            let _guard = guard;
            pending::<()>().await;
        });
        core.yield_now().await;
        let tasks = core.stats().tasks;
        drop(waiting);
        assert!(dropped.get());
        assert_eq!(core.stats().tasks, tasks - 1);

        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        core.spawn_task("detached", async move { flag.set(true) })
            .detach();
        assert_eq!(core.spawn_task("awaited", async { 42 }).await, 42);
        assert!(ran.get());
    });
}

#[test]
fn a_task_may_cancel_itself() {
    on_core(|core| async move {
        let slot = Rc::new(RefCell::new(None));
        let dropped = Rc::new(Cell::new(false));
        let (own, guard) = (Rc::clone(&slot), SetOnDrop(Rc::clone(&dropped)));
        let task = core.spawn_task("suicidal", async move {
            let _guard = guard;
            let me: Option<runtime::Task<()>> = own.borrow_mut().take();
            drop(me);
            pending::<()>().await;
        });
        *slot.borrow_mut() = Some(task);
        core.yield_now().await;
        assert!(dropped.get());
    });
}

#[test]
fn stopping_drops_what_still_waits() {
    let (sender, receiver) = mpsc::channel();
    let main = move |core: Core, _post, _inbox| {
        let sender = sender.clone();
        async move {
            let (reports, other) = (sender.clone(), core.clone());
            core.spawn("left behind", async move {
                struct Report(mpsc::Sender<&'static str>, Core);
                impl Drop for Report {
                    fn drop(&mut self) {
                        // The core still works for destructors, but takes no new task.
                        self.1.spawn("too late", async { unreachable!() });
                        self.0.send("dropped").unwrap();
                    }
                }
                let _report = Report(reports, other);
                pending::<()>().await;
            });
            core.yield_now().await;
            core.stop();
            pending::<()>().await;
        }
    };
    let node = uring::launch::<(), _, _>(uring::Options::cores(2), main).unwrap();
    node.join().unwrap();
    assert_eq!(receiver.iter().collect::<Vec<_>>(), ["dropped", "dropped"]);
}

#[test]
fn timers_fire_in_order_and_not_early() {
    on_core(|core| async move {
        let log = Rc::new(RefCell::new(Vec::new()));
        for ms in [30u64, 10, 20, 10] {
            let (core, log) = (core.clone(), Rc::clone(&log));
            core.clone().spawn("sleeper", async move {
                let due = core.now() + Duration::from_millis(ms);
                core.sleep_until(due).await;
                assert!(core.now() >= due);
                log.borrow_mut().push(ms);
            });
        }
        core.sleep(Duration::from_millis(60)).await;
        assert_eq!(*log.borrow(), [10, 10, 20, 30]);
        core.sleep_until(core.now()).await;
    });
}

#[test]
fn dropped_sleeps_leave_no_timer_that_wakes() {
    on_core(|core| async move {
        for _ in 0..100 {
            let slept = timeout(&core, Duration::ZERO, core.sleep(Duration::from_millis(5))).await;
            assert!(slept.is_err());
        }
        let passes = core.stats().passes;
        core.sleep(Duration::from_millis(50)).await;
        // One pass to fall asleep, one to wake up, and some room for stray wake-ups.
        assert!(
            core.stats().passes - passes < 10,
            "{} passes",
            core.stats().passes - passes
        );
    });
}

#[test]
fn wakers_work_from_foreign_threads() {
    on_core(|core| async move {
        for round in 0..200 {
            let (sender, receiver) = mpsc::channel();
            let mut thread = None;
            let mut polls = 0;
            let begun = core.now();
            poll_fn(|cx| {
                polls += 1;
                match receiver.try_recv() {
                    Ok(()) => Poll::Ready(()),
                    Err(_) => {
                        let (waker, sender) = (cx.waker().clone(), sender.clone());
                        thread.get_or_insert_with(|| {
                            std::thread::spawn(move || {
                                if round % 2 == 0 {
                                    std::thread::sleep(Duration::from_micros(300));
                                }
                                sender.send(()).unwrap();
                                waker.wake();
                            })
                        });
                        Poll::Pending
                    }
                }
            })
            .await;
            assert_eq!(polls, 2);
            assert!(core.now() - begun < Duration::from_secs(1));
            thread.unwrap().join().unwrap();
        }
    });
}

#[test]
fn a_waker_may_outlive_its_task_and_its_core() {
    let (sender, receiver) = mpsc::channel();
    on_core(move |core| {
        let sender = sender.clone();
        async move {
            let task = core.spawn_task("short", async move {
                poll_fn(|cx| {
                    sender.send(cx.waker().clone()).unwrap();
                    Poll::Ready(())
                })
                .await;
            });
            task.await;
            core.yield_now().await;
        }
    });
    let waker = receiver.recv().unwrap();
    waker.wake_by_ref();
    waker.wake();
}

#[test]
fn notify_wakes_one_or_all_and_keeps_one_permit() {
    on_core(|core| async move {
        let notify = Rc::new(Notify::new());
        let woken = Rc::new(RefCell::new(Vec::new()));
        for i in 0..4 {
            let (notify, woken) = (Rc::clone(&notify), Rc::clone(&woken));
            core.spawn("waiter", async move {
                notify.wait().await;
                woken.borrow_mut().push(i);
            });
        }
        core.yield_now().await;
        notify.notify_one();
        core.yield_now().await;
        assert_eq!(*woken.borrow(), [0]);
        notify.notify_all();
        core.yield_now().await;
        assert_eq!(*woken.borrow(), [0, 1, 2, 3]);
        notify.notify_one();
        notify.notify_one();
        notify.wait().await;
        assert!(timeout(&core, Duration::ZERO, notify.wait()).await.is_err());
        assert_eq!(notify.waiting(), 0);
    });
}

#[test]
fn a_dropped_waiter_passes_its_notification_on() {
    on_core(|core| async move {
        let notify = Rc::new(Notify::new());
        let mut first = Box::pin(notify.wait());
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let other = Rc::clone(&notify);
        let second = core.spawn_task("second", async move { other.wait().await });
        core.yield_now().await;
        notify.notify_one();
        drop(first);
        second.await;
    });
}

#[test]
fn oneshots_report_both_kinds_of_absence() {
    on_core(|core| async move {
        let (sender, receiver) = oneshot::<u8>();
        let waiting = core.spawn_task("receiver", receiver);
        core.yield_now().await;
        drop(sender);
        assert_eq!(waiting.await, Err(runtime::oneshot::Dropped));
        let (sender, receiver) = oneshot::<u8>();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(9), Err(9));
    });
}

#[test]
fn select_and_join_all_give_every_result() {
    on_core(|core| async move {
        let ms = Duration::from_millis;
        assert_eq!(select(async { 1 }, async { 2 }).await, Either::Left(1));
        let late = async {
            core.sleep(ms(5)).await;
            1
        };
        assert_eq!(select(late, async { 2 }).await, Either::Right(2));
        let sleeps = [3u64, 1, 2].map(|n| {
            let core = core.clone();
            async move {
                core.sleep(ms(n)).await;
                n
            }
        });
        assert_eq!(join_all(sleeps).await, [3, 1, 2]);
        assert_eq!(timeout(&core, ms(50), async { 7 }).await, Ok(7));
    });
}

#[test]
fn an_idle_core_sleeps() {
    on_core(|core| async move {
        core.sleep(Duration::from_millis(5)).await;
        let before = core.stats();
        core.sleep(Duration::from_millis(300)).await;
        let after = core.stats();
        assert!(after.passes - before.passes < 10, "{before:?} {after:?}");
        let parked_ms = (after.parked_ns - before.parked_ns) / 1_000_000;
        assert!(parked_ms > 200, "{before:?} {after:?}");
        assert_eq!(after.ops_in_flight, 0);
    });
}

#[test]
fn a_panic_of_one_core_ends_the_join() {
    let main = |core: Core, _post, _inbox| async move {
        if core.id() == 1 {
            core.spawn("doomed", async { panic!("core fault number {}", 7) });
        }
        core.sleep(Duration::from_secs(3600)).await;
    };
    let node = uring::launch::<(), _, _>(uring::Options::cores(2), main).unwrap();
    let panicked = node.join().unwrap_err();
    assert_eq!(panicked.core, 1);
    assert_eq!(panicked.message, "core fault number 7");
}

#[test]
fn random_words_differ() {
    on_core(|core| async move {
        let mut words: Vec<u64> = (0..100).map(|_| core.random()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 100);
        assert!(core.wall_ms() > 1_700_000_000_000);
    });
}
