//! Documentation that is made from the table of formats: the support table of the README, between two markers.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use transload::image::{FORMATS, Format, Variant};

const BEGIN: &str = "<!-- formats: begin (made by `cargo xtask docs`) -->\n";
const END: &str = "<!-- formats: end -->\n";

/// Writes the generated parts of the documentation below `root`, or with `check` only compares them.
///
/// # Errors
/// A file that cannot be read or written, that has no markers, or with `check` one that is out of date.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let path = root.join("README.md");
    let name = path.display();
    let old = fs::read_to_string(&path).with_context(|| name.to_string())?;
    let new =
        replace(&old, &support_table()).with_context(|| format!("{name}: the markers of the table are missing"))?;
    match (old == new, check) {
        (true, _) => Ok(()),
        (false, true) => bail!("{name}: the format table is out of date; run `cargo xtask docs`"),
        (false, false) => fs::write(&path, new).with_context(|| name.to_string()),
    }
}

/// Puts `table` between the markers of `text`.
fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// The support table in Markdown: one row per variant that can be read or written.
fn support_table() -> String {
    let mut table = String::from(
        "\n| format | variant | read | write | from a pipe | to a pipe | check | resize |\n|---|---|:-:|:-:|:-:|:-:|:-:|:-:|\n",
    );
    for format in FORMATS.iter().filter(|format| format.open.is_some()) {
        // A format without variants is a variant of itself.
        let itself = Variant {
            name: format.name,
            summary: "",
            read: true,
            write: format.create.is_some(),
            stream_read: format.stream.is_some(),
            stream_write: format.sink.is_some(),
        };
        let variants = if format.variants.is_empty() { std::slice::from_ref(&itself) } else { format.variants };
        for variant in variants.iter().filter(|variant| variant.read || is_written(variant)) {
            row(&mut table, format, variant);
        }
    }
    let named: Vec<_> = FORMATS.iter().filter(|format| format.open.is_none()).collect();
    if !named.is_empty() {
        let titles: Vec<_> = named.iter().map(|format| format.title).collect();
        // Writing to a string does not fail.
        let _ = writeln!(table, "\nRecognised by name, so that they are not taken for raw: {}.", titles.join(", "));
    }
    table.push('\n');
    table
}

fn is_written(variant: &Variant) -> bool {
    variant.write || variant.stream_write
}

fn row(table: &mut String, format: &Format, variant: &Variant) {
    let mark = |able: bool| if able { "✓" } else { "" };
    // Writing to a string does not fail.
    let _ = writeln!(
        table,
        "| {} | `{}`{}{} | {} | {} | {} | {} | {} | {} |",
        format.title,
        variant.name,
        if variant.summary.is_empty() { "" } else { ": " },
        variant.summary,
        mark(variant.read),
        mark(is_written(variant)),
        mark(variant.stream_read),
        mark(variant.stream_write),
        mark(format.check.is_some()),
        mark(format.resize.is_some()),
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BEGIN, END, replace, run, support_table};

    #[test]
    fn the_table_of_the_readme_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        run(root, true).unwrap();
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(replace(&text, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}b\n"));
        assert_eq!(replace("no markers", "new"), None);
    }

    #[test]
    fn raw_is_in_the_table() {
        assert!(support_table().contains("| Raw | `raw`"));
    }
}
