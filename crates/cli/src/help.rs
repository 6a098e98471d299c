//! The parts of `--help` that come from the table of formats.

use std::fmt::Write;

use transload::image::{FORMATS, Format, OptionKind, OptionSpec, Variant};

/// What each format can do, one line each, and the names of those that are only recognised.
pub(crate) fn formats() -> String {
    let mut text = String::from("Formats (r read, w write, < from a pipe, > to a pipe):\n");
    let (usable, known): (Vec<&Format>, Vec<&Format>) = FORMATS.iter().copied().partition(|format| is_usable(format));
    for format in usable {
        let any = |ability: fn(&Variant) -> bool| format.variants.is_empty() || format.variants.iter().any(ability);
        let letters = letters([
            format.open.is_some(),
            format.create.is_some() || format.sink.is_some(),
            format.stream.is_some(),
            format.sink.is_some() && any(|variant| variant.stream_write),
        ]);
        let names: Vec<_> = std::iter::once(&format.name).chain(format.aliases).copied().collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {letters}  {:<12} {}", names.join(", "), format.title);
    }
    if !known.is_empty() {
        let names: Vec<_> = known.iter().map(|format| format.name).collect();
        let _ = writeln!(text, "  Recognised, so that they are not taken for raw: {}", names.join(", "));
    }
    text
}

/// Whether a format can be read or written at all.
pub(crate) fn is_usable(format: &Format) -> bool {
    format.open.is_some() || format.stream.is_some() || format.create.is_some() || format.sink.is_some()
}

/// Abilities as letters: reading, writing, from a pipe, to a pipe.
pub(crate) fn letters(abilities: [bool; 4]) -> String {
    abilities.into_iter().zip("rw<>".chars()).map(|(able, letter)| if able { letter } else { '-' }).collect()
}

/// The formats and their options.
pub(crate) fn formats_and_options() -> String {
    format!("{}{}", formats(), options_of_all())
}

/// The options of every format, for reading and for writing.
pub(crate) fn options_of_all() -> String {
    let mut text = String::new();
    for format in FORMATS {
        options(&mut text, format, "options when reading", format.open_options);
        options(&mut text, format, "options when writing", format.create_options);
    }
    text
}

fn options(text: &mut String, format: &Format, title: &str, specs: &[OptionSpec]) {
    if specs.is_empty() {
        return;
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{} {title}:", format.name);
    for spec in specs {
        let name = format!("{}={}", spec.name, placeholder(spec.kind));
        let default = if spec.default.is_empty() { String::new() } else { format!(" [{}]", spec.default) };
        let _ = writeln!(text, "  {name:<34} {}{default}", spec.help);
    }
}

/// What an option takes, in a word or a list.
pub(crate) fn placeholder(kind: OptionKind) -> String {
    match kind {
        OptionKind::Flag => "on|off".to_owned(),
        OptionKind::Number => "NUMBER".to_owned(),
        OptionKind::Size => "SIZE".to_owned(),
        OptionKind::Choice(words) => words.join("|"),
        OptionKind::Text => "TEXT".to_owned(),
    }
}

/// The exit codes, and the formats.
pub(crate) fn overview() -> String {
    format!("{EXIT_CODES}\n{}", formats())
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    the images differ (compare)
  4    an image is corrupt
  5    an image needs something that is not supported
  6    denied: a reference outside the allowed folders, an existing target without --force
  7    a digest or checksum is wrong
  8    no space left
  9    the network failed
  130  interrupted
";
