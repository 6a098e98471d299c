use reqwest::Url;
use transload_block::ErrorKind;

use super::{Policy, Rule, is_public};

fn check(policy: &Policy, text: &str) -> Result<(), ErrorKind> {
    policy.check_url(text, &Url::parse(text).unwrap()).map_err(|error| error.kind())
}

#[test]
fn public_addresses_are_told_from_all_others() {
    let public = [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.0.1",
        "100.128.0.0",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "2001:200::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];
    for address in public {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
    let special = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.9",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "2001::1",
        "100::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "5f00::1",
        "4000::1",
    ];
    for address in special {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn an_address_in_disguise_is_refused() {
    for text in [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0x7f.1/x",
        "http://user@2130706433:80/",
        "http://0x08080808/",
        "http://134744072/",
        "http://8.8.2056/",
        "http://010.010.010.010/",
        "http://%38.8.8.8/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1]/",
        "http://127.0.0.1/",
        "http://[::ffff:7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://①②⑦.0.0.1/",
    ] {
        assert_eq!(check(&Policy::Public, text), Err(ErrorKind::Denied), "{text}");
        assert_eq!(check(&Policy::Open, text), Ok(()), "{text}");
    }
    for text in
        ["http://8.8.8.8/", "https://user:word@8.8.8.8:8443/x?y#z", "http://[2606:4700::1111]/", "http://example.org/"]
    {
        assert_eq!(check(&Policy::Public, text), Ok(()), "{text}");
    }
    for text in ["ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/"] {
        assert_eq!(check(&Policy::Open, text), Err(ErrorKind::InvalidInput), "{text}");
    }
}

#[test]
fn rules_name_hosts_and_networks() {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse::<Rule>().unwrap()).collect::<Vec<_>>();
    let allow = Policy::Allow(rules(&["10.1.0.0/16", "store.internal", ".lab.example", "[fd12::]/16"]));
    let permits = |host: &str, address: &str| allow.permits(host, address.parse().unwrap());
    assert!(permits("x", "10.1.255.1") && permits("x", "::ffff:10.1.0.1") && !permits("x", "10.2.0.1"));
    assert!(permits("STORE.internal.", "192.168.0.1") && !permits("store.internal.evil.org", "192.168.0.1"));
    assert!(
        permits("a.lab.example", "127.0.0.1")
            && !permits("lab.example", "127.0.0.1")
            && !permits("xlab.example", "127.0.0.1")
    );
    assert!(permits("x", "fd12::5") && !permits("x", "fd13::5") && permits("x", "8.8.8.8"));
    let only = Policy::Only(rules(&["8.8.8.0/24", "0.0.0.0/32"]));
    assert!(only.permits("x", "8.8.8.8".parse().unwrap()) && !only.permits("x", "1.1.1.1".parse().unwrap()));
    for wrong in ["", ".", "10.0.0.0/33", "fd00::/129", "10.0.0.0/x", "http://x", "a b", "a/8"] {
        assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
    }
}

#[test]
fn what_is_left_of_a_name_is_what_is_allowed() {
    let addresses = || vec!["127.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()];
    assert_eq!(Policy::Public.filter("mixed", addresses()).unwrap(), ["8.8.8.8".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(Policy::Open.filter("mixed", addresses()).unwrap().len(), 2);
    let error = Policy::Public.filter("meta.example", vec!["169.254.169.254".parse().unwrap()]).unwrap_err();
    assert_eq!(error.to_string(), "denied: meta.example (169.254.169.254, link-local) is not allowed");
    assert_eq!(Policy::Public.filter("nobody", vec![]).unwrap_err().kind(), ErrorKind::Denied);
}
