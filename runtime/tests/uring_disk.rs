//! Files through the ring, in a real directory.

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use runtime::{
    ALIGN, AlignedBuf, AppendBuf, Core, Durability, Inbox, OpenOptions, join_all, timeout, uring,
};

/// A directory of its own for each test, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not the system's temporary directory: that is often tmpfs, without direct I/O.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = base.join(format!("disk-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_core<F, Fut>(test: F)
where
    F: Fn(Core, PathBuf) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let scratch = Scratch::new();
    let path = scratch.0.clone();
    let main = move |core, _post, _inbox| test(core, path.clone());
    let node = uring::launch::<(), _, _>(uring::Options::cores(1), main).unwrap();
    if let Err(panic) = node.join() {
        panic!("{panic}");
    }
}

fn aligned(byte: u8, count: usize) -> Bytes {
    let mut buf = AlignedBuf::with_capacity(count);
    buf.resize(count, byte);
    buf.freeze()
}

#[test]
fn buffered_files_read_what_was_written() {
    on_core(|core, dir| async move {
        let disk = core.disk();
        let path = dir.join("file");
        assert_eq!(
            disk.open(&path, OpenOptions::READ)
                .await
                .err()
                .unwrap()
                .kind(),
            { ErrorKind::NotFound }
        );
        let file = disk.open(&path, OpenOptions::CREATE_NEW).await.unwrap();
        let again = disk
            .open(&path, OpenOptions::CREATE_NEW)
            .await
            .err()
            .unwrap();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        file.write_at(Bytes::from_static(b"hello"), 3, Durability::Volatile)
            .await
            .unwrap();
        file.write_at(Bytes::from_static(b"J"), 3, Durability::Synced)
            .await
            .unwrap();
        file.write_at(Bytes::new(), 9999, Durability::Synced)
            .await
            .unwrap();
        assert_eq!(file.len().await.unwrap(), 8);
        let whole = file.read_at(0, 100).await.unwrap();
        assert_eq!(whole, &b"\0\0\0Jello"[..]);
        assert_eq!(file.read_at(5, 2).await.unwrap(), &b"ll"[..]);
        assert!(file.read_at(8, 10).await.unwrap().is_empty());
        file.set_len(4).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap(), &b"\0\0\0J"[..]);
        file.allocate(0, 10_000).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 10_000);
        file.sync_all().await.unwrap();
        drop(file);
        let file = disk
            .open(&path, OpenOptions::CREATE.truncate())
            .await
            .unwrap();
        assert_eq!(file.len().await.unwrap(), 0);
        let read_only = disk.open(&path, OpenOptions::READ).await.unwrap();
        let refused = read_only
            .write_at(Bytes::from_static(b"x"), 0, Durability::Volatile)
            .await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(9));
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn a_read_beyond_one_page_returns_all_of_it() {
    on_core(|core, dir| async move {
        let content: Vec<u8> = (0..1_000_003u32).map(|i| (i / 7) as u8).collect();
        let path = dir.join("large");
        core.disk().replace(&path, &content).await.unwrap();
        assert_eq!(core.disk().read_to_end(&path).await.unwrap(), content);
        let file = core.disk().open(&path, OpenOptions::READ).await.unwrap();
        assert_eq!(file.read_at(5, 1 << 20).await.unwrap(), &content[5..]);
    });
}

#[test]
fn direct_files_take_aligned_memory() {
    on_core(|core, dir| async move {
        let path = dir.join("direct");
        let file = match core.disk().open(&path, OpenOptions::CREATE.direct()).await {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::InvalidInput => {
                return println!("SKIPPED (1): {} refuses direct I/O", dir.display());
            }
            Err(e) => panic!("{e}"),
        };
        assert!(file.is_direct());
        let mut journal = AppendBuf::with_capacity(8 * ALIGN);
        let frame = journal.append(b"a frame");
        journal.pad_to(ALIGN);
        let block = journal.slice(frame.start..journal.len());
        file.write_at(block, 0, Durability::Synced).await.unwrap();
        // Writes of several blocks, all at once.
        let writes = (1..9u64).map(|i| {
            let file = file.clone();
            async move {
                let data = aligned(i as u8, 2 * ALIGN);
                file.write_at(data, (2 * i - 1) * ALIGN as u64, Durability::Volatile)
                    .await
            }
        });
        for written in join_all(writes).await {
            written.unwrap();
        }
        file.sync_data().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 17 * ALIGN as u64);
        let head = file.read_at(0, ALIGN).await.unwrap();
        assert_eq!(&head[..8], b"a frame\0");
        let tail = file.read_at(15 * ALIGN as u64, 4 * ALIGN).await.unwrap();
        assert_eq!(tail.len(), 2 * ALIGN, "short at the end of the file");
        assert!(tail.iter().all(|&b| b == 8));
        assert_eq!(tail.as_ptr() as usize % ALIGN, 0);
    });
}

#[test]
fn direct_reads_end_at_an_odd_length() {
    on_core(|core, dir| async move {
        let path = dir.join("odd");
        core.disk().replace(&path, &[7; 5000]).await.unwrap();
        let Ok(file) = core.disk().open(&path, OpenOptions::READ.direct()).await else {
            return println!("SKIPPED (1): {} refuses direct I/O", dir.display());
        };
        assert_eq!(file.read_at(0, 4 * ALIGN).await.unwrap(), &[7; 5000][..]);
        assert_eq!(
            file.read_at(ALIGN as u64, ALIGN).await.unwrap().len(),
            5000 - ALIGN
        );
    });
}

#[test]
fn misaligned_direct_writes_are_our_own_bug() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let main = move |core: Core, _, _| {
        let path = path.clone();
        async move {
            let file = core
                .disk()
                .open(&path, OpenOptions::CREATE.direct())
                .await
                .unwrap();
            let off_by_one = aligned(0, 2 * ALIGN).slice(1..ALIGN + 1);
            let _ = file.write_at(off_by_one, 0, Durability::Volatile).await;
        }
    };
    let node = uring::launch::<(), _, _>(uring::Options::cores(1), main).unwrap();
    let message = node.join().unwrap_err().message;
    if message.contains("InvalidInput") {
        return println!("SKIPPED (1): the file system refuses direct I/O");
    }
    assert!(
        message.contains("direct write of memory at 0x"),
        "{message}"
    );
}

#[test]
fn directories_are_made_listed_and_removed() {
    on_core(|core, dir| async move {
        let disk = core.disk();
        let deep = dir.join("a/b/c");
        disk.create_dir_all(&deep).await.unwrap();
        disk.create_dir_all(&deep).await.unwrap();
        disk.replace(&deep.join("two"), b"22").await.unwrap();
        disk.replace(&deep.join("one"), b"1").await.unwrap();
        disk.replace(&deep.join("one"), b"111").await.unwrap();
        let names = |entries: Vec<runtime::DirEntry>| {
            entries
                .into_iter()
                .map(|e| (e.name, e.is_dir, e.len))
                .collect::<Vec<_>>()
        };
        let file = |name: &str, len| (name.to_string(), false, len);
        let listed = names(disk.read_dir(&deep).await.unwrap());
        assert_eq!(listed, [file("one", 3), file("two", 2)]);
        disk.rename(&deep.join("one"), &dir.join("a/moved"))
            .await
            .unwrap();
        disk.sync_dir(&dir.join("a")).await.unwrap();
        let listed = names(disk.read_dir(&dir.join("a")).await.unwrap());
        assert_eq!(listed, [("b".to_string(), true, 0), file("moved", 3)]);
        assert!(disk.exists(&dir.join("a/moved")).await.unwrap());
        assert!(
            !disk
                .exists(&dir.join("a/moved/under a file"))
                .await
                .unwrap()
        );
        disk.remove_file(&dir.join("a/moved")).await.unwrap();
        let gone = disk.remove_file(&dir.join("a/moved")).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        disk.remove_dir_all(&dir.join("a")).await.unwrap();
        assert!(!disk.exists(&dir.join("a")).await.unwrap());
        let space = disk.space(&dir).await.unwrap();
        assert!(space.available_bytes > 0 && space.available_bytes <= space.total_bytes);
    });
}

#[test]
fn dropped_operations_keep_their_memory_until_they_end() {
    on_core(|core, dir| async move {
        let file = core
            .disk()
            .open(&dir.join("file"), OpenOptions::CREATE)
            .await
            .unwrap();
        for i in 0..200u64 {
            let data = aligned(i as u8, 256 << 10);
            let write = file.write_at(data, i << 18, Durability::Synced);
            drop(timeout(&core, Duration::ZERO, write).await);
            drop(timeout(&core, Duration::ZERO, file.read_at(0, 1 << 20)).await);
        }
        file.sync_all().await.unwrap();
        for _ in 0..500 {
            if core.stats().ops_in_flight == 0 {
                return;
            }
            core.sleep(Duration::from_millis(10)).await;
        }
        panic!("{} operations were leaked", core.stats().ops_in_flight);
    });
}

#[test]
fn more_operations_than_the_ring_has_entries() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let options = uring::Options {
        ring_entries: 8,
        ..uring::Options::cores(1)
    };
    let main = move |core: Core, _, _| {
        let path = path.clone();
        async move {
            let file = core.disk().open(&path, OpenOptions::CREATE).await.unwrap();
            let write = |i: u64| {
                let file = file.clone();
                async move {
                    let data = Bytes::from(i.to_le_bytes().to_vec());
                    file.write_at(data, i * 8, Durability::Volatile)
                        .await
                        .unwrap();
                }
            };
            join_all((0..500).map(write)).await;
            let content = file.read_at(0, 4000).await.unwrap();
            for (i, chunk) in content.chunks(8).enumerate() {
                assert_eq!(chunk, (i as u64).to_le_bytes());
            }
            assert_eq!(content.len(), 4000);
        }
    };
    uring::launch::<(), _, _>(options, main)
        .unwrap()
        .join()
        .unwrap();
}

/// What a killed process had begun is not over yet when the process is.
#[test]
fn the_file_that_is_closed_last_outlives_its_descriptors() {
    let scratch = Scratch::new();
    let path = scratch.0.join("lock");
    let kept = std::fs::File::create(&path).unwrap();
    kept.lock().unwrap();
    let options = uring::Options {
        closed_last: Some(Arc::new(kept)),
        ..uring::Options::cores(2)
    };
    let (started, starts) = mpsc::channel();
    let main = move |core: Core, _post, mut inbox: Inbox<()>| {
        let started = started.clone();
        async move {
            started.send(()).unwrap();
            inbox.take().await;
            core.stop();
        }
    };
    let node = uring::launch(options, main).unwrap();
    starts.iter().take(2).count();
    let other = std::fs::File::open(&path).unwrap();
    assert!(other.try_lock().is_err(), "the rings have it");
    node.gateway().send(0, ());
    node.gateway().send(1, ());
    node.join().unwrap();
    other.lock().unwrap();
}
