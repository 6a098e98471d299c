//! Path profiles: how hard the files of a path are compressed, and which are left out.
//!
//! A table of rules, of which the first that matches wins. A pattern is made of whole components: `/etc` is `/etc` and
//! everything below it, never `/etcetera`. One that begins with `/` stands at the root of a volume, any other at any depth;
//! `*` and `?` stand for parts of a component, `**` for any number of components. Patterns that begin with `*.` are endings,
//! in which upper and lower case are the same.

use serde::Deserialize;
use transload_block::{Error, ErrorKind, Result};

/// What is done with the chunks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Stored as they are.
    Store,
    /// Compressed by zstd at this level.
    Zstd(i32),
    /// The file is left out.
    Exclude,
}

/// The levels that zstd has without negative ones.
const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

/// A row of the table that is built in: its name, what is done, and the patterns.
type BuiltIn = (&'static str, Treatment, &'static [&'static str]);

/// The table that is built in. What is compressed already comes first, wherever it stands.
const BUILT_IN: &[BuiltIn] = &[
    (
        "compressed",
        Treatment::Store,
        &[
            "*.gz",
            "*.tgz",
            "*.xz",
            "*.txz",
            "*.bz2",
            "*.zst",
            "*.lz4",
            "*.lzma",
            "*.br",
            "*.zip",
            "*.7z",
            "*.rar",
            "*.jar",
            "*.whl",
            "*.deb",
            "*.rpm",
            "*.apk",
            "*.snap",
            "*.squashfs",
            "*.cab",
            "*.docx",
            "*.xlsx",
            "*.pptx",
            "*.odt",
            "*.woff",
            "*.woff2",
        ],
    ),
    (
        "media",
        Treatment::Store,
        &[
            "*.jpg", "*.jpeg", "*.png", "*.gif", "*.webp", "*.avif", "*.heic", "*.mp3", "*.ogg", "*.oga", "*.opus",
            "*.flac", "*.m4a", "*.aac", "*.mp4", "*.m4v", "*.mkv", "*.webm", "*.mov", "*.avi", "*.ogv",
        ],
    ),
    (
        "kernels",
        Treatment::Zstd(19),
        &[
            "/boot/vmlinu*",
            "/vmlinu*",
            "/boot/initrd*",
            "/boot/initramfs*",
            "/initrd*",
            "/boot/kernel*",
            "/boot/System.map*",
            "/lib/modules",
            "/usr/lib/modules",
            "*.ko",
        ],
    ),
    ("libraries", Treatment::Zstd(9), &["*.so", "**/*.so.*", "*.dll", "*.a"]),
    (
        "programs",
        Treatment::Zstd(6),
        &[
            "/bin",
            "/sbin",
            "/usr/bin",
            "/usr/sbin",
            "/usr/local/bin",
            "/usr/local/sbin",
            "/usr/libexec",
            "/usr/games",
            "*.exe",
            "*.sys",
        ],
    ),
    ("configuration", Treatment::Zstd(1), &["/etc", "/usr/local/etc"]),
    (
        "databases-and-logs",
        Treatment::Zstd(5),
        &[
            "/var/log",
            "/var/lib/mysql",
            "/var/lib/postgresql",
            "/var/lib/mongodb",
            "/var/lib/redis",
            "/var/lib/dpkg",
            "/var/lib/rpm",
            "*.log",
            "*.db",
            "*.sqlite",
            "*.sqlite3",
            "*.ibd",
            "*.mdf",
            "*.evtx",
        ],
    ),
    ("backups", Treatment::Zstd(22), &["/var/backups", "/backup", "/backups", "*.bak", "*.dump", "*.tar"]),
];

/// What is left out where that is asked for: what nobody misses after a restart, and caches.
const TEMPORARY: &[&str] =
    &["/tmp/**/*", "/var/tmp/**/*", "/run/**/*", "/var/run/**/*", "/var/cache/**/*", ".cache/**/*"];

/// What is done where no rule matches.
const OTHERWISE: Treatment = Treatment::Zstd(3);

/// The rules, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Profiles {
    rules: Vec<Rule>,
    most: i32,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    patterns: Vec<Pattern>,
    treatment: Treatment,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// Whether it begins at the root.
    anchored: bool,
    /// Whether upper and lower case are the same.
    folded: bool,
    components: Vec<Vec<u8>>,
}

/// A file of rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default = "yes")]
    builtin: bool,
    #[serde(default)]
    profile: Vec<RuleDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleDocument {
    name: String,
    #[serde(rename = "match")]
    patterns: Vec<String>,
    compression: Option<Compression>,
    #[serde(default)]
    exclude: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Compression {
    Level(i64),
    Word(String),
}

fn yes() -> bool {
    true
}

impl Default for Profiles {
    fn default() -> Self {
        let rule = |(name, treatment, patterns): &BuiltIn| {
            let patterns = patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
            Rule { name: (*name).to_owned(), patterns, treatment: *treatment }
        };
        Self { rules: BUILT_IN.iter().map(rule).collect(), most: *LEVELS.end() }
    }
}

impl Profiles {
    /// Puts the rules of a TOML file before the others, or in their place where the file says `builtin = false`.
    ///
    /// ```toml
    /// [[profile]]
    /// name = "machine images"
    /// match = ["/srv/images", "*.qcow2"]
    /// compression = 3                    # 1 to 22, or "store"
    ///
    /// [[profile]]
    /// name = "downloads"
    /// match = ["/home/*/Downloads"]
    /// exclude = true
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` with the line, or the rule that makes no sense.
    pub fn extend(&mut self, toml: &str) -> Result<()> {
        let invalid = |text: String| Error::new(ErrorKind::InvalidInput, text);
        let document: Document =
            toml::from_str(toml).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        let rules = document.profile.into_iter().map(|rule| {
            let within = |text: &str| invalid(format!("profile \"{}\": {text}", rule.name));
            let treatment = match (&rule.compression, rule.exclude) {
                (None, true) => Treatment::Exclude,
                (Some(Compression::Word(word)), false) if word == "store" => Treatment::Store,
                (Some(Compression::Level(level)), false) => i32::try_from(*level)
                    .ok()
                    .filter(|level| LEVELS.contains(level))
                    .map(Treatment::Zstd)
                    .ok_or_else(|| within(&format!("compression is {level}, must be 1 to 22 or \"store\"")))?,
                (Some(_), false) => return Err(within("compression must be 1 to 22 or \"store\"")),
                (Some(_), true) => return Err(within("what is excluded is not compressed")),
                (None, false) => return Err(within("neither compression nor exclude is said")),
            };
            if rule.patterns.is_empty() || rule.patterns.iter().any(|pattern| pattern.trim_matches('/').is_empty()) {
                return Err(within("a pattern is empty"));
            }
            let patterns = rule.patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
            Ok(Rule { name: rule.name.clone(), patterns, treatment })
        });
        let mut rules = rules.collect::<Result<Vec<_>>>()?;
        if document.builtin {
            rules.append(&mut self.rules);
        }
        self.rules = rules;
        Ok(())
    }

    /// Leaves out what matches, before all other rules.
    pub fn exclude(&mut self, pattern: &str) {
        let rule =
            Rule { name: "excluded".to_owned(), patterns: vec![Pattern::new(pattern)], treatment: Treatment::Exclude };
        self.rules.insert(0, rule);
    }

    /// Leaves out what is in the folders for temporary files and in caches. The folders stay.
    pub fn exclude_temporary(&mut self) {
        for pattern in TEMPORARY {
            self.exclude(pattern);
        }
    }

    /// Compresses nothing harder than `level`.
    pub fn limit_level(&mut self, level: i32) {
        self.most = level.clamp(*LEVELS.start(), *LEVELS.end());
    }

    /// What is done with the file at `path`, which begins below the root of its volume without a `/`.
    #[must_use]
    pub fn treatment(&self, path: &[u8]) -> Treatment {
        let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let found = self.rules.iter().find(|rule| rule.patterns.iter().any(|pattern| pattern.matches(&components)));
        match found.map_or(OTHERWISE, |rule| rule.treatment) {
            Treatment::Zstd(level) => Treatment::Zstd(level.min(self.most)),
            other => other,
        }
    }

    /// The name of the rule that a path falls under; `None` where none matches.
    #[must_use]
    pub fn rule(&self, path: &[u8]) -> Option<&str> {
        let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let found = self.rules.iter().find(|rule| rule.patterns.iter().any(|pattern| pattern.matches(&components)));
        found.map(|rule| rule.name.as_str())
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let components = text.split('/').filter(|component| !component.is_empty());
        Self {
            anchored: text.starts_with('/'),
            folded: text.starts_with("*."),
            components: components.map(|component| component.as_bytes().to_vec()).collect(),
        }
    }

    /// Whether it matches a path, or a folder on the way to it.
    fn matches(&self, path: &[&[u8]]) -> bool {
        // An ending is of the file and not of the folders it is in.
        if self.folded && self.components.len() == 1 {
            return path.last().is_some_and(|name| matches_component(&self.components[0], name, true));
        }
        let starts = if self.anchored { 1 } else { path.len() };
        (0..starts).any(|start| path.get(start..).is_some_and(|rest| matches_from(&self.components, rest)))
    }
}

/// Whether the components of a pattern are those that a path begins with.
fn matches_from(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((first, rest)) if first == b"**" => (0..=path.len()).any(|skip| matches_from(rest, &path[skip..])),
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(name, behind)| matches_component(first, name, false) && matches_from(rest, behind)),
    }
}

/// Whether a name matches a pattern of `*` and `?`. No star is tried again once a later one was reached, so that the work
/// is at most the product of the lengths.
fn matches_component(pattern: &[u8], name: &[u8], folded: bool) -> bool {
    let same = |one: u8, other: u8| one == other || folded && one.eq_ignore_ascii_case(&other);
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(b'?') => (at, of) = (at + 1, of + 1),
            Some(byte) if same(*byte, name[at]) => (at, of) = (at + 1, of + 1),
            _ => match &mut star {
                Some((place, taken)) => {
                    *taken += 1;
                    (of, at) = (*place + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Profiles, Treatment};

    #[test]
    fn whole_components_are_matched_and_the_first_rule_wins() {
        let profiles = Profiles::default();
        let cases: &[(&str, Treatment)] = &[
            ("etc/fstab", Treatment::Zstd(1)),
            ("etcetera/fstab", Treatment::Zstd(3)),
            ("home/etc/fstab", Treatment::Zstd(3)),
            ("usr/lib/modules/6.1/kernel/a.ko", Treatment::Zstd(19)),
            ("usr/lib/modules/6.1/kernel/a.ko.xz", Treatment::Store),
            ("usr/lib/modulesx/a", Treatment::Zstd(3)),
            ("boot/vmlinuz-6.1", Treatment::Zstd(19)),
            ("boot/initrd.img-6.1", Treatment::Zstd(19)),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", Treatment::Zstd(9)),
            ("opt/x/libx.so", Treatment::Zstd(9)),
            ("usr/bin/vim", Treatment::Zstd(6)),
            ("usr/binary/vim", Treatment::Zstd(3)),
            ("var/log/syslog", Treatment::Zstd(5)),
            ("var/log/syslog.1.GZ", Treatment::Store),
            ("home/u/Photo.JPG", Treatment::Store),
            ("home/u/photos.jpg/readme", Treatment::Zstd(3)),
            ("var/backups/x", Treatment::Zstd(22)),
            ("srv/readme", Treatment::Zstd(3)),
        ];
        for (path, expected) in cases {
            assert_eq!(profiles.treatment(path.as_bytes()), *expected, "{path}");
        }
        assert_eq!(profiles.rule(b"etc/fstab"), Some("configuration"));
    }

    #[test]
    fn rules_of_a_file_come_first() {
        let mut profiles = Profiles::default();
        let rules = "[[profile]]\nname = 'vm'\nmatch = ['/etc/ssl', '*.qcow2', 'cache/*/old']\ncompression = 'store'\n\
                     [[profile]]\nname = 'no'\nmatch = ['Downloads']\nexclude = true\n";
        profiles.extend(rules).unwrap();
        profiles.exclude_temporary();
        profiles.limit_level(7);
        let cases: &[(&str, Treatment)] = &[
            ("etc/ssl/certs/a", Treatment::Store),
            ("etc/sslx", Treatment::Zstd(1)),
            ("srv/a.qcow2", Treatment::Store),
            ("srv/cache/a/old/b", Treatment::Store),
            ("home/u/Downloads", Treatment::Exclude),
            ("home/u/Downloads/a/b", Treatment::Exclude),
            ("tmp", Treatment::Zstd(3)),
            ("tmp/a", Treatment::Exclude),
            ("run/a/b", Treatment::Exclude),
            ("running/a", Treatment::Zstd(3)),
            ("home/u/.cache/x", Treatment::Exclude),
            ("lib/modules/a.ko", Treatment::Zstd(7)),
        ];
        for (path, expected) in cases {
            assert_eq!(profiles.treatment(path.as_bytes()), *expected, "{path}");
        }
        profiles.extend("builtin = false").unwrap();
        assert_eq!(profiles.treatment(b"etc/fstab"), Treatment::Zstd(3));
        for wrong in [
            "[[profile]]\nname='a'\nmatch=['a']",
            "[[profile]]\nname='a'\nmatch=['a']\ncompression=23",
            "[[profile]]\nname='a'\nmatch=['a']\ncompression='hard'",
            "[[profile]]\nname='a'\nmatch=['a']\ncompression=3\nexclude=true",
            "[[profile]]\nname='a'\nmatch=['/']\ncompression=3",
            "profiles = 1",
        ] {
            assert!(profiles.extend(wrong).is_err(), "{wrong}");
        }
    }
}
