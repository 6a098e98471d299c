//! Writes a package: into one file, into a folder, or into a pipe, whatever its payloads come from.
//!
//! Into a file and a folder the payloads are made once, and what stands before them is written when their sizes and
//! digests are known: its length is known beforehand, since digests are as long as each other and the descriptor is
//! padded. Into a pipe they are made twice and thrown away the first time. All three give the same bytes.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use transload_appliance::ova::{
    Manifest, ManifestAlgorithm, ManifestEntry, Signer, end_padding, member_header, padding,
};
use transload_appliance::ovf;
use transload_block::{Error, ErrorKind, Result, Storage};
use transload_convert::{AtomicFiles, Cancel, Report};
use transload_image::{FileIdentity, TargetFiles};

use super::member::{Hashing, MemberDigest, SharedPipe, StorageAt, write_growing};
use super::plan::folder_of;

/// What goes into a package.
pub(crate) trait Contents {
    /// What the small files are called, before their ending.
    fn stem(&self) -> &str;

    /// The names of the payloads, in the package's order.
    fn names(&self) -> Vec<String>;

    /// Writes the payload with this place. Called once or twice, and must write the same bytes again.
    fn write(&self, place: usize, output: Box<dyn Write + Send>) -> Result<Report>;

    /// The most bytes that the descriptor can have.
    fn descriptor_length(&self) -> Result<usize>;

    /// The descriptor, now that the payloads are known.
    fn descriptor(&self, payloads: &[Payload]) -> Result<String>;
}

/// A payload that was written.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) member: MemberDigest,
    pub(crate) report: Report,
}

/// One of the small files in front.
#[derive(Clone, Debug)]
pub(crate) struct SmallFile {
    pub(crate) name: String,
    pub(crate) ending: &'static str,
    pub(crate) text: Vec<u8>,
    pub(crate) digest: Option<Vec<u8>>,
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) small: Vec<SmallFile>,
    pub(crate) payloads: Vec<Payload>,
    /// Bytes of everything.
    pub(crate) size: u64,
}

/// Writes packages.
pub(crate) struct Packager<'a> {
    pub(crate) contents: &'a dyn Contents,
    pub(crate) manifest: Option<ManifestAlgorithm>,
    pub(crate) signer: Option<&'a Signer>,
    pub(crate) force: bool,
    pub(crate) avoid: Vec<FileIdentity>,
    pub(crate) cancel: &'a Cancel,
}

impl Packager<'_> {
    /// Packs everything into one file: payloads first, and what stands before them afterwards.
    pub(crate) fn to_file(&self, path: &Path) -> Result<Written> {
        let files = AtomicFiles::create(path, self.force, self.avoid.clone())?;
        let archive = files.primary()?;
        let front = self.front_length()?;
        let mut at = front;
        let mut payloads = Vec::new();
        for (place, name) in self.contents.names().iter().enumerate() {
            let begin = at + member_header(name, 0, 0)?.len() as u64;
            let payload = self.payload(place, name, StorageAt::new(Arc::clone(&archive), begin), self.manifest)?;
            at = close_member(&*archive, at, name, payload.member.size)?;
            payloads.push(payload);
        }
        let small = self.small(&payloads)?;
        let bytes = members(&small)?;
        if bytes.len() as u64 != front {
            let text = format!("{} bytes for the front of the package, {front} were reserved", bytes.len());
            return Err(Error::new(ErrorKind::Io, text).with_remedy("report this with the machine's description"));
        }
        write_growing(&*archive, &bytes, 0)?;
        let size = at + end_padding(at);
        archive.set_size(size)?;
        self.cancel.check()?;
        files.commit()?;
        Ok(Written { small, payloads, size })
    }

    /// Packs everything into files of their own. A folder that is not there is made, and goes again on an error.
    pub(crate) fn to_folder(&self, path: &Path) -> Result<Written> {
        let folder = folder_of(path);
        let made = !folder.exists();
        if made {
            fs::create_dir(&folder).map_err(|error| Error::io(folder.display().to_string(), error))?;
        }
        let written = self.to_files(path);
        if made && written.is_err() {
            // Empty, unless somebody else has put something there meanwhile.
            drop(fs::remove_dir(&folder));
        }
        written
    }

    fn to_files(&self, path: &Path) -> Result<Written> {
        let files = AtomicFiles::create(path, self.force, self.avoid.clone())?;
        let mut payloads = Vec::new();
        for (place, name) in self.contents.names().iter().enumerate() {
            let file = files.sibling(name)?;
            let payload = self.payload(place, name, StorageAt::new(Arc::clone(&file), 0), self.manifest)?;
            file.set_size(payload.member.size)?;
            payloads.push(payload);
        }
        let small = self.small(&payloads)?;
        for SmallFile { name, text, .. } in &small {
            let file = if name == files.name() { files.primary()? } else { files.sibling(name)? };
            write_growing(&*file, text, 0)?;
            file.set_size(text.len() as u64)?;
        }
        self.cancel.check()?;
        files.commit()?;
        let small_size: u64 = small.iter().map(|file| file.text.len() as u64).sum();
        let size = small_size + payloads.iter().map(|payload| payload.member.size).sum::<u64>();
        Ok(Written { small, payloads, size })
    }

    /// Packs everything twice: once to learn what stands in front, once into the pipe.
    pub(crate) fn to_pipe(&self, pipe: Box<dyn Write + Send>) -> Result<Written> {
        // Without a manifest, the digest still tells a source that changes meanwhile.
        let algorithm = Some(self.manifest.unwrap_or(ManifestAlgorithm::Sha256));
        let names = self.contents.names();
        let mut payloads = Vec::new();
        for (place, name) in names.iter().enumerate() {
            payloads.push(self.payload(place, name, io::sink(), algorithm)?);
        }
        let small = self.small(&payloads)?;
        let mut pipe = SharedPipe::new(pipe);
        let mut at = emit(&mut pipe, &members(&small)?)?;
        for (place, (name, known)) in names.iter().zip(&payloads).enumerate() {
            at += emit(&mut pipe, &member_header(name, known.member.size, 0)?)?;
            let again = self.payload(place, name, pipe.clone(), algorithm)?;
            if again.member != known.member {
                let text = format!("{name}: the source changed while it was packed");
                return Err(Error::new(ErrorKind::Checksum, text).with_remedy("shut the machine down first"));
            }
            at += known.member.size;
            at += emit(&mut pipe, &zeroes(padding(at)))?;
        }
        at += emit(&mut pipe, &zeroes(end_padding(at)))?;
        pipe.flush().map_err(|error| Error::io("output", error))?;
        Ok(Written { small, payloads, size: at })
    }

    fn payload<W>(&self, place: usize, name: &str, output: W, algorithm: Option<ManifestAlgorithm>) -> Result<Payload>
    where
        W: Write + Send + 'static,
    {
        let (output, outcome) = Hashing::new(output, algorithm);
        let report = self.contents.write(place, Box::new(output)).map_err(|error| error.context(name))?;
        Ok(Payload { member: outcome.take(), report })
    }

    fn name(&self, ending: &str) -> String {
        format!("{}.{ending}", self.contents.stem())
    }

    /// Bytes in front of the first payload.
    fn front_length(&self) -> Result<u64> {
        let mut lengths = vec![("ovf", self.contents.descriptor_length()?)];
        if let Some(algorithm) = self.manifest {
            let value = vec![0; algorithm.length()];
            let names = [self.name("ovf")].into_iter().chain(self.contents.names());
            let lines = names.map(|name| ManifestEntry { algorithm, name, value: value.clone() }.to_string().len() + 1);
            lengths.push(("mf", lines.sum()));
            if let Some(signer) = self.signer {
                lengths.push(("cert", signer.length(&self.name("mf"), algorithm)));
            }
        }
        let mut total = 0;
        for (ending, length) in lengths {
            let length = length as u64;
            total += member_header(&self.name(ending), length, 0)?.len() as u64 + length + padding(length);
        }
        Ok(total)
    }

    /// Descriptor, manifest and certificate, now that everything is known.
    fn small(&self, payloads: &[Payload]) -> Result<Vec<SmallFile>> {
        let length = self.contents.descriptor_length()?;
        let descriptor = ovf::pad(self.contents.descriptor(payloads)?, length).ok_or_else(|| {
            Error::new(ErrorKind::Io, format!("the descriptor is longer than the {length} bytes reserved for it"))
        })?;
        let small =
            |ending, text: String, digest| SmallFile { name: self.name(ending), ending, text: text.into(), digest };
        let Some(algorithm) = self.manifest else { return Ok(vec![small("ovf", descriptor, None)]) };
        let mut hasher = algorithm.hasher();
        hasher.update(descriptor.as_bytes());
        let digest = hasher.finish();
        let entry = |name: String, value: Vec<u8>| ManifestEntry { algorithm, name, value };
        let mut manifest = Manifest::default();
        manifest.entries.push(entry(self.name("ovf"), digest.clone()));
        for (name, payload) in self.contents.names().into_iter().zip(payloads) {
            manifest.entries.push(entry(name, payload.member.digest.clone().unwrap_or_default()));
        }
        let manifest = manifest.text();
        let certificate = match self.signer {
            Some(signer) => Some(signer.sign(&self.name("mf"), algorithm, manifest.as_bytes())?),
            None => None,
        };
        let mut files = vec![small("ovf", descriptor, Some(digest)), small("mf", manifest, None)];
        files.extend(certificate.map(|text| small("cert", text, None)));
        Ok(files)
    }
}

/// Writes the header of the member that begins at `at` and whose payload is there, and its padding. Answers where the
/// next one begins.
fn close_member(archive: &dyn Storage, at: u64, name: &str, size: u64) -> Result<u64> {
    let header = member_header(name, size, 0)?;
    write_growing(archive, &header, at)?;
    let end = at + header.len() as u64 + size;
    write_growing(archive, &zeroes(padding(size)), end)?;
    Ok(end + padding(size))
}

/// Small files as whole members.
fn members(files: &[SmallFile]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for SmallFile { name, text, .. } in files {
        let size = text.len() as u64;
        archive.extend(member_header(name, size, 0)?);
        archive.extend(text);
        archive.extend(zeroes(padding(size)));
    }
    Ok(archive)
}

fn zeroes(length: u64) -> Vec<u8> {
    vec![0; usize::try_from(length).unwrap_or(0)]
}

fn emit(pipe: &mut SharedPipe, bytes: &[u8]) -> Result<u64> {
    pipe.write_all(bytes).map_err(|error| Error::io("output", error))?;
    Ok(bytes.len() as u64)
}
