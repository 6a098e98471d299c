//! The small languages of system files: `os-release`, and the heads of programs.

/// The value of `key` in a file of assignments, as a shell would understand it (os-release(5)).
pub(crate) fn assignment(text: &str, key: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim();
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let Some(quote) = quote else { return Some(value.to_owned()).filter(|value| !value.is_empty()) };
    let mut unquoted = String::new();
    let mut characters = value.chars().skip(1);
    while let Some(character) = characters.next() {
        match character {
            end if end == quote => break,
            '\\' if quote == '"' => unquoted.extend(characters.next()),
            other => unquoted.push(other),
        }
    }
    Some(unquoted).filter(|value| !value.is_empty())
}

/// The processor that an ELF program is for, by its head.
pub(crate) fn elf_machine(head: &[u8]) -> Option<&'static str> {
    const MACHINE: usize = 18;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let bytes: [u8; 2] = head.get(MACHINE..MACHINE + 2)?.try_into().ok()?;
    let is_little = head.get(5) == Some(&1);
    let machine = if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    Some(match (machine, is_little) {
        (3, _) => "i386",
        (62, _) => "x86_64",
        (40, _) => "arm",
        (183, _) => "aarch64",
        (243, _) => "riscv",
        (21, true) => "ppc64le",
        (21, false) => "ppc64",
        (22, _) => "s390x",
        (258, _) => "loongarch64",
        (8, true) => "mipsel",
        (8, false) => "mips",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{assignment, elf_machine};

    #[test]
    fn assignments_are_read_as_a_shell_reads_them() {
        let text = "# NAME=x\nNAME=\"Debian \\\"GNU\\\"/Linux\"\nID=debian\nEMPTY=\nSINGLE='a\\b'\nVERSION_ID=\"1\"\nVERSION_ID=\"12\"\n";
        assert_eq!(assignment(text, "NAME").unwrap(), "Debian \"GNU\"/Linux");
        assert_eq!(assignment(text, "ID").unwrap(), "debian");
        assert_eq!(assignment(text, "SINGLE").unwrap(), "a\\b");
        assert_eq!(assignment(text, "VERSION_ID").unwrap(), "12");
        assert_eq!(assignment(text, "EMPTY"), None);
        assert_eq!(assignment(text, "VERSION"), None);
    }

    #[test]
    fn programs_say_what_they_run_on() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(elf_machine(&own), Some(std::env::consts::ARCH));
        assert_eq!(elf_machine(b"\x7fELF"), None);
        assert_eq!(elf_machine(b"#!/bin/sh"), None);
    }
}
