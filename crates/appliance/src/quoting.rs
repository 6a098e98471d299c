//! Texts of unknown origin as one word of a script.

/// A word for a POSIX shell: nothing in it is expanded.
pub(crate) fn shell(text: &str) -> String {
    // No shell takes this byte, in whatever quotes.
    let text = text.replace('\0', "");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A comment for a shell or PowerShell: what could end the line is gone.
pub(crate) fn comment(text: &str) -> String {
    text.chars()
        .map(
            |character| {
                if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') { ' ' } else { character }
            },
        )
        .collect()
}

/// A literal string of PowerShell, which takes four kinds of quotation marks for the one that ends it.
pub(crate) fn powershell(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        match character {
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' => quoted.extend([character, character]),
            '\0' => {}
            _ => quoted.push(character),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gives_back_what_was_quoted() {
        for text in [
            "",
            "plain-1.0",
            "a b",
            "'",
            "''",
            "$(touch /tmp/x)",
            "`id`",
            "\\",
            "a\nb",
            "\"",
            "-n",
            "☃ ü",
            "*",
            "~",
            "!x",
            "#x",
            "a'b\"c$d",
        ] {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", shell(text))).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn every_kind_of_quotation_mark_is_doubled() {
        assert_eq!(powershell("a'b’c‘d‚e‛f\"$x`n"), "'a''b’’c‘‘d‚‚e‛‛f\"$x`n'");
        assert_eq!(comment("a\r\nb\u{2028}c"), "a  b c");
    }
}
