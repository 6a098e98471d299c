//! What a check found.

use serde::Serialize;

/// The verdict on an image's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckReport {
    /// Findings in the order they were met, at most [`CheckReport::MAX_FINDINGS`]; the counts below are complete.
    pub findings: Vec<Finding>,
    /// Errors that endanger guest data.
    pub corruptions: u64,
    /// Space that is allocated and not used.
    pub leaks: u64,
    /// Corruptions that `--repair` mended.
    pub corruptions_fixed: u64,
    /// Leaks that `--repair` mended.
    pub leaks_fixed: u64,
    /// Units (clusters, grains, blocks) that hold guest data.
    pub allocated_units: u64,
    /// Units of the virtual disk.
    pub total_units: u64,
    /// Of the allocated ones, those that are compressed.
    pub compressed_units: u64,
    /// Byte behind the last one in use in the file.
    pub image_end_offset: u64,
}

impl CheckReport {
    /// How many findings are kept one by one; an image with a million errors does not need a million lines.
    pub const MAX_FINDINGS: usize = 1000;

    /// Counts a finding, and keeps it while there is room.
    pub fn add(&mut self, finding: Finding) {
        let (count, fixed) = match finding.kind {
            FindingKind::Corruption => (&mut self.corruptions, &mut self.corruptions_fixed),
            FindingKind::Leak => (&mut self.leaks, &mut self.leaks_fixed),
        };
        *count += 1;
        *fixed += u64::from(finding.fixed);
        if self.findings.len() < Self::MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    /// Whether nothing is wrong, or everything that was is mended.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.corruptions == self.corruptions_fixed && self.leaks == self.leaks_fixed
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// How bad it is.
    pub kind: FindingKind,
    /// Which structure, where, what it says and what it should.
    pub message: String,
    /// Whether it was mended.
    pub fixed: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Guest data is wrong or in danger.
    Corruption,
    /// Space is lost, data is not.
    Leak,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind, fixed: bool) -> Finding {
        Finding { kind, message: String::new(), fixed }
    }

    #[test]
    fn all_findings_are_counted_and_the_first_ones_kept() {
        let mut report = CheckReport::default();
        assert!(report.is_clean());
        for index in 0..2500 {
            report.add(finding(FindingKind::Leak, index % 2 == 0));
        }
        assert_eq!((report.leaks, report.leaks_fixed, report.findings.len()), (2500, 1250, CheckReport::MAX_FINDINGS));
        assert!(!report.is_clean());
    }

    #[test]
    fn what_is_mended_is_clean_and_leaks_do_not_make_up_for_corruptions() {
        let mut report = CheckReport::default();
        report.add(finding(FindingKind::Leak, true));
        report.add(finding(FindingKind::Corruption, true));
        assert!(report.is_clean());
        report.add(finding(FindingKind::Corruption, false));
        assert_eq!((report.corruptions, report.corruptions_fixed), (2, 1));
        assert!(!report.is_clean());
    }
}
