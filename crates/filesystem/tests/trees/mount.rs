//! Mounting an image by the kernel, where that is allowed here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount that ends with it.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) folder: PathBuf,
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

impl Mount {
    /// Mounts `image` at a new folder beside it. `None`, said loudly, where that is not possible.
    pub(crate) fn new(image: &Path, kind: &str, options: &str) -> Option<Self> {
        let folder = image.with_extension("mounted");
        std::fs::create_dir_all(&folder).unwrap();
        let options = format!("loop,{options}");
        Self::with(Command::new("mount").args(["-t", kind, "-o", &options]).arg(image).arg(&folder), folder.clone())
    }

    /// Mounts `image` by ntfs-3g.
    pub(crate) fn ntfs(image: &Path) -> Option<Self> {
        let folder = image.with_extension("mounted");
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("ntfs-3g");
        Self::with(command.args(["-o", "compression"]).arg(image).arg(&folder), folder.clone())
    }

    fn with(command: &mut Command, folder: PathBuf) -> Option<Self> {
        let output = command.output().expect("the mount program is there");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            eprintln!("SKIPPED: {command:?} is not possible here: {}", said.trim());
            return None;
        }
        Some(Self { folder })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A program that another test starts holds our files open for the moment before it becomes that program.
        for _ in 0..100 {
            let output = Command::new("umount").arg(&self.folder).output();
            if output.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(std::thread::panicking(), "{}: umount failed", self.folder.display());
    }
}
