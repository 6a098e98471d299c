//! Converting straight into an object store.
//!
//! What can be written from front to back goes up in parts while it is made. What cannot (compressed qcow2, VHDX, anything that is
//! to be read back) is made in a hidden folder first and goes up from there. Either way nothing is to be seen under the name before it
//! is whole, and nothing is left of what was not.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use transload_block::{Error, ErrorKind, Result};
use transload_convert::{AtomicFiles, Cancel, Input, Output, Plan, Report, Settings};
use transload_remote::{Options, Upload, UploadSettings, create, file_name, shown_text};

/// How an image gets to its address.
#[derive(Debug)]
pub struct UploadPlan {
    /// The conversion itself.
    pub plan: Plan,
    /// Whether it is made in a file first.
    pub staged: bool,
}

/// How the image in `input` would get to `address`. Neither reads nor writes anything.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan(input: &Input, address: &str, settings: &Settings) -> Result<UploadPlan> {
    let pipe = Output::Pipe(Box::new(io::sink()));
    let direct = if settings.verify { None } else { Some(Plan::new(input, &pipe, settings)) };
    match direct {
        Some(Ok(plan)) => Ok(UploadPlan { plan, staged: false }),
        Some(Err(error)) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => {
            // Any name that nobody has: what is planned does not depend on it.
            let name = format!(".{}.upload", name_at(address)?);
            let output = Output::Path(std::env::temp_dir().join(name));
            let settings = Settings { force: true, ..settings.clone() };
            Ok(UploadPlan { plan: Plan::new(input, &output, &settings)?, staged: true })
        }
    }
}

/// Converts `input` into an image that will be at `address`. What has to be made in a file first is made in `staging`.
///
/// # Errors
/// As [`plan`], [`Plan::run`] and [`transload_remote::create`]. Nothing has appeared then that was not there before.
pub fn convert_to(
    input: Input,
    address: &str,
    settings: &Settings,
    options: &Options,
    staging: &Path,
) -> Result<Report> {
    let planned = plan(&input, address, settings)?;
    let name = name_at(address)?;
    if planned.staged {
        return convert_staged(input, address, settings, options, staging);
    }
    let exact = matches!(settings.format.name, "raw" | "vhd").then_some(planned.plan.virtual_size).flatten();
    let upload = create(address, &UploadSettings { force: settings.force, expected: exact }, options)?;
    let settings = Settings { pipe_name: Some(name), ..settings.clone() };
    let report = planned.plan.run(input, Output::Pipe(Box::new(upload.writer())), &settings)?;
    upload.finish()?;
    Ok(report)
}

fn convert_staged(
    input: Input,
    address: &str,
    settings: &Settings,
    options: &Options,
    staging: &Path,
) -> Result<Report> {
    // Asked before the work rather than behind it.
    drop(create(address, &UploadSettings { force: settings.force, expected: None }, options)?);
    let name = name_at(address)?;
    let hidden = AtomicFiles::create(&staging.join(format!("{name}.upload")), true, Vec::new())?;
    let place = hidden.staged_path();
    let folder = place.parent().unwrap_or(staging);
    let output = Output::Path(folder.join(&name));
    let report = Plan::new(&input, &output, settings)?.run(input, output, settings)?;
    let files = fs::read_dir(folder).map_err(|error| Error::io(folder.display().to_string(), error))?.count();
    if files != 1 {
        let text = format!("{}: the image consists of {files} files, and the address is one", shown_text(address));
        return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("choose a variant that is one file"));
    }
    send_file(&folder.join(&name), address, settings.force, options, &settings.cancel)?;
    Ok(report)
}

/// Sends the file at `path` to `address`.
///
/// # Errors
/// As [`transload_remote::create`]; what reading answers; `Cancelled`.
pub fn send_file(path: &Path, address: &str, force: bool, options: &Options, cancel: &Cancel) -> Result<u64> {
    let failed = |error| Error::io(path.display().to_string(), error);
    let mut file = fs::File::open(path).map_err(failed)?;
    let expected = Some(file.metadata().map_err(failed)?.len());
    let upload = create(address, &UploadSettings { force, expected }, options)?;
    let mut writer = upload.writer();
    let mut buffer = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        let length = match file.read(&mut buffer) {
            Ok(0) => return upload.finish(),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        writer.write_all(&buffer[..length]).map_err(|error| Error::io(upload.origin().to_string(), error))?;
    }
}

/// Begins an upload that somebody else fills.
///
/// # Errors
/// As [`transload_remote::create`].
pub fn begin(address: &str, force: bool, options: &Options) -> Result<Upload> {
    create(address, &UploadSettings { force, expected: None }, options)
}

fn name_at(address: &str) -> Result<String> {
    let plain = |name: &String| !name.contains('/') && name != "." && name != "..";
    file_name(address).filter(plain).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{}: does not end in a file's name", shown_text(address)))
    })
}
