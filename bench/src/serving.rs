//! Reads a disk from front to back through servers, ours and others': NBD to `nbdcopy`, FUSE to `dd`.
//!
//! ```text
//! cargo run --release --bin serving -- TRANSLOAD RAW QCOW2
//! ```
//!
//! Both images hold the same disk. The servers take turns; printed is the best of each, with the processor time of server and client. A peer that is not
//! installed is left out, and said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const ROUNDS: usize = 3;
/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and how it is read.
struct Case {
    name: &'static str,
    image: &'static str,
    /// Program and arguments; `{s}` is the socket, `{m}` the folder or file to mount on.
    server: Vec<String>,
    /// What a client reads: the socket, or a file of the mount.
    read: Read,
}

enum Read {
    Nbd,
    File(&'static str),
}

/// What one reading took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what| arguments.next().with_context(|| format!("the argument {what}"));
    let (program, raw, qcow2) = (next("TRANSLOAD")?, next("RAW")?, next("QCOW2")?);
    let folder = std::env::temp_dir().join(format!("transload-serving-{}", std::process::id()));
    fs::create_dir_all(folder.join("mnt"))?;
    fs::write(folder.join("file"), "")?;
    let outcome = measure(&cases(&program, &raw, &qcow2), &folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

fn cases(program: &str, raw: &str, qcow2: &str) -> Vec<Case> {
    let words = |text: &str| -> Vec<String> {
        let filled = text.replace("{t}", program).replace("{raw}", raw).replace("{qcow2}", qcow2);
        filled.split(' ').map(str::to_owned).collect()
    };
    let case = |name, image, server: &str, read| Case { name, image, server: words(server), read };
    let fuse = "--export type=fuse,id=e,node-name=d,mountpoint={m}/file,writable=off";
    let daemon = |format: &str, image: &str| {
        format!(
            "qemu-storage-daemon --blockdev driver=file,node-name=f,filename={image},read-only=on \
             --blockdev driver={format},node-name=d,file=f,read-only=on {fuse}"
        )
    };
    vec![
        case("NBD: transload", "raw", "{t} nbd -q -r --socket {s} {raw}", Read::Nbd),
        case("NBD: qemu-nbd", "raw", "qemu-nbd -f raw -r -t -e 16 -k {s} {raw}", Read::Nbd),
        case("NBD: nbdkit", "raw", "nbdkit -f -r -U {s} file {raw}", Read::Nbd),
        case("NBD: transload", "qcow2", "{t} nbd -q -r --socket {s} {qcow2}", Read::Nbd),
        case("NBD: qemu-nbd", "qcow2", "qemu-nbd -f qcow2 -r -t -e 16 -k {s} {qcow2}", Read::Nbd),
        case("FUSE: transload", "raw", "{t} mount -q {raw} {m}/mnt", Read::File("mnt/disk.raw")),
        case("FUSE: qemu-storage-daemon", "raw", &daemon("raw", "{raw}"), Read::File("file")),
        case("FUSE: transload", "qcow2", "{t} mount -q {qcow2} {m}/mnt", Read::File("mnt/disk.raw")),
        case("FUSE: qemu-storage-daemon", "qcow2", &daemon("qcow2", "{qcow2}"), Read::File("file")),
    ]
}

fn measure(cases: &[Case], folder: &Path) -> Result<()> {
    let mut best: Vec<Option<Took>> = vec![None; cases.len()];
    for round in 0..=ROUNDS {
        for (case, best) in cases.iter().zip(&mut best) {
            if round > 0 && best.is_none() {
                continue;
            }
            let took = match once(case, folder) {
                Ok(took) => took,
                Err(error) if round == 0 => {
                    eprintln!("{} of {}: left out: {error:#}", case.name, case.image);
                    continue;
                }
                Err(error) => return Err(error.context(case.name)),
            };
            // The first round brings the images into the page cache, and is not counted but to show that it works.
            *best = match *best {
                Some(before) if round > 1 => {
                    Some(Took { wall: before.wall.min(took.wall), cpu: before.cpu.min(took.cpu) })
                }
                _ => Some(took),
            };
        }
    }
    println!("| way | image | wall, s | processor, s |\n|---|---|---|---|");
    for (case, best) in cases.iter().zip(best) {
        if let Some(Took { wall, cpu }) = best {
            println!("| {} | {} | {wall:.2} | {cpu:.2} |", case.name, case.image);
        }
    }
    Ok(())
}

/// Starts the server, reads everything, and ends it.
fn once(case: &Case, folder: &Path) -> Result<Took> {
    let socket = folder.join("socket");
    drop(fs::remove_file(&socket));
    let place = |word: &String| {
        word.replace("{s}", &socket.display().to_string()).replace("{m}", &folder.display().to_string())
    };
    let words: Vec<_> = case.server.iter().map(place).collect();
    let mut server = Command::new(&words[0])
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", words[0]))?;
    let outcome = ready(case, folder, &mut server).and_then(|path| {
        let (begun, before) = (Instant::now(), cpu_of(server.id())? + cpu_of_children()?);
        let mut client = match case.read {
            Read::Nbd => {
                let mut copy = Command::new("nbdcopy");
                copy.arg(format!("nbd+unix:///?socket={}", path.display())).arg("null:");
                copy
            }
            Read::File(_) => {
                let mut copy = Command::new("dd");
                copy.arg(format!("if={}", path.display())).args(["of=/dev/null", "bs=1M", "status=none"]);
                copy
            }
        };
        let status = client.status().context("nbdcopy (libnbd-bin) and dd are the clients")?;
        if !status.success() {
            bail!("the client ended with {status}");
        }
        let cpu = cpu_of(server.id())? + cpu_of_children()? - before;
        Ok(Took { wall: begun.elapsed().as_secs_f64(), cpu })
    });
    // Both kinds of server unmount and remove their sockets at this signal.
    Command::new("kill").arg(server.id().to_string()).status()?;
    server.wait()?;
    outcome
}

/// Waits for the server, and says what is to be read.
fn ready(case: &Case, folder: &Path, server: &mut Child) -> Result<PathBuf> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (path, there) = match case.read {
            Read::Nbd => (folder.join("socket"), folder.join("socket").exists()),
            Read::File(name) => {
                let path = folder.join(name);
                let there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0);
                (path, there)
            }
        };
        if there {
            return Ok(path);
        }
        if let Some(status) = server.try_wait()? {
            bail!("the server ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("the server is not there in time");
        }
        sleep(Duration::from_millis(5));
    }
}

/// Processor seconds of a process that runs.
fn cpu_of(process: u32) -> Result<f64> {
    Ok(ticks(&format!("/proc/{process}/stat"), 11)? as f64 / 100.0)
}

/// Processor seconds of the children of this process that have ended.
fn cpu_of_children() -> Result<f64> {
    Ok(ticks("/proc/self/stat", 13)? as f64 / 100.0)
}

/// User and system time: the field `first` behind the name, and the one after it.
fn ticks(path: &str, first: usize) -> Result<u64> {
    let stat = fs::read_to_string(path)?;
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.to_owned())?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Ok(fields[first].parse::<u64>()? + fields[first + 1].parse::<u64>()?)
}
