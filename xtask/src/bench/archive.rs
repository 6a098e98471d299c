//! Archives of a real disk and of the same after a kernel upgrade, beside restic, borg and tar with zstd on the same files.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report;
use crate::process::{output, run};
use crate::tools;

/// The kernel of the upgrade: the newest signed one of the release, by the package that depends on it.
const KERNEL: &str = "linux-image-amd64";

/// Everything that is measured, in the folder that it is prepared in.
struct Bench<'a> {
    program: &'a Path,
    folder: PathBuf,
    /// The disk, and the one after the upgrade.
    disks: [PathBuf; 2],
    /// The files of the same, extracted for those who read no disks.
    trees: [PathBuf; 2],
}

/// What a program made of one disk and then of both.
struct Row {
    name: String,
    times: [Duration; 2],
    bytes: [u64; 2],
}

/// Measures, and writes or prints the table.
pub(super) fn run_all(program: &Path, disk: &Path, folder: &Path, print: bool) -> Result<()> {
    tools::install_packages(&["borgbackup", "restic", "zstd"])?;
    let bench = Bench::prepare(program, disk, folder.join("archive"))?;
    let mut rows = Vec::new();
    for (name, level) in
        [("transload", None), ("transload --max-level 6", Some("6")), ("transload --max-level 3", Some("3"))]
    {
        rows.push(bench.transload(name, level)?);
    }
    rows.push(bench.restic()?);
    rows.push(bench.borg()?);
    rows.push(bench.tar()?);
    let text = render(&rows)?;
    if print {
        println!("{text}");
        return Ok(());
    }
    report::write_into("archive.md", report::ARCHIVE, &text)
}

impl<'a> Bench<'a> {
    fn prepare(program: &'a Path, disk: &Path, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (second, first) = (folder.join("upgraded.raw"), disk.to_owned());
        let trees = [folder.join("tree"), folder.join("upgraded-tree")];
        let bench = Self { program, disks: [first, second], trees, folder };
        if !bench.disks[1].exists() {
            bench.upgrade()?;
        }
        for (disk, tree) in bench.disks.iter().zip(&bench.trees) {
            if !tree.exists() {
                std::fs::create_dir(tree)?;
                let from = format!("{}#2:/", disk.display());
                let mut tar = Command::new(program).args(["tar", &from]).stdout(Stdio::piped()).spawn()?;
                let pipe = tar.stdout.take().context("a pipe")?;
                run(Command::new("tar")
                    .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-x", "-C"])
                    .arg(tree)
                    .stdin(pipe))?;
                tar.wait()?;
            }
        }
        Ok(bench)
    }

    /// Copies the disk, and puts the files of a newer kernel into it beside those of the old one.
    fn upgrade(&self) -> Result<()> {
        let depends = output(Command::new("apt-cache").args(["depends", "--important", KERNEL]))?;
        let package =
            depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).context("the kernel's package")?;
        run(Command::new("apt-get").args(["download", package]).current_dir(&self.folder))?;
        let files = self.folder.join("kernel");
        let unpack = format!("dpkg-deb -x {package}_*.deb {}", files.display());
        run(Command::new("sh").args(["-c", &unpack]).current_dir(&self.folder))?;
        let partial = self.folder.join("upgraded.partial");
        run(Command::new("cp").arg("--sparse=always").arg(&self.disks[0]).arg(&partial))?;
        for (from, to) in [("boot", "/"), ("lib/modules", "/usr/lib")] {
            let target = format!("{}#2:{to}", partial.display());
            run(Command::new(self.program).args(["cp", "-r"]).arg(files.join(from)).arg(target))?;
        }
        std::fs::rename(&partial, &self.disks[1])?;
        Ok(())
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        Ok(path)
    }

    fn transload(&self, name: &str, level: Option<&str>) -> Result<Row> {
        let store = self.fresh("store")?;
        let command = |disk: &PathBuf| {
            let mut command = Command::new(self.program);
            command.args(["archive", "create", "--name", "vm", "-q", "-o"]).arg(&store).arg(disk);
            command.args(level.iter().flat_map(|level| ["--max-level", level]));
            command
        };
        both(name, self.disks.each_ref().map(command), || folder_bytes(&store))
    }

    fn restic(&self) -> Result<Row> {
        let store = self.fresh("store")?;
        let restic = || {
            let mut command = Command::new("restic");
            command.args(["--no-cache", "-q", "-r"]).arg(&store).env("RESTIC_PASSWORD", "bench");
            command
        };
        run(restic().args(["init", "--repository-version", "2"]))?;
        let command = |tree: &PathBuf| {
            let mut command = restic();
            command.arg("backup").arg(tree);
            command
        };
        both("restic, on the extracted tree", self.trees.each_ref().map(command), || folder_bytes(&store))
    }

    fn borg(&self) -> Result<Row> {
        let store = self.fresh("store")?;
        let borg = || {
            let mut command = Command::new("borg");
            command.env("BORG_PASSPHRASE", "bench").env("BORG_BASE_DIR", self.folder.join("borg"));
            command
        };
        run(borg().args(["init", "--encryption", "repokey"]).arg(&store))?;
        let mut number = 0;
        let commands = self.trees.each_ref().map(|tree| {
            number += 1;
            let mut command = borg();
            command.arg("create").arg(format!("{}::{number}", store.display())).arg(tree);
            command
        });
        both("borg, on the extracted tree", commands, || folder_bytes(&store))
    }

    fn tar(&self) -> Result<Row> {
        let file = self.folder.join("tree.tar.zst");
        let command = |trees: &[PathBuf]| {
            let names: Vec<_> = trees.iter().map(|tree| tree.display().to_string()).collect();
            let mut command = Command::new("sh");
            command.args(["-c", &format!("tar -c {} | zstd -q -T0 -f -o {}", names.join(" "), file.display())]);
            command
        };
        let commands = [command(&self.trees[..1]), command(&self.trees)];
        both("tar, zstd -T0, of one and of both trees", commands, || Ok(std::fs::metadata(&file)?.len()))
    }
}

/// Runs two commands after each other, the source being in memory for all alike, and asks after each how much there is.
fn both(name: &str, commands: [Command; 2], bytes: impl Fn() -> Result<u64>) -> Result<Row> {
    let mut row = Row { name: name.to_owned(), times: [Duration::ZERO; 2], bytes: [0; 2] };
    for (number, mut command) in commands.into_iter().enumerate() {
        let begun = Instant::now();
        let status =
            command.env("RESTIC_PASSWORD", "bench").stdout(Stdio::null()).status().with_context(|| name.to_owned())?;
        if !status.success() {
            bail!("{name} ended with {status}");
        }
        row.times[number] = begun.elapsed();
        row.bytes[number] = bytes()?;
    }
    Ok(row)
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.size() };
    }
    Ok(bytes)
}

fn render(rows: &[Row]) -> Result<String> {
    let mut text = format!("Machine: {}.\n\n", report::machine()?);
    text.push_str("| program | the disk | size | then the upgraded one | size of both |\n|---|---|---|---|---|\n");
    for Row { name, times, bytes } in rows {
        let seconds = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
        let size = |bytes: u64| format!("{} MB", bytes / 1_000_000);
        let (one, both) = (size(bytes[0]), size(bytes[1]));
        writeln!(text, "| {name} | {} | {one} | {} | {both} |", seconds(&times[0]), seconds(&times[1]))?;
    }
    Ok(text)
}
