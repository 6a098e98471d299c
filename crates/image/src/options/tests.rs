//! Sizes, separators and values that are not what they should be.

use proptest::proptest;

use super::*;

const SPECS: &[OptionSpec] = &[
    OptionSpec { name: "lazy", kind: OptionKind::Flag, default: "off", help: "" },
    OptionSpec { name: "bits", kind: OptionKind::Number, default: "16", help: "" },
    OptionSpec { name: "cluster_size", kind: OptionKind::Size, default: "64k", help: "" },
    OptionSpec { name: "compat", kind: OptionKind::Choice(&["0.10", "1.1"]), default: "1.1", help: "" },
    OptionSpec { name: "backing_file", kind: OptionKind::Text, default: "", help: "" },
];

fn parse(arguments: &[&str]) -> Result<OptionValues> {
    OptionValues::parse(SPECS, arguments.iter().copied())
}

fn refused(argument: &str, words: &[&str]) {
    let error = parse(&[argument]).expect_err(argument);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for word in words {
        assert!(error.to_string().contains(word), "{error} should say {word:?}");
    }
}

#[test]
fn values_of_every_kind() {
    let values = parse(&["lazy=on,bits=64,cluster_size=2M", "compat=0.10", "backing_file=a b.qcow2"]).unwrap();
    assert_eq!(values.flag("lazy"), Some(true));
    assert_eq!(values.number("bits"), Some(64));
    assert_eq!(values.size("cluster_size"), Some(2 << 20));
    assert_eq!(values.text("compat"), Some("0.10"));
    assert_eq!(values.text("backing_file"), Some("a b.qcow2"));
    let listed: Vec<_> = values.iter().map(|(key, _)| key).collect();
    assert_eq!(listed, ["backing_file", "bits", "cluster_size", "compat", "lazy"]);
    assert!(!values.is_empty());
}

#[test]
fn nothing_given_is_nothing_set() {
    for arguments in [&[][..], &[""], &[",,", " , "][..1], &[" , ,"]] {
        let given = parse(arguments);
        assert!(given.as_ref().is_ok_and(OptionValues::is_empty) || arguments == [",,"], "{arguments:?}: {given:?}");
    }
    let values = OptionValues::default();
    assert_eq!(
        (values.flag("lazy"), values.number("bits"), values.size("x"), values.text("y")),
        (None, None, None, None)
    );
}

#[test]
fn a_comma_in_a_value_is_written_twice() {
    let name = |argument: &str| parse(&[argument]).unwrap().text("backing_file").map(str::to_owned);
    assert_eq!(name("backing_file=a,,b").unwrap(), "a,b");
    assert_eq!(name("backing_file=a,,").unwrap(), "a,");
    assert_eq!(name("backing_file=a,,,bits=2").unwrap(), "a,");
    assert_eq!(name("bits=2,backing_file=,,,,").unwrap(), ",,");
    assert_eq!(name("backing_file=x=y").unwrap(), "x=y");
    assert_eq!(name("backing_file=").unwrap(), "");
}

#[test]
fn a_later_value_wins_and_a_bare_key_is_on() {
    assert_eq!(parse(&["bits=1,bits=2", "bits=3"]).unwrap().number("bits"), Some(3));
    assert_eq!(parse(&["lazy"]).unwrap().flag("lazy"), Some(true));
    assert_eq!(parse(&[" lazy , bits=4"]).unwrap().number("bits"), Some(4));
}

#[test]
fn flags_have_three_spellings() {
    for (word, value) in [("on", true), ("yes", true), ("true", true), ("off", false), ("no", false), ("false", false)]
    {
        assert_eq!(parse(&[&format!("lazy={word}")]).unwrap().flag("lazy"), Some(value));
    }
}

#[test]
fn mistakes_are_told_with_what_is_wanted() {
    refused("speed=9", &["'speed'", "bits", "cluster_size"]);
    refused("=on", &["''"]);
    refused("lazy=maybe", &["lazy=maybe", "on or off"]);
    refused("bits=-1", &["whole number"]);
    refused("bits=99999999999999999999", &["whole number"]);
    refused("bits", &["bits=on", "whole number"]);
    refused("cluster_size=big", &["a size"]);
    refused("compat=1.2", &["0.10, 1.1"]);
    let error = OptionValues::parse(&[], ["x=1"]).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn sizes_as_qemu_img_reads_them() {
    let table: &[(&str, Option<u64>)] = &[
        ("0", Some(0)),
        ("65536", Some(65536)),
        ("512b", Some(512)),
        ("64k", Some(65536)),
        ("64K", Some(65536)),
        ("64KiB", Some(65536)),
        (" 2M ", Some(2 << 20)),
        ("1.5G", Some(3 << 29)),
        ("0.5k", Some(512)),
        ("0.001k", Some(1)),
        ("3T", Some(3 << 40)),
        ("2P", Some(2 << 50)),
        ("15E", Some(15 << 60)),
        ("15.999999999E", Some(0xffff_ffff_bb47_d05f)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("16E", None),
        ("17179869184G", None),
        ("", None),
        ("k", None),
        (".5k", None),
        ("1.5", None),
        ("1.5b", None),
        ("1.", None),
        ("1.5.5k", None),
        ("1.0000000001k", None),
        ("-1", None),
        ("+1", None),
        ("0x10", None),
        ("1e3", None),
        ("1 k", None),
        ("1kk", None),
        ("1kB", None),
        ("1Z", None),
        ("١k", None),
        ("1ķ", None),
    ];
    for (text, bytes) in table {
        assert_eq!(parse_size(text), *bytes, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "(flag|number|size|text|x)?=?[0-9a-zA-Z.,= ékKMG]{0,20}") {
        crate::properties::options(&text);
    }

    #[test]
    fn whole_sizes_come_back(bytes in 0_u64..1 << 44) {
        assert_eq!(parse_size(&bytes.to_string()), Some(bytes));
        assert_eq!(parse_size(&format!("{bytes}k")), Some(bytes << 10));
    }
}
