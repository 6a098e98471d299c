//! The end of an import: the manifest compared, disks without a file made, the machine described.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use transload_appliance::Media;
use transload_appliance::ova::hex;
use transload_block::{BlockRead, Error, ErrorKind, Result, Zeros};
use transload_convert::Input;
use transload_image::Opened;

use super::job::Job;
use super::{ImportReport, ImportedFile, ImportedKind};

impl Job<'_> {
    /// Compares the digests, makes empty disks, writes the description.
    pub(super) fn finish(mut self) -> Result<ImportReport> {
        if let Some(missing) = self.wanted.iter().find(|wanted| !wanted.done) {
            let text = format!("'{}' is listed in the descriptor and not in the archive", missing.href);
            return Err(
                Error::new(ErrorKind::Corrupt, text).with_remedy("fetch the package again, or have it made anew")
            );
        }
        let manifest_matches = self.compare_digests()?;
        for disk in 0..self.machine.disks.len() {
            if self.machine.disks[disk].file.is_none() {
                self.make_empty_disk(disk)?;
            }
        }
        for drive in &mut self.machine.drives {
            let known = |name: &String| self.files.iter().any(|file| name.ends_with(&file.name));
            if let Media::Image(name) = &drive.media
                && !known(name)
            {
                self.notes.left_out("drive", format!("its medium '{name}' is not in the package"));
                drive.media = Media::Empty;
            }
        }
        if !self.files.iter().any(|file| file.kind == ImportedKind::Nvram) && self.machine.nvram.take().is_some() {
            self.notes.left_out("nvram", "the firmware's variables do not go along; it makes them anew");
        }
        self.describe()?;
        Ok(ImportReport {
            machine: self.machine.name,
            folder: self.place.final_path().to_string_lossy().into_owned(),
            files: self.files,
            manifest_matches,
            elapsed_milliseconds: 0,
            warnings: self.warnings,
            notes: self.notes,
        })
    }

    /// Whether every file has the digest that the manifest says, and the manifest the signature of the certificate file.
    fn compare_digests(&mut self) -> Result<Option<bool>> {
        let Some(manifest) = self.manifest.take() else {
            if self.signature.is_some() {
                self.wrong("there is a signature, and no manifest that it could be of".to_owned())?;
            }
            return Ok(None);
        };
        let mut matches = true;
        if let Some(Err(error)) = self.signature.as_ref().map(|signature| signature.verify(&self.manifest_text)) {
            matches = false;
            self.wrong(error.to_string())?;
        }
        for entry in &manifest.entries {
            let name = entry.name.trim_start_matches("./");
            let found = self.digests.iter().find(|(known, _)| known == name);
            let digest =
                found.and_then(|(_, digests)| digests.iter().find(|(algorithm, _)| *algorithm == entry.algorithm));
            match digest {
                Some((_, digest)) if *digest == entry.value => {}
                Some((algorithm, digest)) => {
                    matches = false;
                    let (has, says) = (hex(digest), hex(&entry.value));
                    self.wrong(format!("'{name}' has the {algorithm} {has}, and the manifest says {says}"))?;
                }
                // VMware itself writes such lines.
                None => self.warnings.push(format!("'{name}' is in the manifest and not in the archive")),
            }
        }
        Ok(Some(matches))
    }

    /// Something that is not what the manifest says: an error, or a warning for who wants it so.
    fn wrong(&mut self, text: String) -> Result<()> {
        if self.settings.ignore_manifest {
            self.warnings.push(text);
            return Ok(());
        }
        Err(Error::new(ErrorKind::Checksum, text)
            .with_remedy("fetch the package again; to import it nevertheless, use --ignore-manifest"))
    }

    fn make_empty_disk(&mut self, disk: usize) -> Result<()> {
        let entry = &self.machine.disks[disk];
        let Some(size) = entry.capacity else {
            let text = format!("disk '{}' is to be created, and the descriptor does not say how large", entry.id);
            return Err(Error::new(ErrorKind::Corrupt, text));
        };
        let device: Arc<dyn BlockRead> = Arc::new(Zeros::new(size));
        let id = entry.id.clone();
        self.convert(disk, Input::Image(Opened { device, layers: Vec::new() }), &id)?;
        let name = self.disk_name(disk);
        self.enter_disk(disk, name, None, size);
        Ok(())
    }

    fn describe(&mut self) -> Result<()> {
        let Some((ending, written)) = self.settings.target.describe(&self.machine) else { return Ok(()) };
        let name = format!("{}.{ending}", self.stem);
        let path: PathBuf = self.place.staged_path().join(&name);
        let context = |error| Error::io(name.clone(), error);
        let mut file = fs::File::create_new(&path).map_err(context)?;
        file.write_all(written.text.as_bytes()).map_err(context)?;
        if ending == "sh" {
            let mut mode = file.metadata().map_err(context)?.permissions();
            // Whoever may read a script may run it.
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
            file.set_permissions(mode).map_err(context)?;
        }
        self.notes.append(written.notes);
        self.files.insert(
            0,
            ImportedFile { name, kind: ImportedKind::Machine, from: None, format: None, virtual_size: None },
        );
        Ok(())
    }
}
