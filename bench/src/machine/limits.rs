//! What the machine can do at best, measured in the same run as the brokers: a figure without its
//! physical limit says nothing on another machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Usage, pin_thread};
use crate::clock::monotonic_ns;
use crate::error::{During, Result};
use crate::latency::Latency;

const DIRECT_WRITE_BYTES: usize = 1 << 20;
const DURABLE_WRITE_BYTES: usize = 16 << 10;
const STREAM_BYTES: usize = 256 << 10;
const PING_BYTES: usize = 64;
/// Pieces that tell a median, however slow the disk is.
const PIECES_MIN: u64 = 200;
const ALIGNMENT: usize = 4096;

/// Physical limits of disk and loopback.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Sequential O_DIRECT writes of 1 MiB into extents that were written before, one at a time.
    pub direct_write_mb_s: f64,
    /// The same of 16 KiB with O_DSYNC: how often a second something can be made durable.
    pub durable_writes_per_s: f64,
    pub durable_write_p50_us: f64,
    /// 64 bytes to and fro between two threads, on two cores if there are two.
    pub loopback_rtt_p50_us: f64,
    /// 256 KiB pieces over one connection.
    pub loopback_mb_s: f64,
    /// CPU of the whole machine for it, both ends together.
    pub loopback_cpu_s_per_gb: Option<f64>,
}

/// Measures all of them, each for `time`, with a file of `file_bytes` in `directory`.
pub fn measure_limits(
    directory: &Path,
    file_bytes: u64,
    time: Duration,
    cpus: &[usize],
) -> Result<Limits> {
    let path = directory.join("limits");
    let direct = open_direct(&path, 0).during("opening a file with O_DIRECT")?;
    let durable = open_direct(&path, libc::O_DSYNC).during("opening a file with O_DSYNC")?;
    // Once over the whole file, so that what is measured rewrites extents.
    write_for(&direct, file_bytes, DIRECT_WRITE_BYTES, Until::End).during("filling a file")?;
    direct.sync_all().during("syncing a file")?;
    let (written, direct_s, _) =
        write_for(&direct, file_bytes, DIRECT_WRITE_BYTES, Until::Time(time))
            .during("writing with O_DIRECT")?;
    let (synced, durable_s, latency) =
        write_for(&durable, file_bytes, DURABLE_WRITE_BYTES, Until::Time(time))
            .during("writing with O_DSYNC")?;
    std::fs::remove_file(&path).during("removing a file")?;
    let rtt = ping_pong(time, cpus).during("measuring the loopback's round trip")?;
    let (loopback_mb_s, loopback_cpu_s_per_gb) =
        stream(time, cpus).during("measuring the loopback's throughput")?;
    let p50_us = |latency: &Latency| {
        latency
            .quantiles()
            .expect("enough pieces were written for a median")
            .p50_us as f64
    };
    Ok(Limits {
        direct_write_mb_s: written as f64 * DIRECT_WRITE_BYTES as f64 / 1e6 / direct_s,
        durable_writes_per_s: synced as f64 / durable_s,
        durable_write_p50_us: p50_us(&latency),
        loopback_rtt_p50_us: p50_us(&rtt),
        loopback_mb_s,
        loopback_cpu_s_per_gb,
    })
}

fn open_direct(path: &Path, more_flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.custom_flags(libc::O_DIRECT | more_flags).open(path)
}

enum Until {
    /// Once over the file.
    End,
    /// Round and round.
    Time(Duration),
}

/// Writes pieces one after the other; gives their count, the time taken in s, and each one's
/// latency.
fn write_for(
    file: &File,
    file_bytes: u64,
    piece_bytes: usize,
    until: Until,
) -> io::Result<(u64, f64, Latency)> {
    let memory = vec![0x5a; piece_bytes + ALIGNMENT];
    let piece = &memory[memory.as_ptr().align_offset(ALIGNMENT)..][..piece_bytes];
    let pieces = (file_bytes / piece_bytes as u64).max(1);
    let (began, mut count, mut latency) = (Instant::now(), 0, Latency::default());
    loop {
        let before_ns = monotonic_ns();
        file.write_all_at(piece, count % pieces * piece_bytes as u64)?;
        latency.record(before_ns, monotonic_ns());
        count += 1;
        let over = match until {
            Until::End => count == pieces,
            Until::Time(time) => began.elapsed() >= time && count >= PIECES_MIN,
        };
        if over {
            return Ok((count, began.elapsed().as_secs_f64(), latency));
        }
    }
}

/// Two ends of a connection; the second one is served by `serve` on a thread of its own, on
/// another core if there is one.
fn connected<T: Send + 'static>(
    cpus: &[usize],
    serve: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> io::Result<(TcpStream, thread::JoinHandle<io::Result<T>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let (peer, _) = listener.accept()?;
    peer.set_nodelay(true)?;
    let last = cpus.last().copied();
    let thread = thread::spawn(move || {
        last.map_or(Ok(()), |cpu| pin_thread(&[cpu]))?;
        serve(peer)
    });
    Ok((stream, thread))
}

/// Runs `work` on a thread pinned to the first CPU, so that the caller stays free.
fn on_first_cpu<T: Send>(
    cpus: &[usize],
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cpus.first().map_or(Ok(()), |cpu| pin_thread(&[*cpu]))?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a measuring thread panicked")))
    })
}

fn ping_pong(time: Duration, cpus: &[usize]) -> io::Result<Latency> {
    let (mut stream, peer) = connected(cpus, |mut peer| {
        let mut piece = [0; PING_BYTES];
        while peer.read_exact(&mut piece).is_ok() {
            peer.write_all(&piece)?;
        }
        Ok(())
    })?;
    let latency = on_first_cpu(cpus, || {
        let (mut piece, mut latency, began) = ([7; PING_BYTES], Latency::default(), Instant::now());
        for count in 0.. {
            if began.elapsed() >= time && count >= PIECES_MIN {
                break;
            }
            let before_ns = monotonic_ns();
            stream.write_all(&piece)?;
            stream.read_exact(&mut piece)?;
            latency.record(before_ns, monotonic_ns());
        }
        Ok(latency)
    });
    hang_up(&stream);
    drop(peer.join());
    latency
}

/// MB/s, and CPU-s of the machine for each GB.
fn stream(time: Duration, cpus: &[usize]) -> io::Result<(f64, Option<f64>)> {
    let (mut stream, peer) = connected(cpus, |mut peer| {
        let (mut piece, mut received) = (vec![0; STREAM_BYTES], 0u64);
        loop {
            match peer.read(&mut piece)? {
                0 => return Ok(received),
                count => received += count as u64,
            }
        }
    })?;
    let (before, began) = (Usage::now(&[]), Instant::now());
    on_first_cpu(cpus, || {
        let piece = vec![7; STREAM_BYTES];
        while began.elapsed() < time {
            stream.write_all(&piece)?;
        }
        Ok(())
    })?;
    hang_up(&stream);
    let received = peer
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
    let (seconds, gb) = (began.elapsed().as_secs_f64(), received as f64 / 1e9);
    let cpu_s = Usage::now(&[]).since(&before).machine_cpu_s;
    Ok((gb * 1e3 / seconds, cpu_s.map(|cpu_s| cpu_s / gb)))
}

fn hang_up(stream: &TcpStream) {
    // SAFETY: the descriptor is open; only its sending side is closed.
    unsafe { libc::shutdown(stream.as_raw_fd(), libc::SHUT_WR) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_file_and_are_counted() {
        let directory = std::env::temp_dir().join(format!("bench-limits-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("file");
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .unwrap();
        let (count, _, latency) = write_for(&file, 64 << 10, 16 << 10, Until::End).unwrap();
        assert_eq!((count, file.metadata().unwrap().len()), (4, 64 << 10));
        assert_eq!(latency.quantiles(), None, "four samples tell no quantile");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_loopback_carries_pieces_both_ways() {
        assert!(ping_pong(Duration::from_millis(50), &[]).is_ok());
        let (mb_s, _) = stream(Duration::from_millis(50), &[]).unwrap();
        assert!(mb_s > 0.0);
    }
}
