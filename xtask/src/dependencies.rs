//! Proves two things from `cargo metadata`: the crates depend only downward, and every licence is one we accept.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::{cargo, output, root};

/// Which crates of the workspace each crate may name in its `[dependencies]`. Nothing else is allowed: an edge is added
/// here, with its reason in `docs/architecture.md`, before it is added to a manifest.
const ALLOWED: &[(&str, &[&str])] = &[
    ("transload-block", &[]),
    ("transload-igzip", &[]),
    ("transload-image", &["transload-block", "transload-igzip"]),
    ("transload-nbd", &["transload-block"]),
    ("transload-remote", &["transload-block"]),
    ("transload-appliance", &["transload-block"]),
    ("transload-filesystem", &["transload-block"]),
    ("transload-convert", &["transload-block", "transload-image"]),
    ("transload-volume", &["transload-block"]),
    ("transload-inspect", &["transload-block", "transload-filesystem", "transload-volume"]),
    ("transload-archive", &["transload-block", "transload-filesystem", "transload-inspect", "transload-volume"]),
    ("transload-mount", &["transload-block", "transload-filesystem", "transload-volume"]),
    ("transload-capi", &["transload-block", "transload-convert", "transload-image"]),
    (
        "transload",
        &[
            "transload-archive",
            "transload-block",
            "transload-image",
            "transload-convert",
            "transload-appliance",
            "transload-filesystem",
            "transload-inspect",
            "transload-mount",
            "transload-nbd",
            "transload-remote",
            "transload-volume",
        ],
    ),
    ("transload-jobs", &["transload"]),
    ("transload-service", &["transload", "transload-jobs"]),
    ("transload-cli", &["transload", "transload-service"]),
    ("transload-testkit", &["transload-block", "transload-image"]),
    ("xtask", &["transload"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null` for ordinary dependencies, else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// A licence that is accepted for one crate alone.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

pub(crate) fn check() -> Result<()> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut wrong = directions(&metadata);
    wrong.extend(licences(&metadata)?);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    eprintln!("dependencies: directions and licences of {} packages are as they should be", metadata.packages.len());
    Ok(())
}

fn directions(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let members: Vec<_> =
        metadata.packages.iter().filter(|package| metadata.workspace_members.contains(&package.id)).collect();
    let names: BTreeSet<_> = members.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in members {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{}: not in the table of directions", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
            let name = dependency.name.as_str();
            if names.contains(name) && !allowed.contains(&name) {
                wrong.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    wrong
}

fn licences(metadata: &Metadata) -> Result<Vec<String>> {
    let deny = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let Licences { allow, exceptions } = toml::from_str::<Deny>(&deny).context("deny.toml")?.licenses;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let licence = package.license.as_deref().unwrap_or("none");
        let mut excepted = exceptions.iter().filter(|exception| exception.name == package.name);
        if !acceptable(licence, &allow) && !excepted.any(|exception| acceptable(licence, &exception.allow)) {
            wrong.push(format!("{} {}: licence {licence} is not in deny.toml", package.name, package.version));
        }
    }
    Ok(wrong)
}

/// Whether an SPDX expression can be met with the allowed licences. The old `/` means `OR`. `AND` binds closer than `OR`;
/// parentheses are read by taking the expression apart at the outermost operators.
fn acceptable(expression: &str, allow: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    for (operator, all) in [(" OR ", false), (" AND ", true)] {
        let parts = split_outside_parentheses(expression, operator);
        if parts.len() > 1 {
            return if all {
                parts.iter().all(|part| acceptable(part, allow))
            } else {
                parts.iter().any(|part| acceptable(part, allow))
            };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => acceptable(inner, allow),
        None => allow.contains(expression),
    }
}

fn split_outside_parentheses<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && at >= start && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spdx_expressions_are_weighed_as_they_are_meant() {
        let allow = ["MIT", "Apache-2.0", "Zlib"].map(String::from).into_iter().collect();
        for sound in ["MIT", "MIT OR GPL-2.0", "GPL-2.0/MIT", "(MIT OR GPL-2.0) AND Zlib", "GPL-2.0 OR (MIT AND Zlib)"]
        {
            assert!(acceptable(sound, &allow), "{sound}");
        }
        for unsound in ["GPL-2.0", "MIT AND GPL-2.0", "(MIT OR Zlib) AND GPL-2.0", "none"] {
            assert!(!acceptable(unsound, &allow), "{unsound}");
        }
    }
}
