//! The tables of docs/benchmarks.md.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::cases::CASES;
use super::measure::Sample;
use super::results::{Outcome, Results, Row};
use crate::process::{output, root};

const BEGIN: &str = "<!-- begin generated: cargo xtask bench -->";
const END: &str = "<!-- end generated -->";

/// Renders all tables: the ratios first, then every figure.
pub(crate) fn render(results: &Results) -> Result<String> {
    let outcomes = results.outcomes();
    let mut text = format!("Machine: {}. Medians of runs in turn, as many as the second table says.\n", machine()?);
    let peers = output(std::process::Command::new("qemu-img").arg("--version"))?;
    let peer = peers.lines().next().unwrap_or("qemu-img");
    writeln!(text, "Peer: {peer}, the fastest of its three sets of flags in each row.\n")?;
    text.push_str(
        "| conversion | on | transload | best peer | ratio | goal | ratio of fastest runs | two threads against one | plain copy |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for outcome in &outcomes {
        summary_row(&mut text, outcome)?;
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

fn summary_row(text: &mut String, outcome: &Outcome) -> Result<()> {
    let wall = |samples: &[Sample]| median(&sorted(samples, |sample| sample.wall.as_secs_f64()));
    let of = |name: &str| {
        let found = outcome.rows.iter().find(|row| row.name.split(" --sparse").next() == Some(name));
        found.map(|row| wall(&row.samples)).with_context(|| format!("{name} did not run"))
    };
    let (ours, one, copy) = (of("transload")?, of("transload --threads 1")?, of("cp")?);
    let fastest = |wanted: &dyn Fn(&Row) -> bool| {
        let samples = outcome.rows.iter().filter(|row| wanted(row)).flat_map(|row| &row.samples);
        samples.map(|sample| sample.wall.as_secs_f64()).fold(f64::INFINITY, f64::min)
    };
    let peers = outcome.rows.iter().filter(|row| row.is_peer).map(|row| (&row.name, wall(&row.samples)));
    let (peer, best) = peers.min_by(|a, b| a.1.total_cmp(&b.1)).context("no peer ran")?;
    let case = CASES.iter().find(|case| case.name == outcome.case).context("a case that is no longer there")?;
    let goal = match (outcome.place.as_str(), case.goal, case.limit) {
        ("memory", Some(goal), _) => format!("{goal:.1}"),
        ("disk", Some(_), _) => "1.0".to_owned(),
        (_, _, Some(limit)) => format!("under {limit} s"),
        _ => "–".to_owned(),
    };
    writeln!(
        text,
        "| {} | {} | {ours:.3} s | {best:.3} s (`{peer}`) | **{:.2}** | {goal} | {:.2} | {:.2} | {copy:.3} s |",
        outcome.case,
        outcome.place,
        best / ours,
        fastest(&|row| row.is_peer) / fastest(&|row| row.name == "transload"),
        one / ours,
    )?;
    Ok(())
}

/// Replaces the generated part of docs/benchmarks.md.
pub(crate) fn write(text: &str) -> Result<()> {
    let path = root().join("docs").join("benchmarks.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = page.split_once(BEGIN).context("docs/benchmarks.md has no generated part")?;
    let (_, after) = rest.split_once(END).context("docs/benchmarks.md has no end of the generated part")?;
    std::fs::write(&path, format!("{before}{BEGIN}\n{text}{END}{after}"))?;
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

fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')));
    let cores = std::thread::available_parallelism()?;
    let kernel = output(std::process::Command::new("uname").arg("-sr"))?;
    Ok(format!("{} × {}, {}", cores, model.map_or("unknown", |(_, name)| name.trim()), kernel.trim()))
}
