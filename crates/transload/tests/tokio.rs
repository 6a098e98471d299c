//! The asynchronous view of a disk.
#![cfg(feature = "tokio")]

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncSeekExt};
use transload::block::{BlockRead, BlockReadExt, BlockWrite, ErrorKind, Memory, ZeroMode};
use transload::tokio::AsyncDisk;
use transload_testkit::{Counted, Misbehaving, Random};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn many_tasks_read_and_write_at_any_place() {
    let memory: Arc<dyn BlockWrite> = Arc::new(Memory::new(4 << 20));
    let disk = AsyncDisk::writable(Arc::clone(&memory)).with_requests(3);
    let models = runtime().block_on(async {
        let mut tasks = Vec::new();
        for number in 0..32_u64 {
            let disk = disk.clone();
            tasks.push(tokio::spawn(async move {
                let (base, mut random) = (number * 131_072, Random::new(number));
                let mut model = vec![0; 131_072];
                for _ in 0..30 {
                    let range = random.range(131_072, 20_000);
                    let (at, length) =
                        (usize::try_from(range.start).unwrap(), usize::try_from(range.end - range.start).unwrap());
                    match random.below(3) {
                        0 => {
                            let bytes = random.bytes(length);
                            model[at..at + length].copy_from_slice(&bytes);
                            disk.write_at(base + range.start, bytes).await.unwrap();
                        }
                        1 => {
                            model[at..at + length].fill(0);
                            let range = base + range.start..base + range.end;
                            disk.write_zeroes_at(range, ZeroMode::Unmap).await.unwrap();
                        }
                        _ => {
                            let found = disk.read_at(base + range.start, length).await.unwrap();
                            assert!(found == model[at..at + length]);
                        }
                    }
                }
                disk.flush().await.unwrap();
                model
            }));
        }
        let mut models = Vec::new();
        for task in tasks {
            models.extend(task.await.expect("no panic"));
        }
        models
    });
    assert!(memory.read_vec(0, 4 << 20).unwrap() == models);
}

#[test]
fn a_reader_is_a_stream_with_a_place() {
    let bytes = Random::new(1).bytes(1_000_003);
    let disk = AsyncDisk::new(Arc::new(Memory::from(bytes.clone())));
    runtime().block_on(async {
        let mut all = Vec::new();
        let mut reader = disk.reader();
        assert_eq!(reader.read_to_end(&mut all).await.unwrap(), bytes.len());
        assert!(all == bytes);
        let mut random = Random::new(2);
        for _ in 0..200 {
            let at = random.below(1_000_100);
            assert_eq!(reader.seek(SeekFrom::Start(at)).await.unwrap(), at);
            let mut part = vec![0; usize::try_from(random.below(5000)).unwrap()];
            let mut length = 0;
            while length < part.len() {
                match reader.read(&mut part[length..]).await.unwrap() {
                    0 => break,
                    count => length += count,
                }
            }
            let at = usize::try_from(at).unwrap().min(bytes.len());
            assert!(part[..length] == bytes[at..bytes.len().min(at + part.len())]);
        }
        assert_eq!(reader.seek(SeekFrom::End(-3)).await.unwrap(), 1_000_000);
        assert_eq!(reader.seek(SeekFrom::Current(1)).await.unwrap(), 1_000_001);
        assert!(reader.seek(SeekFrom::Current(-2_000_000)).await.is_err());
        assert_eq!(reader.read_u8().await.unwrap(), bytes[1_000_001]);
    });
}

#[test]
fn what_is_cancelled_loses_nothing() {
    let bytes = Random::new(4).bytes(700_000);
    let slow = Arc::new(Misbehaving::new(Arc::new(Memory::from(bytes.clone()))));
    let disk = AsyncDisk::new(Arc::clone(&slow) as Arc<dyn BlockRead>).with_requests(1);
    runtime().block_on(async {
        let mut reader = disk.reader();
        let mut all = Vec::new();
        let mut buffer = vec![0; 40_000];
        let mut cancelled = 0;
        while all.len() < bytes.len() {
            slow.hold(Counted::Reads);
            match tokio::time::timeout(Duration::from_millis(2), reader.read(&mut buffer)).await {
                Ok(count) => all.extend_from_slice(&buffer[..count.unwrap()]),
                Err(_) => {
                    cancelled += 1;
                    slow.behave();
                    let count = reader.read(&mut buffer).await.unwrap();
                    all.extend_from_slice(&buffer[..count]);
                }
            }
        }
        assert!(all == bytes && cancelled > 0, "{cancelled}");
        // A request that nobody waits for holds its turn until it is done, and gives it back.
        slow.hold(Counted::Reads);
        let first = tokio::time::timeout(Duration::from_millis(5), disk.read_at(0, 10)).await;
        assert!(first.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(5), disk.read_at(0, 10)).await.is_err());
        assert_eq!(slow.held(), 1);
        slow.behave();
        assert_eq!(disk.read_at(0, 10).await.unwrap(), bytes[..10]);
    });
}

#[test]
fn errors_are_the_disks_own() {
    let failing = Arc::new(Misbehaving::new(Arc::new(Memory::new(4096))));
    let disk = AsyncDisk::new(Arc::clone(&failing) as Arc<dyn BlockRead>);
    runtime().block_on(async {
        assert_eq!(disk.read_at(4000, 97).await.unwrap_err().kind(), ErrorKind::OutOfRange);
        assert_eq!(disk.read_at(u64::MAX, 1).await.unwrap_err().kind(), ErrorKind::OutOfRange);
        assert_eq!(disk.write_at(0, vec![1]).await.unwrap_err().kind(), ErrorKind::ReadOnly);
        failing.fail_from(Counted::Reads, 0, ErrorKind::Network);
        assert_eq!(disk.read_at(0, 1).await.unwrap_err().kind(), ErrorKind::Network);
        let error = disk.reader().read_u8().await.unwrap_err();
        assert!(error.to_string().contains("network") || error.get_ref().is_some(), "{error}");
        failing.behave();
        assert_eq!(AsyncDisk::open("/nowhere").await.unwrap_err().kind(), ErrorKind::Io);
    });
}
