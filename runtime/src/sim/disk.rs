//! Simulated files: each operation takes effect on the [tree](super::tree) and a seeded time.
//!
//! An operation is numbered, may be given a fault, is submitted to the tree at once (so that a
//! crash can find it half done), and completes later.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::options::Latency;
use super::port::Port;
use super::random::Random;
use super::tree::{InodeId, Tree};
use super::world::{End, World};
use crate::aligned::AlignedBuf;
use crate::disk::{DirEntry, Durability, OpenOptions, Space};
use crate::sync::oneshot::{Sender, oneshot};
use crate::time::Instant;

/// A node's disk, with the faults that a test has ordered. Outlives the node's restarts.
pub(crate) struct SimDisk {
    pub(crate) tree: RefCell<Tree>,
    times: RefCell<Random>,
    faults: RefCell<Random>,
    /// Operations so far.
    pub(crate) ops: Cell<u64>,
    pub(crate) crash_at: Cell<Option<u64>>,
    pub(crate) fail_at: RefCell<BTreeMap<u64, io::ErrorKind>>,
    pub(crate) error_per_million: Cell<u32>,
    pub(crate) stalled_until: Cell<Instant>,
    /// Factor on all times.
    pub(crate) slowdown: Cell<u32>,
}

impl SimDisk {
    pub(crate) fn new(world: &World, name: &str) -> SimDisk {
        let seed = world.options.seed;
        SimDisk {
            tree: RefCell::new(world.new_tree(name)),
            times: RefCell::new(Random::new(seed, &format!("disk times of {name}"))),
            faults: RefCell::new(Random::new(seed, &format!("disk faults of {name}"))),
            ops: Cell::new(0),
            crash_at: Cell::new(None),
            fail_at: RefCell::new(BTreeMap::new()),
            error_per_million: Cell::new(world.options.disk.error_per_million),
            stalled_until: Cell::new(Instant::ZERO),
            slowdown: Cell::new(1),
        }
    }

    /// What becomes of a disk when its node ends.
    pub(crate) fn node_ended(&self, end: End) {
        self.crash_at.set(None);
        match end {
            End::Power => self.tree.borrow_mut().lose_power(),
            End::Kill => self.tree.borrow_mut().lose_process(),
        }
    }

    fn fault(&self, number: u64) -> Option<io::Error> {
        if let Some(kind) = self.fail_at.borrow_mut().remove(&number) {
            return Some(kind.into());
        }
        let fails = self
            .faults
            .borrow_mut()
            .per_million(self.error_per_million.get());
        fails.then(|| io::Error::from_raw_os_error(libc::EIO))
    }

    fn time(&self, range: Latency, slow_per_million: u32) -> Duration {
        let mut times = self.times.borrow_mut();
        let time = times.duration(range.min, range.max);
        let slow = if times.per_million(slow_per_million) {
            20
        } else {
            1
        };
        time * slow * self.slowdown.get()
    }
}

/// What an operation costs.
#[derive(Copy, Clone)]
enum Effort {
    Read,
    Write,
    Sync,
}

/// Runs an operation: `begin` submits it to the tree, or takes note that it will fail; what it
/// returns completes it. `keep` stays open until then.
async fn perform<T, B, F>(
    port: &Rc<Port>,
    effort: Effort,
    keep: Option<Rc<Handle>>,
    begin: B,
) -> io::Result<T>
where
    T: 'static,
    B: FnOnce(&mut Tree, Option<io::Error>) -> F,
    F: FnOnce(&mut Tree) -> io::Result<T> + 'static,
{
    if !port.is_alive() {
        return pending().await;
    }
    let world = &port.world;
    let disk = Rc::clone(&world.nodes.borrow()[port.node].disk);
    let number = disk.ops.get() + 1;
    disk.ops.set(number);
    let fault = disk.fault(number);
    let finish = begin(&mut disk.tree.borrow_mut(), fault);
    if disk.crash_at.get() == Some(number) {
        world.end(port.node, End::Power);
        return pending().await;
    }
    let options = &world.options.disk;
    let range = match effort {
        Effort::Read => options.read,
        Effort::Write => options.write,
        Effort::Sync => options.sync,
    };
    let at = world.now() + disk.time(range, options.slow_per_million);
    let (done, outcome) = oneshot();
    let job = Job {
        port: Rc::clone(port),
        disk,
        number,
        keep,
        finish,
        done,
    };
    port.op_begins();
    job.complete_at(world, at);
    match outcome.await {
        Ok(result) => result,
        // The node has ended; this task is about to be dropped.
        Err(_) => pending().await,
    }
}

/// An operation on its way to completion.
struct Job<T, F> {
    port: Rc<Port>,
    disk: Rc<SimDisk>,
    number: u64,
    keep: Option<Rc<Handle>>,
    finish: F,
    done: Sender<io::Result<T>>,
}

impl<T, F> Job<T, F>
where
    T: 'static,
    F: FnOnce(&mut Tree) -> io::Result<T> + 'static,
{
    fn complete_at(self, world: &Rc<World>, at: Instant) {
        let which = (self.port.node as u64) << 48 ^ self.number;
        world.plan(at, "disk", which, move |world| self.complete(world));
    }

    fn complete(self, world: &Rc<World>) {
        if !self.port.is_alive() {
            return;
        }
        let stalled_until = self.disk.stalled_until.get();
        if stalled_until > world.now() {
            self.complete_at(world, stalled_until);
            return;
        }
        let result = (self.finish)(&mut self.disk.tree.borrow_mut());
        self.port.op_ends();
        // An outcome that nobody awaits any more is dropped here, outside the tree's borrow.
        let unwanted = self.done.send(result);
        drop((unwanted, self.keep));
    }
}

/// Counts as one open handle in the tree.
struct Handle {
    port: Rc<Port>,
    disk: Rc<SimDisk>,
    id: InodeId,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // After the end of a node's life the tree has forgotten its handles.
        if self.port.world.life_of(self.port.node) == Some(self.port.life) {
            self.disk.tree.borrow_mut().close(self.id);
        }
    }
}

pub(crate) struct SimFile {
    handle: Rc<Handle>,
    options: OpenOptions,
}

pub(crate) async fn open(
    port: &Rc<Port>,
    path: &Path,
    options: OpenOptions,
) -> io::Result<SimFile> {
    let owner = Rc::clone(port);
    let handle = perform(port, Effort::Read, None, |tree, fault| {
        let opened = unless(fault, || tree.open(path, options));
        let opened = opened.map(|id| {
            let disk = Rc::clone(&owner.world.nodes.borrow()[owner.node].disk);
            Handle {
                port: owner,
                disk,
                id,
            }
        });
        move |_: &mut Tree| opened
    })
    .await?;
    Ok(SimFile {
        handle: Rc::new(handle),
        options,
    })
}

/// The error, or what `f` says.
fn unless<T>(fault: Option<io::Error>, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match fault {
        Some(e) => Err(e),
        None => f(),
    }
}

pub(crate) async fn rename(port: &Rc<Port>, from: &Path, to: &Path) -> io::Result<()> {
    let change = |tree: &mut Tree| tree.rename(from, to);
    change_names(port, change).await
}

pub(crate) async fn unlink(port: &Rc<Port>, path: &Path, is_dir: bool) -> io::Result<()> {
    change_names(port, |tree| tree.unlink(path, is_dir)).await
}

pub(crate) async fn make_dir(port: &Rc<Port>, path: &Path) -> io::Result<()> {
    change_names(port, |tree| tree.make_dir(path)).await
}

async fn change_names(
    port: &Rc<Port>,
    change: impl FnOnce(&mut Tree) -> io::Result<()>,
) -> io::Result<()> {
    perform(port, Effort::Write, None, |tree, fault| {
        let changed = unless(fault, || change(tree));
        move |_: &mut Tree| changed
    })
    .await
}

pub(crate) async fn read_dir(port: &Rc<Port>, path: &Path) -> io::Result<Vec<DirEntry>> {
    ask(port, |tree| tree.read_dir(path)).await
}

pub(crate) async fn exists(port: &Rc<Port>, path: &Path) -> io::Result<bool> {
    ask(port, |tree| Ok(tree.exists(path))).await
}

pub(crate) async fn space(port: &Rc<Port>, _path: &Path) -> io::Result<Space> {
    ask(port, |tree| Ok(tree.space())).await
}

async fn ask<T: 'static>(
    port: &Rc<Port>,
    question: impl FnOnce(&Tree) -> io::Result<T>,
) -> io::Result<T> {
    perform(port, Effort::Read, None, |tree, fault| {
        let answer = unless(fault, || question(tree));
        move |_: &mut Tree| answer
    })
    .await
}

pub(crate) async fn sync_dir(port: &Rc<Port>, path: &Path) -> io::Result<()> {
    perform(port, Effort::Sync, None, |tree, fault| {
        let begun = unless(fault, || tree.begin_sync_dir(path));
        move |tree: &mut Tree| {
            let (dir, mark) = begun?;
            tree.finish_sync_dir(dir, mark);
            Ok(())
        }
    })
    .await
}

impl SimFile {
    fn port(&self) -> &Rc<Port> {
        &self.handle.port
    }

    fn keep(&self) -> Option<Rc<Handle>> {
        Some(Rc::clone(&self.handle))
    }

    /// As the kernel answers an operation that the file was not opened for.
    fn check_mode(&self, allowed: bool) -> io::Result<()> {
        if allowed {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
    }

    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.check_mode(self.options.read)?;
        let id = self.handle.id;
        perform(self.port(), Effort::Read, self.keep(), |_, fault| {
            move |tree: &mut Tree| {
                let bytes = unless(fault, || Ok(tree.file(id).read(offset, len)))?;
                let mut aligned = AlignedBuf::with_capacity(bytes.len());
                aligned.extend_from_slice(&bytes);
                Ok(aligned.freeze())
            }
        })
        .await
    }

    pub(crate) async fn write_at(
        &self,
        data: Bytes,
        offset: u64,
        durability: Durability,
    ) -> io::Result<()> {
        self.check_mode(self.options.write)?;
        let id = self.handle.id;
        let effort = match durability {
            Durability::Volatile => Effort::Write,
            Durability::Synced => Effort::Sync,
        };
        perform(self.port(), effort, self.keep(), |tree, fault| {
            let end = offset + data.len() as u64;
            let missing = tree.file(id).missing_bytes(offset..end);
            let begun = tree
                .check_space(missing)
                .map(|()| tree.file(id).begin_write(offset, data));
            move |tree: &mut Tree| {
                let change = begun?;
                let (file, random) = tree.file_and_random(id);
                match (fault, durability) {
                    (Some(e), _) => {
                        file.fail(change, random);
                        return Err(e);
                    }
                    (None, Durability::Volatile) => file.finish(change),
                    (None, Durability::Synced) => file.finish_synced(change),
                }
                Ok(())
            }
        })
        .await
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        let id = self.handle.id;
        perform(self.port(), Effort::Sync, self.keep(), |tree, fault| {
            let mark = tree.file(id).begin_sync();
            move |tree: &mut Tree| {
                let (file, random) = tree.file_and_random(id);
                match fault {
                    Some(e) => {
                        file.fail_sync(mark, random);
                        Err(e)
                    }
                    None => {
                        file.finish_sync(mark);
                        Ok(())
                    }
                }
            }
        })
        .await
    }

    pub(crate) async fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_mode(self.options.write)?;
        let id = self.handle.id;
        perform(self.port(), Effort::Write, self.keep(), |tree, fault| {
            let change = tree.file(id).begin_set_len(len);
            finish_or_fail(id, Ok(change), fault)
        })
        .await
    }

    pub(crate) async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_mode(self.options.write)?;
        let id = self.handle.id;
        perform(self.port(), Effort::Write, self.keep(), |tree, fault| {
            let range = offset..offset + len;
            let room = {
                let missing = tree.file(id).missing_bytes(range.clone());
                tree.check_space(missing)
            };
            let begun = room.map(|()| tree.file(id).begin_allocate(range));
            finish_or_fail(id, begun, fault)
        })
        .await
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self
            .handle
            .disk
            .tree
            .borrow_mut()
            .file(self.handle.id)
            .len())
    }
}

/// Completes a change that leaves nothing behind when it fails.
fn finish_or_fail(
    id: InodeId,
    begun: io::Result<u64>,
    fault: Option<io::Error>,
) -> impl FnOnce(&mut Tree) -> io::Result<()> {
    move |tree: &mut Tree| {
        let change = begun?;
        let (file, random) = tree.file_and_random(id);
        match fault {
            Some(e) => {
                file.fail(change, random);
                Err(e)
            }
            None => {
                file.finish(change);
                Ok(())
            }
        }
    }
}
