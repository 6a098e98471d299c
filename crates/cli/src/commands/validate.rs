//! `transload validate`: whether an OVA is sound, and who will take it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use transload::appliance::profile::{IMPORTERS, Severity};
use transload::block::Result;
use transload::convert::Progress;
use transload::image::Access;
use transload::location::{self, Located, Location};
use transload::validate::{Outcome, Soundness, ValidateSettings, Validation, validate_source};

use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::{input, interrupt, progress};

/// Tell whether an OVA is sound, and which importers will take it
///
/// Every byte is read once: the archive, the manifest's digests, and every grain of every disk as the strictest readers see
/// it. Exits with 0 when the package is sound, with 4 when it is corrupt, with 7 when a digest or the signature is wrong, and
/// with 5 when an importer named with --for refuses it.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload validate vm.ova\n  transload validate vm.ova --for esxi-7.0 --for virtualbox --json"
)]
pub(crate) struct Arguments {
    /// The OVA
    #[arg(value_name = "OVA")]
    package: PathBuf,
    /// Judge for this importer alone; may be given several times
    #[arg(long = "for", value_name = "IMPORTER", value_parser = importer())]
    importers: Vec<String>,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn importer() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(IMPORTERS.iter().map(|importer| importer.id))
}

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    #[serde(flatten)]
    validation: &'a Validation,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let cancel = interrupt::install()?;
    let display = progress::start(arguments.progress.when());
    let settings = ValidateSettings {
        threads: arguments.threads,
        cancel: cancel.clone(),
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn Progress>),
    };
    let source = location::open(&Location::of(&arguments.package), Access::ReadOnly, &input::network(&cancel));
    let found = source.and_then(Located::anywhere).and_then(|source| validate_source(&source, &settings));
    // The bar is gone before anything else is said.
    drop(display);
    let mut found = found.map_err(|error| cancel.check().err().unwrap_or(error))?;
    if !arguments.importers.is_empty() {
        found.verdicts.retain(|verdict| arguments.importers.iter().any(|wanted| wanted == verdict.importer));
    }
    if arguments.json {
        text::json(&Document { file: Location::of(&arguments.package).shown(), validation: &found })?;
    } else {
        print(arguments, &found)?;
    }
    let refused = found.verdicts.iter().any(|verdict| verdict.outcome == Outcome::Refused);
    Ok(match found.soundness {
        Soundness::Corrupt => Verdict::Corrupt,
        Soundness::Mismatch => Verdict::Mismatch,
        Soundness::Sound if refused && !arguments.importers.is_empty() => Verdict::Refused,
        Soundness::Sound => Verdict::Done,
    })
}

fn print(arguments: &Arguments, found: &Validation) -> Result<()> {
    let mut text = Text::new();
    let soundness = match found.soundness {
        Soundness::Sound => "sound",
        Soundness::Mismatch => "a digest or signature is wrong",
        Soundness::Corrupt => "corrupt",
    };
    text.line(format_args!("{}: {soundness}", Location::of(&arguments.package).shown()))?;
    for machine in &found.machines {
        text.field("machine", machine)?;
    }
    for member in &found.members {
        let digest = match member.digest_matches {
            Some(true) => ", digest matches",
            Some(false) => ", digest differs",
            None => "",
        };
        let (name, size) = (&member.name, text::size(member.size));
        match &member.stream {
            Some(stream) => {
                let (capacity, grains) = (text::size(stream.capacity), stream.grains);
                text.line(format_args!("  {name}  {size}{digest}, disk of {capacity}, {grains} grains read"))?;
            }
            None => text.line(format_args!("  {name}  {size}{digest}"))?,
        }
    }
    if let Some(signature) = &found.signature {
        let verdict = if signature.matches { "matches" } else { "differs" };
        text.field("signed by", format_args!("{}, until {}; {verdict}", signature.subject, signature.valid_until))?;
    }
    for finding in &found.findings {
        text.line(format_args!("{}: {}", finding.rule, sentence(&finding.subject, &finding.message)))?;
        text.line(format_args!("  remedy: {}", finding.remedy))?;
    }
    print_verdicts(&mut text, found)?;
    text.finish()
}

/// One line for each importer, with the rules that it minds, and one for each rule.
fn print_verdicts(text: &mut Text, found: &Validation) -> Result<()> {
    let mut told: Vec<(&str, &str)> = found.findings.iter().map(|finding| (finding.rule, &*finding.subject)).collect();
    let mut reasons = Vec::new();
    for verdict in &found.verdicts {
        let outcome = match verdict.outcome {
            Outcome::Accepted | Outcome::Warnings => "takes it",
            Outcome::Refused => "refuses it",
        };
        let of = |severity: Severity| {
            let mut rules: Vec<_> =
                verdict.reasons.iter().filter(|reason| reason.severity == severity).map(|reason| reason.rule).collect();
            rules.dedup();
            rules.join(", ")
        };
        let (refusals, warnings) = (of(Severity::Refusal), of(Severity::Warning));
        let refusals = if refusals.is_empty() { refusals } else { format!(": {refusals}") };
        let warnings = if warnings.is_empty() { warnings } else { format!(" (warnings: {warnings})") };
        text.line(format_args!("{}: {outcome}{refusals}{warnings}", verdict.title))?;
        for reason in &verdict.reasons {
            let key = (reason.rule, &*reason.subject);
            if !told.contains(&key) {
                told.push(key);
                reasons.push(reason);
            }
        }
    }
    for reason in reasons {
        text.line(format_args!("{}: {}", reason.rule, sentence(&reason.subject, &reason.message)))?;
        text.line(format_args!("  remedy: {}", reason.remedy))?;
    }
    Ok(())
}

fn sentence(subject: &str, message: &str) -> String {
    if subject.is_empty() { message.to_owned() } else { format!("'{subject}' {message}") }
}
