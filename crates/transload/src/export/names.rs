//! The names of the files in a package.

use transload_appliance::ova::NAME_MAX;

/// Bytes that are put behind a machine's name: `-disk1234.vmdk`.
const LONGEST_ENDING: usize = 16;

/// The name of a machine as the beginning of file names: without what file systems, archives and manifests give a meaning,
/// and short enough for the header of an archive. Letters of all scripts stay, and so do spaces.
#[must_use]
pub fn file_stem(name: &str) -> String {
    let mut stem: String =
        name.chars()
            .map(|c| {
                if c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') {
                    '_'
                } else {
                    c
                }
            })
            .collect();
    while stem.len() > NAME_MAX - LONGEST_ENDING {
        stem.pop();
    }
    // Neither hidden, nor an option, nor something that Windows takes the end from.
    let stem = stem.trim_matches([' ', '.']).trim_start_matches('-').to_owned();
    if stem.is_empty() { "machine".to_owned() } else { stem }
}

#[cfg(test)]
mod tests {
    use super::file_stem;

    #[test]
    fn names_stay_readable_and_lose_what_is_dangerous() {
        let cases = [
            ("Schöne Maschine ☃", "Schöne Maschine ☃"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("a\nb", "a_b"),
            ("C:\\x", "C__x"),
            ("-rf", "rf"),
            (" . ", "machine"),
            ("", "machine"),
        ];
        for (name, stem) in cases {
            assert_eq!(file_stem(name), stem, "{name:?}");
        }
        let long = file_stem(&"☃".repeat(100));
        assert!(long.len() <= 84 && long.len() > 80, "{}", long.len());
    }
}
