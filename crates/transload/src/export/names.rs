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

/// The same in letters, digits and `-._` of ASCII alone, for files of a package: some importers refuse every other name.
/// The machine itself keeps its own.
#[must_use]
pub fn portable_stem(name: &str) -> String {
    let mut stem = String::new();
    for letter in name.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => stem.push(letter),
            _ => match in_ascii(letter) {
                // What has no letters becomes one hyphen, however much of it there is.
                "" if stem.ends_with('-') => {}
                "" => stem.push('-'),
                letters => stem.push_str(letters),
            },
        }
    }
    let stem = stem.trim_matches(['-', '.', '_']);
    let end = stem.len().min(NAME_MAX - LONGEST_ENDING);
    let stem = stem[..end].trim_end_matches(['-', '.', '_']);
    if stem.is_empty() { "machine".to_owned() } else { stem.to_owned() }
}

/// Letters of Latin alphabets as people spell them where they have only the basic ones.
fn in_ascii(letter: char) -> &'static str {
    match letter {
        'ä' | 'æ' => "ae",
        'ö' | 'œ' => "oe",
        'ü' => "ue",
        'Ä' | 'Æ' => "Ae",
        'Ö' | 'Œ' => "Oe",
        'Ü' => "Ue",
        'ß' => "ss",
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ą' => "a",
        'À' | 'Á' | 'Â' | 'Ã' | 'Å' | 'Ą' => "A",
        'ç' | 'ć' | 'č' => "c",
        'Ç' | 'Ć' | 'Č' => "C",
        'ď' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ę' | 'ě' => "e",
        'È' | 'É' | 'Ê' | 'Ë' | 'Ę' | 'Ě' => "E",
        'ì' | 'í' | 'î' | 'ï' | 'ı' => "i",
        'Ì' | 'Í' | 'Î' | 'Ï' | 'İ' => "I",
        'ł' => "l",
        'Ł' => "L",
        'ñ' | 'ń' | 'ň' => "n",
        'Ñ' | 'Ń' | 'Ň' => "N",
        'ò' | 'ó' | 'ô' | 'õ' | 'ø' | 'ő' => "o",
        'Ò' | 'Ó' | 'Ô' | 'Õ' | 'Ø' | 'Ő' => "O",
        'ř' => "r",
        'Ř' => "R",
        'ś' | 'š' | 'ş' => "s",
        'Ś' | 'Š' | 'Ş' => "S",
        'ť' => "t",
        'ù' | 'ú' | 'û' | 'ů' | 'ű' => "u",
        'Ù' | 'Ú' | 'Û' | 'Ů' | 'Ű' => "U",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        'Ź' | 'Ż' | 'Ž' => "Z",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{file_stem, portable_stem};

    #[test]
    fn files_of_packages_have_names_that_everybody_takes() {
        let cases = [
            ("Schöne Maschine ☃", "Schoene-Maschine"),
            ("Debian 12 (test)", "Debian-12-test"),
            ("../../etc/passwd", "etc-passwd"),
            ("-rf", "rf"),
            ("雪", "machine"),
            ("web_1.2-b", "web_1.2-b"),
        ];
        for (name, stem) in cases {
            assert_eq!(portable_stem(name), stem, "{name:?}");
        }
        assert!(portable_stem(&"é".repeat(200)).len() <= 84);
    }

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
