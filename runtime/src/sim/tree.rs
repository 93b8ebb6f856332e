//! The simulated disk of a node: names, files, and its faults.
//!
//! # What may go wrong (the fault model)
//!
//! The disk behaves like a journaling file system on a device with a volatile cache:
//!
//! * **Data.** A completed write is seen by readers, but it is on the platter only after a later
//!   sync of the same file, or at its own completion if it was [`Synced`](crate::Durability).
//!   At a power loss each 512-byte sector of each other write, completed or in flight, is kept or
//!   lost by the seed: whole writes, prefixes, or any subset; in any order. A sector itself is
//!   never torn.
//! * **Length and allocation** change with writes, `set_len` and `allocate`. At a power loss the
//!   first few of a file's unsynced changes survive, by the seed. A length that survives without
//!   its data shows zeros.
//! * **Names.** Creates, renames and removes are durable only after `sync_dir` of their directory.
//!   At a power loss the first few of a directory's unsynced changes survive. A rename is atomic.
//!   A synced file whose name was never synced may be gone; a removed one may be back.
//! * **A killed process** (not a power loss) loses nothing that was completed.
//! * **Errors.** An operation fails by number, by probability, or for want of space. A failed write
//!   may have written some sectors. After a failed sync the changes it covered are forgotten:
//!   readers see them, a later sync succeeds, and the platter may never get them.
//! * **Time.** Operations take seeded times and overtake each other; a disk can be slow or stall.
//! * **Damage.** A test may flip bits. Nothing else damages what is durable: the platter never lies,
//!   and a read of undamaged sectors returns what was written.
//!
//! So whoever syncs what it acknowledges, and its directory after creating a file, loses nothing;
//! a simulation that shows a loss shows a bug.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::inode::Inode;
use super::random::Random;
use crate::disk::{DirEntry, OpenOptions, Space};

pub(crate) type InodeId = u64;

const ROOT: InodeId = 0;

/// What a disk says of its size when it has no limit, in bytes.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// A directory's names, as seen and as on the platter.
#[derive(Clone, Default, Debug)]
struct Dir {
    live: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Inode),
    Dir(Dir),
}

/// One atomic change of names: in each directory a name gets a target or loses it.
#[derive(Clone, Debug)]
struct NameChange {
    number: u64,
    edits: Vec<(InodeId, String, Option<InodeId>)>,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<InodeId, Node>,
    next_id: InodeId,
    /// Not durable, in order.
    changes: Vec<NameChange>,
    /// Changes made so far, durable ones included: what a sync can cover.
    changes_made: u64,
    /// A name went away since the last sweep, so that something may be out of reach.
    unswept: bool,
    handles: BTreeMap<InodeId, usize>,
    capacity_bytes: Option<u64>,
    pub(crate) random: Random,
}

/// What a power loss at some moment would have left at least: names and files that were synced.
#[derive(Clone, Debug)]
pub(crate) struct Platter {
    nodes: BTreeMap<InodeId, Node>,
    next_id: InodeId,
}

impl Tree {
    pub(crate) fn copy_of_the_platter(&self) -> Platter {
        let nodes = self.nodes.iter().map(|(id, node)| {
            let durable = match node {
                Node::File(file) => Node::File(file.copy_of_the_platter()),
                Node::Dir(dir) => Node::Dir(Dir {
                    live: dir.durable.clone(),
                    durable: dir.durable.clone(),
                }),
            };
            (*id, durable)
        });
        Platter {
            nodes: nodes.collect(),
            next_id: self.next_id,
        }
    }

    /// Holds what the platter held, and nothing else. Nobody has a file open.
    pub(crate) fn become_copy(&mut self, platter: &Platter) {
        self.nodes = platter.nodes.clone();
        self.next_id = platter.next_id.max(self.next_id);
        self.changes.clear();
        self.handles.clear();
        self.unswept = true;
        self.sweep();
    }

    pub(crate) fn new(random: Random, capacity_bytes: Option<u64>) -> Tree {
        Tree {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_id: ROOT + 1,
            changes: Vec::new(),
            changes_made: 0,
            unswept: false,
            handles: BTreeMap::new(),
            capacity_bytes,
            random,
        }
    }

    pub(crate) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity_bytes = bytes;
    }

    /// Opens a file and counts the handle.
    pub(crate) fn open(&mut self, path: &Path, o: OpenOptions) -> io::Result<InodeId> {
        if !o.read && !o.write {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (dir, name) = self.place(path)?;
        let id = match self.dir(dir)?.live.get(&name) {
            Some(_) if o.create_new => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(&id) => id,
            None if o.create || o.create_new => {
                let id = self.add(Node::File(Inode::default()));
                self.change(vec![(dir, name, Some(id))]);
                id
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let Some(Node::File(file)) = self.nodes.get_mut(&id) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        if o.truncate && file.len() > 0 {
            let change = file.begin_set_len(0);
            file.finish(change);
        }
        *self.handles.entry(id).or_default() += 1;
        Ok(id)
    }

    /// Closes one handle.
    pub(crate) fn close(&mut self, id: InodeId) {
        let Some(count) = self.handles.get_mut(&id) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.handles.remove(&id);
            self.sweep();
        }
    }

    /// The file behind an open handle.
    pub(crate) fn file(&mut self, id: InodeId) -> &mut Inode {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file,
            other => panic!("an open file is {other:?}"),
        }
    }

    /// The file behind an open handle, and the disk's random stream.
    pub(crate) fn file_and_random(&mut self, id: InodeId) -> (&mut Inode, &mut Random) {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => (file, &mut self.random),
            other => panic!("an open file is {other:?}"),
        }
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let id = self.lookup(from_dir, &from_name)?;
        if let Some(&target) = self.dir(to_dir)?.live.get(&to_name) {
            if target == id {
                return Ok(());
            }
            match (&self.nodes[&id], &self.nodes[&target]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir(_), Node::Dir(dir)) if dir.live.is_empty() => {}
                (Node::Dir(_), Node::Dir(_)) => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (Node::Dir(_), Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                (Node::File(_), Node::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            }
        }
        self.change(vec![
            (from_dir, from_name, None),
            (to_dir, to_name, Some(id)),
        ]);
        Ok(())
    }

    pub(crate) fn unlink(&mut self, path: &Path, is_dir: bool) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let id = self.lookup(dir, &name)?;
        match &self.nodes[&id] {
            Node::File(_) if is_dir => return Err(io::ErrorKind::NotADirectory.into()),
            Node::Dir(_) if !is_dir => return Err(io::ErrorKind::IsADirectory.into()),
            Node::Dir(inner) if !inner.live.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    pub(crate) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        if self.dir(dir)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.add(Node::Dir(Dir::default()));
        self.change(vec![(dir, name, Some(id))]);
        Ok(())
    }

    pub(crate) fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.resolve(path)?)?;
        let describe = |(name, id): (&String, &InodeId)| match &self.nodes[id] {
            Node::File(file) => DirEntry {
                name: name.clone(),
                is_dir: false,
                len: file.len(),
            },
            Node::Dir(_) => DirEntry {
                name: name.clone(),
                is_dir: true,
                len: 0,
            },
        };
        Ok(dir.live.iter().map(describe).collect())
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_ok()
    }

    pub(crate) fn space(&self) -> Space {
        let total_bytes = self.capacity_bytes.unwrap_or(UNLIMITED_BYTES);
        let available_bytes = total_bytes.saturating_sub(self.used_bytes());
        Space {
            total_bytes,
            available_bytes,
        }
    }

    /// `StorageFull` if so many more bytes do not fit.
    pub(crate) fn check_space(&self, more_bytes: u64) -> io::Result<()> {
        let free = |capacity: u64| capacity.saturating_sub(self.used_bytes());
        match self.capacity_bytes {
            Some(capacity) if more_bytes > 0 && more_bytes > free(capacity) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        let bytes = |node: &Node| match node {
            Node::File(file) => file.allocated_bytes(),
            Node::Dir(_) => 0,
        };
        self.nodes.values().map(bytes).sum()
    }

    /// Takes note of what a sync of a directory that begins now will cover.
    pub(crate) fn begin_sync_dir(&self, path: &Path) -> io::Result<(InodeId, u64)> {
        let id = self.resolve(path)?;
        self.dir(id)?;
        Ok((id, self.changes_made))
    }

    /// Completes the sync of a directory. Changes of other directories that its changes build on
    /// go with them, as in one journal.
    pub(crate) fn finish_sync_dir(&mut self, dir: InodeId, mark: u64) {
        let mut dirs = BTreeSet::from([dir]);
        let mut due = BTreeSet::new();
        for change in self.changes.iter().rev().filter(|c| c.number < mark) {
            if change.edits.iter().any(|(dir, ..)| dirs.contains(dir)) {
                due.insert(change.number);
                dirs.extend(change.edits.iter().map(|(dir, ..)| *dir));
            }
        }
        for change in std::mem::take(&mut self.changes) {
            if due.contains(&change.number) {
                self.persist(&change);
            } else {
                self.changes.push(change);
            }
        }
        self.sweep();
    }

    /// Power loss: see the fault model. Handles are gone.
    pub(crate) fn lose_power(&mut self) {
        let mut cut_off = BTreeSet::new();
        let goes_on = self.random.below(3);
        for change in std::mem::take(&mut self.changes) {
            let blocked = change.edits.iter().any(|(dir, ..)| cut_off.contains(dir));
            let kept = match goes_on {
                0 => false,
                1 => true,
                _ => self.random.coin(),
            };
            if blocked || !kept {
                cut_off.extend(change.edits.iter().map(|(dir, ..)| *dir));
            } else {
                self.persist(&change);
            }
        }
        self.handles.clear();
        self.unswept = true;
        let random = &mut self.random;
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.lose_power(random),
                Node::Dir(dir) => dir.live = dir.durable.clone(),
            }
        }
        self.sweep();
    }

    /// The process ends, the system lives.
    pub(crate) fn lose_process(&mut self) {
        self.handles.clear();
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.lose_process(&mut self.random);
            }
        }
        self.sweep();
    }

    /// What the platter holds of a file: up to `len` bytes at `offset`. `None` if the platter
    /// knows no such file.
    pub(crate) fn durable(&self, path: &Path, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.durable_file(path)
            .map(|file| file.durable().read(offset, len))
    }

    /// Calls `look` with the pages of a file on the platter that hold anything, from the one with this offset on, until
    /// it gives something.
    pub(crate) fn look_through<T>(
        &self,
        path: &Path,
        from: u64,
        look: impl FnMut((u64, &[u8])) -> Option<T>,
    ) -> Option<T> {
        let file = self.durable_file(path)?;
        file.durable().pages_from(from).find_map(look)
    }

    /// Length of a file on the platter.
    pub(crate) fn durable_len(&self, path: &Path) -> Option<u64> {
        self.durable_file(path).map(|file| file.durable().len())
    }

    /// Paths of all files whose names are on the platter, sorted.
    pub(crate) fn durable_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = open.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => {
                    open.extend(dir.durable.iter().map(|(name, id)| (path.join(name), *id)));
                }
                Some(Node::File(_)) => files.push(path),
                None => {}
            }
        }
        files.sort();
        files
    }

    fn durable_file(&self, path: &Path) -> Option<&Inode> {
        let mut at = ROOT;
        for name in names(path).ok()? {
            match self.nodes.get(&at)? {
                Node::Dir(dir) => at = *dir.durable.get(name)?,
                Node::File(_) => return None,
            }
        }
        match self.nodes.get(&at)? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    /// Inverts a bit of a file, as seen and on the platter. False if there is no such byte.
    pub(crate) fn flip(&mut self, path: &Path, offset: u64, bit: u8) -> bool {
        let Ok(id) = self.resolve(path) else {
            return false;
        };
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file.flip(offset, bit),
            _ => false,
        }
    }

    fn add(&mut self, node: Node) -> InodeId {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        id
    }

    fn change(&mut self, edits: Vec<(InodeId, String, Option<InodeId>)>) {
        for (dir, name, target) in &edits {
            let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) else {
                continue;
            };
            let before = match target {
                Some(id) => dir.live.insert(name.clone(), *id),
                None => dir.live.remove(name),
            };
            self.unswept |= before.is_some();
        }
        self.changes.push(NameChange {
            number: self.changes_made,
            edits,
        });
        self.changes_made += 1;
    }

    fn persist(&mut self, change: &NameChange) {
        for (dir, name, target) in &change.edits {
            let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) else {
                continue;
            };
            match target {
                Some(id) => dir.durable.insert(name.clone(), *id),
                None => dir.durable.remove(name),
            };
        }
    }

    /// Forgets files and directories that nobody can reach any more. Waits until no change of
    /// names is pending, since that may still need them.
    fn sweep(&mut self) {
        if !self.unswept || !self.changes.is_empty() {
            return;
        }
        self.unswept = false;
        let mut reached = BTreeSet::new();
        let mut stack: Vec<InodeId> = vec![ROOT];
        stack.extend(self.handles.keys());
        while let Some(id) = stack.pop() {
            if !reached.insert(id) {
                continue;
            }
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                stack.extend(dir.live.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }

    fn resolve(&self, path: &Path) -> io::Result<InodeId> {
        let mut at = ROOT;
        for name in names(path)? {
            at = self.lookup(at, name)?;
        }
        Ok(at)
    }

    /// The directory that holds a path's last name, and that name.
    fn place(&self, path: &Path) -> io::Result<(InodeId, String)> {
        let mut parts = names(path)?;
        let Some(last) = parts.pop() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut at = ROOT;
        for name in parts {
            at = self.lookup(at, name)?;
        }
        self.dir(at)?;
        Ok((at, last.to_owned()))
    }

    fn lookup(&self, dir: InodeId, name: &str) -> io::Result<InodeId> {
        let found = self.dir(dir)?.live.get(name);
        found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn dir(&self, id: InodeId) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

/// A path's names from the root, which is also the working directory.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name),
                None => return Err(io::ErrorKind::InvalidInput.into()),
            },
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
