//! The job definition of migration daemons, which scripts for them submit as it is.
//!
//! Such a daemon exports machines of a vCenter: a definition names the machine by `vm_path` and a folder by `output_dir`. Here
//! the machine, or a disk, is a file under the root or an address, and what is done with it follows from what it is:
//!
//! | `vm_path` or `source` | `format` | job |
//! |---|---|---|
//! | `.vmx`, `.ovf`, `.xml` | `ova`, `ovf` or none | export to `output_dir/NAME.ova` or `output_dir/NAME/NAME.ovf` |
//! | `.ova` | a disk format or none | import to `output_dir/NAME`, with disks of that format (raw) |
//! | anything else | a disk format, or none for qcow2 | convert to `output_dir/NAME.FORMAT` |

use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind, Result};
use transload::image::Format;
use utoipa::ToSchema;

use super::{Codec, ConvertJob, ExportJob, Hypervisor, ImportJob, JobRequest, Location, RunOptions};
use crate::root::Root;

/// A job definition of a migration daemon. Fields that are not listed here are taken and ignored, as those daemons do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaemonJob {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The machine or disk: a path under the root, or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_path: Option<String>,
    /// The same by another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The folder for what is made, under the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<String>,
    /// The same by another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_path: Option<String>,
    /// The format: `ova`, `ovf`, or that of a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Whether disks are compressed. Those of a package always are.
    #[serde(default)]
    pub compress: bool,
    /// A vCenter to export from, which is not done: definitions that name one are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub vcenter: Option<serde_json::Value>,
    /// The same as an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcenter_url: Option<String>,
}

impl DaemonJob {
    /// The job that the definition stands for. Absolute paths may be used where they are below `root`.
    ///
    /// # Errors
    /// `InvalidInput` when the definition is incomplete or contradicts itself; `Unsupported` when it asks for an export from a
    /// vCenter.
    pub fn to_request(&self, root: &Root) -> Result<JobRequest> {
        if self.vcenter.is_some() || self.vcenter_url.is_some() {
            let error = Error::new(ErrorKind::Unsupported, "vcenter: machines are not fetched from a vCenter");
            return Err(error.with_remedy("name the machine's .vmx under the root folder"));
        }
        let source = one_of("vm_path", self.vm_path.as_deref(), "source", self.source.as_deref())?;
        let folder = one_of("output_dir", self.output_dir.as_deref(), "output_path", self.output_path.as_deref())?;
        let (source, folder) = (location(source, root), location(folder, root));
        let (stem, ending) = split(source.file_name());
        let format = self.format.as_deref().map(str::to_ascii_lowercase).filter(|format| !format.is_empty());
        let target = |name: String| folder.join(&name);
        let run = RunOptions { name: self.name.clone(), ..RunOptions::default() };
        match (ending.as_str(), format.as_deref()) {
            ("vmx" | "ovf" | "xml", None | Some("ova")) => {
                Ok(JobRequest::Export(ExportJob { run, ..ExportJob::new(source, target(format!("{stem}.ova"))) }))
            }
            ("vmx" | "ovf" | "xml", Some("ovf")) => {
                let target = target(format!("{stem}/{stem}.ovf"));
                Ok(JobRequest::Export(ExportJob { run, ..ExportJob::new(source, target) }))
            }
            ("vmx" | "ovf" | "xml", Some(other)) => {
                Err(contradiction(&format!("a machine is exported as ova or ovf, not as {other}")))
            }
            ("ova", format) => {
                let format = format.map(|name| known(name).map(|format| format.name.to_owned())).transpose()?;
                let job = ImportJob::new(source, target(stem), Hypervisor::Raw);
                Ok(JobRequest::Import(ImportJob { format, run, ..job }))
            }
            (_, format) => {
                let format = known(format.unwrap_or("qcow2"))?;
                let ending = format.extensions.first().copied().unwrap_or(format.name);
                let job = ConvertJob::new(source, target(format!("{stem}.{ending}")));
                let compress = self.compress.then_some(Codec::Auto);
                Ok(JobRequest::Convert(ConvertJob { format: Some(format.name.to_owned()), compress, run, ..job }))
            }
        }
    }
}

/// The one of two fields that is there; both may be if they say the same.
fn one_of<'a>(name: &str, value: Option<&'a str>, other_name: &str, other: Option<&'a str>) -> Result<&'a str> {
    let filled = |value: Option<&'a str>| value.filter(|value| !value.is_empty());
    match (filled(value), filled(other)) {
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (Some(value), Some(other)) if value == other => Ok(value),
        (Some(_), Some(_)) => Err(contradiction(&format!("{name} and {other_name} differ"))),
        (None, None) => Err(Error::new(ErrorKind::InvalidInput, format!("{name}: is missing"))),
    }
}

fn contradiction(text: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

fn location(text: &str, root: &Root) -> Location {
    if text.contains("://") {
        return Location::Url(text.to_owned());
    }
    let below = std::path::Path::new(text).strip_prefix(root.path()).ok().and_then(|path| path.to_str());
    Location::Path(below.unwrap_or(text).to_owned())
}

fn known(name: &str) -> Result<&'static Format> {
    let writable = |format: &&Format| format.create.is_some() || format.sink.is_some();
    Format::by_name(name)
        .filter(writable)
        .ok_or_else(|| contradiction(&format!("format: {name:?} is no format that a disk can be written in")))
}

/// A file's name without its ending, and the ending in lower case.
fn split(name: &str) -> (String, String) {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem.to_owned(), ending.to_ascii_lowercase()),
        _ => (name.to_owned(), String::new()),
    }
}

impl Location {
    /// What is called `name` in the folder that this is. The root folder is `.` or nothing.
    fn join(&self, name: &str) -> Self {
        let joined = |folder: &str| match folder.trim_end_matches('/') {
            "" | "." if !folder.starts_with('/') => name.to_owned(),
            folder => format!("{folder}/{name}"),
        };
        match self {
            Self::Url(folder) => Self::Url(joined(folder)),
            other => Self::Path(joined(other.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<JobRequest> {
        let folder = tempfile::tempdir().unwrap();
        let json = json.replace("ROOT", folder.path().canonicalize().unwrap().to_str().unwrap());
        let job: DaemonJob = serde_json::from_str(&json).unwrap();
        job.to_request(&Root::new(folder.path()).unwrap())
    }

    #[test]
    fn definitions_become_the_jobs_they_mean() {
        let path = |text: &str| Location::Path(text.to_owned());
        for (json, from, to, kind) in [
            (r#"{"vm_path":"vm/web.vmx","output_dir":"out","compress":true}"#, "vm/web.vmx", "out/web.ova", "export"),
            (
                r#"{"vm_path":"vm/web.vmx","output_path":"out/","format":"OVF"}"#,
                "vm/web.vmx",
                "out/web/web.ovf",
                "export",
            ),
            (r#"{"vm_path":"ROOT/vm/web.ova","output_dir":"ROOT/out"}"#, "vm/web.ova", "out/web", "import"),
            (r#"{"source":"a.b.vmdk","output_dir":".","format":"qcow2"}"#, "a.b.vmdk", "a.b.qcow2", "convert"),
            (
                r#"{"source":"disk","output_dir":"out","options":{"parallel_downloads":8}}"#,
                "disk",
                "out/disk.qcow2",
                "convert",
            ),
            (
                r#"{"source":"x.vmdk","vm_path":"x.vmdk","output_dir":"out","format":"vpc"}"#,
                "x.vmdk",
                "out/x.vhd",
                "convert",
            ),
        ] {
            let request = request(json).unwrap();
            assert_eq!((request.source(), request.target()), (&path(from), Some(&path(to))), "{json}");
            assert_eq!(request.kind().as_str(), kind, "{json}");
        }
        let remote =
            request(r#"{"source":"https://host/d/disk.vmdk?x=1","output_dir":"s3://b/k","compress":true}"#).unwrap();
        assert_eq!(remote.target(), Some(&Location::Url("s3://b/k/disk.qcow2".to_owned())));
        let JobRequest::Convert(job) = remote else { panic!("{remote:?}") };
        assert_eq!(job.compress, Some(Codec::Auto));
    }

    #[test]
    fn what_a_definition_cannot_mean_is_refused() {
        for (json, kind) in [
            (r#"{"output_dir":"out"}"#, ErrorKind::InvalidInput),
            (r#"{"vm_path":"a.vmx"}"#, ErrorKind::InvalidInput),
            (r#"{"vm_path":"a.vmx","source":"b.vmx","output_dir":"out"}"#, ErrorKind::InvalidInput),
            (r#"{"vm_path":"a.vmx","output_dir":"out","format":"qcow2"}"#, ErrorKind::InvalidInput),
            (r#"{"source":"a.raw","output_dir":"out","format":"ova"}"#, ErrorKind::InvalidInput),
            (r#"{"vm_path":"/DC/vm/a","output_dir":"out","vcenter":{"server":"x"}}"#, ErrorKind::Unsupported),
        ] {
            assert_eq!(request(json).unwrap_err().kind(), kind, "{json}");
        }
    }
}
