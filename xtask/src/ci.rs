//! What continuous integration runs.

use anyhow::Result;

use crate::process::{cargo, root, run};
use crate::{dependencies, docs, tools};

/// Installs the witnesses and runs every test, documentation examples too.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    tools::install()?;
    run(cargo(&["test", "--workspace"]).args(arguments))
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
