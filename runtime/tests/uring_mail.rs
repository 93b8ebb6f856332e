//! Mail between real threads: order, and no wake-up that gets lost.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use runtime::{Core, Inbox, Post, uring};

/// Every core posts to every core in bursts, and each message is answered. A lost wake-up shows
/// as a hang, which the watchdog of the test turns into a failure.
fn storm(cores: usize, spin: Duration, rounds: u64) {
    let options = uring::Options {
        spin,
        ..uring::Options::cores(cores)
    };
    let (finished, watchdog) = mpsc::channel();
    let main = move |core: Core, post: Post<(bool, u64)>, mut inbox: Inbox<(bool, u64)>| {
        let finished = finished.clone();
        async move {
            let cores = core.cores();
            let mut asked = vec![0u64; cores];
            let mut answered = vec![0u64; cores];
            let mut goodbyes = 0;
            (0..cores).for_each(|to| post.send(to, (false, 0)));
            while goodbyes < cores || answered.iter().any(|&n| n < rounds) {
                for (from, (is_answer, number)) in inbox.take().await {
                    if number == u64::MAX {
                        goodbyes += 1;
                    } else if is_answer {
                        assert_eq!(number, answered[from], "answers of core {from}");
                        answered[from] += 1;
                        match answered[from] < rounds {
                            true => post.send(from, (false, number + 1)),
                            false => post.send(from, (false, u64::MAX)),
                        }
                    } else {
                        assert_eq!(number, asked[from], "questions of core {from}");
                        asked[from] += 1;
                        post.send(from, (true, number));
                    }
                }
            }
            // The goodbyes posted in this pass leave before the core ends.
            core.yield_now().await;
            finished.send(core.id()).unwrap();
        }
    };
    let node = uring::launch(options, main).unwrap();
    for _ in 0..cores {
        let limit = Duration::from_secs(60);
        watchdog
            .recv_timeout(limit)
            .expect("a wake-up was lost, or a core panicked");
    }
    node.join().unwrap();
}

#[test]
fn no_wake_up_is_lost_between_parking_cores() {
    storm(2, Duration::ZERO, 20_000);
    storm(4, Duration::ZERO, 3_000);
}

#[test]
fn no_wake_up_is_lost_between_spinning_cores() {
    storm(2, Duration::from_micros(20), 5_000);
}

#[test]
fn a_gateway_wakes_parked_cores() {
    let main = |core: Core, _post: Post<u64>, mut inbox: Inbox<u64>| async move {
        let mut next = 0;
        while next < 300 {
            for (from, number) in inbox.take().await {
                assert_eq!((from, number), (core.id(), next));
                next += 1;
            }
        }
    };
    let node = uring::launch(uring::Options::cores(2), main).unwrap();
    let gateway = node.gateway();
    assert_eq!(gateway.cores(), 2);
    let thread = std::thread::spawn(move || {
        for number in 0..300 {
            (0..2).for_each(|core| gateway.send(core, number));
            if number % 3 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    thread.join().unwrap();
    node.join().unwrap();
}

#[test]
fn a_node_starts_in_milliseconds() {
    let began = Instant::now();
    let main = |_core: Core, _post: Post<()>, _inbox: Inbox<()>| async move {};
    uring::launch(uring::Options::cores(2), main)
        .unwrap()
        .join()
        .unwrap();
    let took = began.elapsed();
    println!("two cores started and ended in {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn this_machine_is_fit() {
    uring::probe().unwrap();
}

#[test]
fn pinned_cores_stay_on_their_cpu() {
    let options = uring::Options {
        pin: true,
        ..uring::Options::cores(1)
    };
    let main = |_core: Core, _post: Post<()>, _inbox: Inbox<()>| async move {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find(|l| l.starts_with("Cpus_allowed_list"))
            .unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some("0"));
    };
    uring::launch(options, main).unwrap().join().unwrap();
}

#[test]
fn a_cpu_that_is_not_there_is_refused_with_a_sentence() {
    let options = uring::Options {
        cores: vec![0, 1000],
        pin: true,
        ..uring::Options::cores(1)
    };
    let main = |_core: Core, _post: Post<()>, _inbox: Inbox<()>| async move {};
    let refused = uring::launch(options, main).err().unwrap();
    assert!(
        refused.to_string().contains("CPU 1000 is not among those"),
        "{refused}"
    );
}
