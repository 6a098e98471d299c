//! What continuous integration runs.

use anyhow::Result;

use crate::process::{cargo, root, run};
use crate::{dependencies, docs, tools};

/// Installs the witnesses and runs every test, documentation examples too.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    tools::install()?;
    run(cargo(&["test", "--workspace"]).args(tested_features()).args(arguments))
}

/// Tests run with what the product is built with where it can be.
fn tested_features() -> Vec<&'static str> {
    if tools::igzip_feature().is_some() { vec!["--features", "transload-cli/igzip"] } else { Vec::new() }
}

/// Installs the witnesses and runs the tests that are too long for every run, and no others.
pub(crate) fn soak(arguments: &[String]) -> Result<()> {
    tools::install()?;
    run(cargo(&["test", "--workspace", "--release"]).args(arguments).args(["--", "--ignored"]))
}

/// Everything that is checked without running the program.
pub(crate) fn lint() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    docs::run(&root(), true)?;
    dependencies::check()
}
