//! The tables of docs/benchmarks.md.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::cases::{CASES, named};
use super::measure::Sample;
use super::results::{Outcome, Results, Row};
use crate::process::{output, root};

/// The generated parts of the page, by the comment that begins each.
pub(crate) const CONVERSIONS: &str = "<!-- begin generated: cargo xtask bench -->";
pub(crate) const CODECS: &str = "<!-- begin generated: cargo xtask bench codecs -->";
pub(crate) const REMOTE: &str = "<!-- begin generated: cargo xtask bench remote -->";
pub(crate) const ARCHIVE: &str = "<!-- begin generated: cargo xtask bench archive -->";
const END: &str = "<!-- end generated -->";

/// Renders all tables: the ratios first, then every figure.
pub(crate) fn render(results: &Results) -> Result<String> {
    let outcomes = results.outcomes();
    let mut text = format!("Machine: {}. Medians of runs in turn, as many as the second table says.\n", machine()?);
    let peers = output(std::process::Command::new("qemu-img").arg("--version"))?;
    let peer = peers.lines().next().unwrap_or("qemu-img");
    writeln!(
        text,
        "Peer: {peer}, the fastest of its sets of flags in each row; other programs where they are installed.\n"
    )?;
    text.push_str(
        "| conversion | on | transload | best peer | ratio | goal | ratio of fastest runs | size against qemu-img | two threads against one | plain copy |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for outcome in &outcomes {
        summary_rows(&mut text, outcome)?;
    }
    text.push_str("\nEvery figure behind it:\n\n| conversion | on | program | runs | wall s | min–max s | CPU s | peak MiB | output MiB |\n|---|---|---|--:|--:|--:|--:|--:|--:|\n");
    for outcome in &outcomes {
        for row in &outcome.rows {
            let samples = &row.samples;
            let walls = sorted(samples, |sample| sample.wall.as_secs_f64());
            writeln!(
                text,
                "| {} | {} | `{}` | {} | {:.3} | {:.3}–{:.3} | {:.2} | {:.0} | {:.0} |",
                outcome.case,
                outcome.place,
                row.name,
                samples.len(),
                median(&walls),
                walls.first().copied().unwrap_or(0.0),
                walls.last().copied().unwrap_or(0.0),
                median(&sorted(samples, |sample| sample.cpu.as_secs_f64())),
                median(&sorted(samples, |sample| mebibytes(sample.peak_memory))),
                median(&sorted(samples, |sample| mebibytes(sample.output))),
            )?;
        }
    }
    Ok(text)
}

/// A line for each way in which Transload does it.
fn summary_rows(text: &mut String, outcome: &Outcome) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == outcome.case).context("a case that is no longer there")?;
    let row = |name: &str| {
        let found = outcome.rows.iter().find(|row| row.name.split(" --sparse").next() == Some(name));
        found.with_context(|| format!("{name} did not run"))
    };
    let (one, copy) = (wall(row("transload --threads 1")?), wall(row("cp")?));
    let peers = || outcome.rows.iter().filter(|row| row.is_peer);
    let best = peers().min_by(|a, b| wall(a).total_cmp(&wall(b))).context("no peer ran")?;
    let smallest = peers().filter(|row| row.name.starts_with("qemu-img")).map(size).fold(f64::INFINITY, f64::min);
    for (index, way) in case.ways.iter().enumerate() {
        let ours = row(&named("transload", way.flags))?;
        let goal = match (outcome.place.as_str(), way.goal, case.limit) {
            ("memory", Some(goal), _) => format!("{goal:.1}"),
            ("disk", Some(_), _) => "1.0".to_owned(),
            (_, _, Some(limit)) => format!("under {limit} s"),
            _ => "–".to_owned(),
        };
        let most = way.size.map_or_else(String::new, |most| format!(" (at most {most:.2})"));
        writeln!(
            text,
            "| {}{} | {} | {:.3} s | {:.3} s (`{}`) | **{:.2}** | {goal} | {:.2} | {:.3}{most} | {} | {copy:.3} s |",
            outcome.case,
            named("", way.flags),
            outcome.place,
            wall(ours),
            wall(best),
            best.name,
            wall(best) / wall(ours),
            peers().map(fastest).fold(f64::INFINITY, f64::min) / fastest(ours),
            size(ours) / smallest,
            if index == 0 { format!("{:.2}", one / wall(ours)) } else { "–".to_owned() },
        )?;
        for other in case.others.iter().filter(|_| index == 0) {
            if let Ok(peer) = row(&named(other.program, other.flags)) {
                let ratio = wall(peer) / wall(ours);
                writeln!(
                    text,
                    "| … against `{}` | {} | | {:.3} s | **{ratio:.2}** | {:.1} | {:.2} | {:.3} | | |",
                    peer.name,
                    outcome.place,
                    wall(peer),
                    other.goal,
                    fastest(peer) / fastest(ours),
                    size(ours) / size(peer),
                )?;
            }
        }
    }
    Ok(())
}

fn wall(row: &Row) -> f64 {
    median(&sorted(&row.samples, |sample| sample.wall.as_secs_f64()))
}

fn fastest(row: &Row) -> f64 {
    sorted(&row.samples, |sample| sample.wall.as_secs_f64()).first().copied().unwrap_or(f64::NAN)
}

/// What the result occupies, in mebibytes, and never nothing: it is divided by.
fn size(row: &Row) -> f64 {
    median(&sorted(&row.samples, |sample| mebibytes(sample.output))).max(0.001)
}

/// Replaces the generated part of docs/benchmarks.md that `begin` stands in front of.
pub(crate) fn write(begin: &str, text: &str) -> Result<()> {
    write_into("benchmarks.md", begin, text)
}

/// Replaces the generated part of a page in docs that `begin` stands in front of.
pub(crate) fn write_into(page: &str, begin: &str, text: &str) -> Result<()> {
    let path = root().join("docs").join(page);
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = page.split_once(begin).context("the page has no generated part")?;
    let (_, after) = rest.split_once(END).context("the page has no end of the generated part")?;
    std::fs::write(&path, format!("{before}{begin}\n{text}{END}{after}"))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn sorted(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let mut figures: Vec<_> = samples.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

pub(crate) fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')));
    let cores = std::thread::available_parallelism()?;
    let kernel = output(std::process::Command::new("uname").arg("-sr"))?;
    Ok(format!("{} × {}, {}", cores, model.map_or("unknown", |(_, name)| name.trim()), kernel.trim()))
}
