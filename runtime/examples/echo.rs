//! A TCP echo server on the ring driver, and a load generator to measure it with.
//!
//! `cargo run --release -p runtime --example echo -- serve 127.0.0.1:7000 0` serves on one core
//! pinned to CPU 0, and prints every five seconds what an echo costs. In another terminal
//! `... --example echo -- load 127.0.0.1:7000 32 512 10` runs 32 connections of 512 bytes for ten
//! seconds with plain threads that block, and prints echoes per second.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use runtime::{Core, CoreStats, Stream, uring};

const USAGE: &str =
    "usage: echo serve ADDR [CPU [SPIN_US]] | echo load ADDR CONNECTIONS BYTES SECONDS";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["serve", addr] => serve(addr, None, "0"),
        ["serve", addr, cpu] => serve(addr, Some(cpu), "0"),
        ["serve", addr, cpu, spin_us] => serve(addr, Some(cpu), spin_us),
        ["load", addr, connections, bytes, seconds] => load(addr, connections, bytes, seconds),
        _ => Err(USAGE.into()),
    };
    if let Err(e) = outcome {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn serve(addr: &str, cpu: Option<&str>, spin_us: &str) -> Outcome {
    uring::probe()?;
    let addr: SocketAddr = addr.parse()?;
    let options = uring::Options {
        cores: vec![cpu.unwrap_or("0").parse()?],
        pin: cpu.is_some(),
        spin: Duration::from_micros(spin_us.parse()?),
        ..uring::Options::cores(1)
    };
    let main = move |core, _post, _inbox| accept(core, addr);
    uring::launch::<(), _, _>(options, main)?.join()?;
    Ok(())
}

async fn accept(core: Core, addr: SocketAddr) {
    let listener = match core.listen(addr, 1024).await {
        Ok(listener) => listener,
        Err(e) => return eprintln!("cannot listen at {addr}: {e}"),
    };
    println!("listening at {}", listener.local_addr());
    let echoes = Rc::new(Cell::new(0u64));
    core.spawn("report", report(core.clone(), Rc::clone(&echoes)));
    loop {
        match listener.accept().await {
            Ok(stream) => core.spawn("echo", echo(stream, Rc::clone(&echoes))),
            Err(e) => {
                eprintln!("accept: {e}");
                core.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn echo(stream: Stream, echoes: Rc<Cell<u64>>) {
    let mut buf = BytesMut::with_capacity(64 << 10);
    loop {
        if buf.capacity() < 4 << 10 {
            buf.reserve(64 << 10);
        }
        let (got, mut back) = stream.read(buf).await;
        if got.unwrap_or(0) == 0 {
            return;
        }
        let data: Bytes = back.split().freeze();
        if stream.write_all(vec![data]).await.is_err() {
            return;
        }
        echoes.set(echoes.get() + 1);
        buf = back;
    }
}

/// CPU time of this process, kernel included, in microseconds.
fn cpu_us() -> u64 {
    // SAFETY: all zeros is a valid `rusage`, which is writable.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

async fn report(core: Core, echoes: Rc<Cell<u64>>) {
    let mut before = (core.now(), echoes.get(), cpu_us(), core.stats());
    loop {
        core.sleep(Duration::from_secs(5)).await;
        let after = (core.now(), echoes.get(), cpu_us(), core.stats());
        let count = after.1 - before.1;
        if count > 0 {
            let per = |n: u64| n as f64 / count as f64;
            let seconds = (after.0 - before.0).as_secs_f64();
            let enters = |stats: CoreStats| stats.ring_enters;
            println!(
                "{:.0} echoes/s, {:.2} us CPU each, {:.2} ring enters each, {:.2} passes each",
                count as f64 / seconds,
                per(after.2 - before.2),
                per(enters(after.3) - enters(before.3)),
                per(after.3.passes - before.3.passes),
            );
        }
        before = after;
    }
}

fn load(addr: &str, connections: &str, bytes: &str, seconds: &str) -> Outcome {
    let addr: SocketAddr = addr.parse()?;
    let connections: usize = connections.parse()?;
    let (bytes, time) = (bytes.parse()?, Duration::from_secs(seconds.parse()?));
    let threads: Vec<_> = (0..connections)
        .map(|_| std::thread::spawn(move || ping_pong(addr, bytes, time)))
        .collect();
    let mut total = 0;
    for thread in threads {
        total += thread
            .join()
            .map_err(|_| "a connection's thread panicked")??;
    }
    println!(
        "{:.0} echoes/s of {bytes} bytes",
        total as f64 / time.as_secs_f64()
    );
    Ok(())
}

fn ping_pong(addr: SocketAddr, bytes: usize, time: Duration) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let mut buf = vec![7; bytes];
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        stream.write_all(&buf)?;
        stream.read_exact(&mut buf)?;
        count += 1;
    }
    Ok(count)
}
