//! Windows systems: the version of their kernel, and the files of their registry.

use crate::files::Files;
use crate::{Family, System, pe};

/// The folder of the registry, and the hives that it has in every version.
const CONFIG: &str = "/Windows/System32/config";
const HIVES: [&str; 7] = ["BCD-Template", "COMPONENTS", "DEFAULT", "SAM", "SECURITY", "SOFTWARE", "SYSTEM"];
/// Windows NT and 2000 had another folder.
const OLD_CONFIG: &str = "/WINNT/system32/config";

/// What of a program is read: its headers, and the section with its version.
const MOST_HEADER: u64 = 4096;
const MOST_RESOURCES: u64 = 4 << 20;

/// The system on a volume, which has at most one.
pub(crate) fn system(files: &Files<'_>) -> Option<System> {
    let config = [CONFIG, OLD_CONFIG].into_iter().find(|folder| files.has_folder(folder))?;
    let names = files.names(config);
    let is_hive = |name: &&String| HIVES.iter().any(|hive| hive.eq_ignore_ascii_case(name));
    let registry: Vec<String> = names.iter().filter(is_hive).map(|name| format!("{config}/{name}")).collect();
    // A folder without them is what an uninstalled system left.
    registry.iter().find(|path| path.to_ascii_lowercase().ends_with("/system"))?;
    let kernel = config.replace("/config", "/ntoskrnl.exe");
    let program = program(files, &kernel);
    let version = program.as_ref().and_then(|(version, _)| *version);
    Some(System {
        volume: files.volume.to_owned(),
        root: String::from("/"),
        family: Family::Windows,
        name: version.and_then(pe::windows_name).map(String::from),
        id: Some(String::from("windows")),
        version: version.map(|version| version.to_string()),
        architecture: program.and_then(|(_, machine)| machine).map(String::from),
        hostname: None,
        kernels: Vec::new(),
        registry,
        mounts: Vec::new(),
    })
}

/// The version of a program, and what it runs on.
fn program(files: &Files<'_>, path: &str) -> Option<(Option<pe::Version>, Option<&'static str>)> {
    let head = files.head(path, MOST_HEADER)?;
    let image = pe::parse(&head)?;
    let (at, length) = image.resources.unwrap_or_default();
    let resources = files.part(path, at, length.min(MOST_RESOURCES)).unwrap_or_default();
    Some((pe::find_version(&resources), image.machine))
}
