//! `transload script`: a list of commands on one image, as one transaction where the image is new.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::AtomicFiles;
use transload::filesystem::Timestamp;

use super::{chmod, chown, cp, create, ln, mkdir, mkfs, partitions, rm};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::text;

/// Run a list of commands on one image
///
/// FILE has a command a line: create, partitions, mkfs, mkdir, cp, rm, chmod, chown, ln, with their own options and without
/// the image's name. What begins with # or :/ is in the image: `cp -r site/. #2:/srv`. Lines that begin with # are comments.
///
/// The first command that fails ends the run, with its line. A script that begins with `create` makes a new image, which
/// appears when all commands were done, or not at all; an image that exists is changed in place.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The commands; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    /// Derive all identifiers from TEXT and take no time from the clock: the same input gives the same bytes
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Replace an image that exists, where the script begins with create
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  transload script build.txt disk.qcow2 --seed 1

where build.txt is
  create 2G
  partitions --init gpt --add size=64M,type=esp --add rest,type=linux
  mkfs #1 --type fat32 --label ESP
  mkfs #2 --type ext4 --label root
  cp -r boot/. #1:/
  cp -r root/. #2:/
  chmod 600 #2:/etc/shadow";

/// The time of everything that a script with a seed makes: the first that FAT can say.
const STEADY: Timestamp = Timestamp { seconds: 315_532_800, nanos: 0 };

/// A line of a script.
#[derive(Debug, Parser)]
#[command(name = "script", no_binary_name = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    Create(create::Arguments),
    Partitions(partitions::Arguments),
    Mkfs(mkfs::Arguments),
    Mkdir(mkdir::Arguments),
    Cp(cp::Arguments),
    Rm(rm::Arguments),
    Chmod(chmod::Arguments),
    Chown(chown::Arguments),
    Ln(ln::Arguments),
}

#[derive(Serialize)]
struct Document {
    image: String,
    commands: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let script = read(&arguments.file)?;
    let lines: Vec<(usize, &str)> = (1..)
        .zip(script.lines())
        .map(|(number, line)| (number, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let creates = lines.first().is_some_and(|(_, line)| line.split_whitespace().next() == Some("create"));
    let files = if creates { Some(AtomicFiles::create(&arguments.image, arguments.force, Vec::new())?) } else { None };
    let image = files.as_ref().map_or_else(|| arguments.image.clone(), AtomicFiles::staged_path);
    // Every line is understood before the first one is run.
    let mut steps = Vec::new();
    for (number, line) in &lines {
        let step = parse(line, &image).map_err(|error| at(&arguments.file, *number, line, error))?;
        if matches!(step, Step::Create(_)) != (creates && steps.is_empty()) {
            let error = Error::new(ErrorKind::InvalidInput, "create is the first command or none");
            return Err(at(&arguments.file, *number, line, error));
        }
        steps.push((*number, *line, step));
    }
    let mut run = Run { seed: arguments.seed.as_deref(), files: files.as_ref(), session: None };
    let count = steps.len();
    for (number, line, step) in steps {
        if let Err(error) = run.step(step) {
            // An image that is changed in place keeps what was done; the first error is the one to tell.
            drop(run.settle());
            return Err(at(&arguments.file, number, line, error));
        }
    }
    run.settle()?;
    if let Some(files) = files {
        files.commit()?;
    }
    if arguments.json {
        text::json(&Document { image: arguments.image.display().to_string(), commands: count })?;
    }
    Ok(Verdict::Done)
}

fn read(path: &Path) -> Result<String> {
    let read =
        if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    read.map_err(|error| Error::io(path.display().to_string(), error))
}

fn at(file: &Path, number: usize, line: &str, error: Error) -> Error {
    error.context(format_args!("{}:{number}: {line}", file.display()))
}

/// A script that is being run.
struct Run<'a> {
    seed: Option<&'a str>,
    files: Option<&'a AtomicFiles>,
    /// What the commands on files have open; closed before the image as a whole is changed.
    session: Option<Session>,
}

impl Run<'_> {
    fn step(&mut self, step: Step) -> Result<()> {
        let seed = self.seed.map(ToOwned::to_owned);
        match step {
            Step::Create(mut arguments) => {
                arguments.seed = arguments.seed.or(seed);
                let files = self.files.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "create comes first"))?;
                create::write_to(&arguments, files)
            }
            Step::Partitions(mut arguments) => {
                arguments.seed = arguments.seed.or(seed);
                self.settle()?;
                partitions::change(&arguments)
            }
            Step::Mkfs(mut arguments) => {
                arguments.seed = arguments.seed.or(seed);
                mkfs::run_in(&arguments, self.session()?)
            }
            Step::Mkdir(arguments) => mkdir::run_in(&arguments, self.session()?),
            Step::Cp(arguments) => cp::run_in(&arguments, self.session()?),
            Step::Rm(arguments) => rm::run_in(&arguments, self.session()?),
            Step::Chmod(arguments) => chmod::run_in(&arguments, self.session()?),
            Step::Chown(arguments) => chown::run_in(&arguments, self.session()?),
            Step::Ln(arguments) => ln::run_in(&arguments, self.session()?),
        }
    }

    fn session(&mut self) -> Result<&mut Session> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::new()?,
        };
        if self.seed.is_some() {
            session.steady = true;
            if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
                session.now = STEADY;
            }
        }
        Ok(self.session.insert(session))
    }

    /// Writes what is still in memory.
    fn settle(&mut self) -> Result<()> {
        self.session.take().map_or(Ok(()), Session::finish)
    }
}

fn parse(line: &str, image: &Path) -> Result<Step> {
    let words = split(line)?;
    let mut arguments: Vec<OsString> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 && (word.starts_with('#') || word.starts_with(":/")) {
            let mut address = image.as_os_str().to_owned();
            address.push(word);
            arguments.push(address);
        } else {
            arguments.push(word.into());
        }
        // Commands on the image as a whole have its name in the first place.
        if index == 0 && matches!(word.as_str(), "create" | "partitions") {
            arguments.push(image.as_os_str().to_owned());
        }
    }
    let line = Line::try_parse_from(arguments).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::new(ErrorKind::InvalidInput, first)
    })?;
    Ok(line.step)
}

/// The words of a line, as a shell would see them: quotes and backslashes, and nothing else.
fn split(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(one) = characters.next() {
        match (quote, one) {
            (Some(open), one) if one == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next();
                let next = next.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the line ends with a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            (None, one) if one.is_whitespace() => words.extend(word.take()),
            (_, one) => word.get_or_insert_default().push(one),
        }
    }
    if quote.is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "a quote is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_those_of_a_shell() {
        let words = |line| split(line).unwrap();
        assert_eq!(words("cp -r  a b"), ["cp", "-r", "a", "b"]);
        assert_eq!(words(r#"cp 'a b' "c \" d" e\ f '' #1:/x"#), ["cp", "a b", "c \" d", "e f", "", "#1:/x"]);
        assert!(split("cp 'a").is_err() && split("cp a\\").is_err());
    }
}
