//! The kernel's questions, and the answers in its words.
//!
//! What never changes the kernel may remember for a day: names, attributes, bytes. What stands on a disk that is written it
//! asks again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackingId, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::answers::{Answers, Seek};
use crate::errno::Refusal;
use crate::numbers::Place;

/// How long the kernel may remember what does not change.
const FOR_LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that the kernel may ask for or bring at once, which it limits to 1 MiB unless it is told otherwise.
const LARGEST: u32 = 1 << 20;
/// Requests that the kernel may have under way on its own account: enough to read well ahead.
const UNDER_WAY: u16 = 64;

thread_local! {
    /// What a thread reads into, kept for the next time.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A mount, as the kernel sees it.
#[derive(Debug)]
pub(crate) struct Serve {
    answers: Arc<Answers>,
    /// Whether the kernel reads files of the host by itself.
    passthrough: bool,
    /// The files that it does so with, by node: one for all who open it.
    backing: Mutex<HashMap<usize, Arc<BackingId>>>,
}

impl Serve {
    pub(crate) fn new(answers: Arc<Answers>) -> Self {
        Self { answers, passthrough: false, backing: Mutex::default() }
    }

    fn guarded<T>(
        &self,
        what: &'static str,
        number: INodeNo,
        work: impl FnOnce(Place) -> Result<T, Refusal>,
    ) -> Result<T, Errno> {
        self.answers.guarded(what, number.0, || work(self.answers.place(number.0)?))
    }

    /// How long the kernel may remember what it is told of `place`.
    fn memory(&self, place: Place) -> Duration {
        if self.answers.may_change(place) { Duration::ZERO } else { FOR_LONG }
    }

    /// What the kernel may keep of a file's bytes. A disk and its partitions are files that show the same bytes: where they are
    /// written, a page that is kept of one would be old when the other is written.
    fn caching(&self, place: Place) -> FopenFlags {
        match place {
            _ if !self.answers.may_change(place) => FopenFlags::FOPEN_KEEP_CACHE,
            Place::Node(_) => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES,
            Place::File(..) => FopenFlags::FOPEN_DIRECT_IO,
        }
    }

    /// The file that the kernel reads a disk from by itself, where it can.
    fn backing(&self, place: Place, reply: &ReplyOpen) -> Option<Arc<BackingId>> {
        let Place::Node(node) = place else { return None };
        let file = self.answers.disk(node).ok()?.file().filter(|_| self.passthrough)?;
        let mut backing = self.backing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = backing.get(&node) {
            return Some(Arc::clone(known));
        }
        // Only root may; without it the bytes go through here.
        let made = Arc::new(reply.open_backing(file).ok()?);
        backing.insert(node, Arc::clone(&made));
        Some(made)
    }
}

impl Filesystem for Serve {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Kernels that lack one of these do without.
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            let _ = config.add_capabilities(wish);
        }
        self.passthrough =
            config.set_max_stack_depth(1).is_ok() && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        // Each may be refused with the nearest that is possible.
        if let Err(possible) = config.set_max_write(LARGEST) {
            let _ = config.set_max_write(possible);
        }
        if let Err(possible) = config.set_max_readahead(LARGEST) {
            let _ = config.set_max_readahead(possible);
        }
        let _ = config.set_max_background(UNDER_WAY);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.guarded("lookup", parent, |place| {
            let found = self.answers.lookup(place, name.as_bytes())?;
            Ok((found, self.answers.attributes(found)?))
        });
        match found {
            Ok((place, attributes)) => reply.entry(&self.memory(place), &attributes, Generation(0)),
            Err(number) => reply.error(number),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.guarded("stat", number, |place| Ok((place, self.answers.attributes(place)?))) {
            Ok((place, attributes)) => reply.attr(&self.memory(place), &attributes),
            Err(number) => reply.error(number),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let answer = self.guarded("change", number, |place| {
            let attributes = self.answers.attributes(place)?;
            // A disk has the size it has. Times are those of the mount: asking for others does no harm.
            let other_size = size.is_some_and(|size| size != attributes.size);
            match place {
                Place::File(..) => Err(Refusal::READ_ONLY),
                Place::Node(_) if other_size || mode.is_some() || uid.is_some() || gid.is_some() => {
                    Err(Refusal::of(Errno::EPERM))
                }
                Place::Node(_) => Ok((place, attributes)),
            }
        });
        match answer {
            Ok((place, attributes)) => reply.attr(&self.memory(place), &attributes),
            Err(number) => reply.error(number),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.guarded("readlink", number, |place| self.answers.read_link(place)) {
            Ok(target) => reply.data(&target),
            Err(number) => reply.error(number),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let for_writing = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let opened = self.guarded("open", number, |place| Ok((place, self.answers.open(place, for_writing)?)));
        let (place, handle) = match opened {
            Ok(opened) => opened,
            Err(number) => return reply.error(number),
        };
        if let Some(backing) = self.backing(place, &reply) {
            return reply.opened_passthrough(FileHandle(handle), FopenFlags::empty(), &backing);
        }
        reply.opened(FileHandle(handle), self.caching(place));
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let room = &mut buffer[..size];
            match self.answers.guarded("read", number.0, || self.answers.read(handle.0, offset, room)) {
                Ok(length) => reply.data(&buffer[..length]),
                Err(number) => reply.error(number),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || self.answers.change(handle.0, |disk| disk.write(data, offset));
        match self.answers.guarded("write", number.0, write) {
            Ok(length) => reply.written(length),
            Err(number) => reply.error(number),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // At a `close`: what was written is written, and `fsync` is another question.
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let flush = || self.answers.change(handle.0, crate::Disk::flush);
        match self.answers.guarded("fsync", number.0, flush) {
            Ok(()) => reply.ok(),
            // There is nothing to flush of what is only read.
            Err(refused) if refused.code() == Errno::EROFS.code() => reply.ok(),
            Err(number) => reply.error(number),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = || self.answers.change(handle.0, |disk| disk.allocate(offset, length, mode));
        match self.answers.guarded("fallocate", number.0, allocate) {
            Ok(()) => reply.ok(),
            Err(number) => reply.error(number),
        }
    }

    fn lseek(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        const SEEK_DATA: i32 = 3;
        const SEEK_HOLE: i32 = 4;
        let found = self.answers.guarded("lseek", number.0, || {
            let wanted = match whence {
                SEEK_DATA => Seek::Data,
                SEEK_HOLE => Seek::Hole,
                _ => return Err(Refusal::INVALID),
            };
            let offset = u64::try_from(offset).map_err(|_| Refusal::of(Errno::ENXIO))?;
            let found = self.answers.seek(handle.0, offset, wanted)?;
            i64::try_from(found).map_err(|_| Refusal::of(Errno::EOVERFLOW))
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(number) => reply.error(number),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.answers.close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.guarded("list", number, |place| Ok((place, self.answers.open_folder(place)?)));
        match opened {
            Ok((place, handle)) => {
                let keep = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
                let keep = if self.answers.may_change(place) { FopenFlags::empty() } else { keep };
                reply.opened(FileHandle(handle), keep);
            }
            Err(number) => reply.error(number),
        }
    }

    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.answers.guarded("list", number.0, || {
            let list = self.answers.entries(handle.0)?;
            let first = usize::try_from(offset).unwrap_or(usize::MAX);
            for (at, name) in list.iter().enumerate().skip(first) {
                let kind = self.answers.kind(name);
                if reply.add(INodeNo(name.number), at as u64 + 1, kind, OsStr::from_bytes(&name.name)) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(number) => reply.error(number),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.answers.guarded("list", number.0, || {
            let list = self.answers.entries(handle.0)?;
            let first = usize::try_from(offset).unwrap_or(usize::MAX);
            for (at, name) in list.iter().enumerate().skip(first) {
                // One file that cannot be looked at does not hide the others: who asks for it gets its error.
                let (attributes, memory) = match self.answers.attributes(name.place) {
                    Ok(attributes) => (attributes, self.memory(name.place)),
                    Err(_) => (self.answers.placeholder(name), Duration::ZERO),
                };
                let file = OsStr::from_bytes(&name.name);
                if reply.add(INodeNo(name.number), at as u64 + 1, file, &memory, &attributes, Generation(0)) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(number) => reply.error(number),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.answers.close(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        match self.guarded("statfs", number, |place| self.answers.sizes(place)) {
            Ok(sizes) => reply.statfs(sizes.blocks, 0, 0, 0, 0, sizes.block, 255, sizes.block),
            Err(number) => reply.error(number),
        }
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let found = self.guarded("xattr", number, |place| {
            let all = self.answers.xattrs(place)?;
            let found = all.into_iter().find(|xattr| xattr.name == name.as_bytes());
            found.map(|xattr| xattr.value).ok_or(Refusal::of(Errno::NO_XATTR))
        });
        answer_xattr(reply, size, found);
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.guarded("xattrs", number, |place| {
            let all = self.answers.xattrs(place)?;
            let names = all.iter().filter(|xattr| !xattr.name.is_empty() && !xattr.name.contains(&0));
            Ok(names.flat_map(|xattr| xattr.name.iter().copied().chain([0])).collect())
        });
        answer_xattr(reply, size, names);
    }
}

/// Answers with a value, or with its size where that is what the caller wants to know.
fn answer_xattr(reply: ReplyXattr, room: u32, value: Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(length) if room == 0 => reply.size(length),
            Ok(length) if length <= room => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
        Err(number) => reply.error(number),
    }
}
