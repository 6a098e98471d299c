use transload_block::{ErrorKind, Result};

use crate::ovf::{Capacity, Compression, Dialect, Namespace, Package, read};
use crate::{Address, Bus, DiskFormat, Firmware, Mac, MacPolicy, Machine, Media, Network, NicModel, ScsiModel, Sound};

/// An envelope of the version 1 with these parts.
fn envelope(references: &str, sections: &str, hardware: &str) -> String {
    format!(
        r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r" xmlns:vssd="v" xmlns:vmw="http://www.vmware.com/schema/ovf">
<References>{references}</References>{sections}
<VirtualSystem ovf:id="vm"><Info/><Name>vm</Name><VirtualHardwareSection><Info/>{hardware}</VirtualHardwareSection></VirtualSystem></Envelope>"#
    )
}

fn package(references: &str, sections: &str, hardware: &str) -> Result<Package> {
    read(envelope(references, sections, hardware).as_bytes())
}

fn machine(references: &str, sections: &str, hardware: &str) -> Machine {
    package(references, sections, hardware).unwrap().systems.swap_remove(0).machine
}

/// An item of `kind` with the id `id` and further fields.
fn item(id: &str, kind: u32, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("<rasd:{name}>{value}</rasd:{name}>")).collect();
    format!("<Item><rasd:InstanceID>{id}</rasd:InstanceID><rasd:ResourceType>{kind}</rasd:ResourceType>{fields}</Item>")
}

fn memory(quantity: &str, units: &str) -> Result<u64> {
    let units: &[_] = if units.is_empty() { &[] } else { &[("AllocationUnits", units)] };
    let fields = [&[("VirtualQuantity", quantity)], units].concat();
    Ok(package("", "", &item("1", 4, &fields))?.systems[0].machine.memory_mib)
}

#[test]
fn memory_in_every_unit() {
    assert_eq!(memory("2", "byte * 2^30").unwrap(), 2048);
    assert_eq!(memory("512", "MegaBytes").unwrap(), 512);
    assert_eq!(memory("512", "").unwrap(), 512);
    assert_eq!(memory("1048577", "byte").unwrap(), 2);
    for (quantity, units) in [
        ("0", "byte * 2^20"),
        ("-1", "byte * 2^20"),
        ("x", "MB"),
        ("18446744073709551615", "byte * 2^40"),
        ("1", "hertz * 10^6"),
        ("1", "byte * 2^99"),
    ] {
        assert_eq!(memory(quantity, units).unwrap_err().kind(), ErrorKind::Corrupt, "{quantity} {units}");
    }
}

#[test]
fn capacities_in_every_unit_and_by_property() {
    let sections = |disk: &str| {
        format!(
            r#"<DiskSection><Info/><Disk ovf:diskId="d" {disk}/></DiskSection>
            <ProductSection ovf:class="com.example" ovf:instance="2"><Info/><Property ovf:key="size" ovf:type="uint32" ovf:value="20"/></ProductSection>"#
        )
    };
    let capacity =
        |disk: &str| Ok::<_, transload_block::Error>(package("", &sections(disk), "")?.disks[0].capacity.clone());
    assert_eq!(
        capacity(r#"ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^30""#).unwrap(),
        Capacity::Bytes(8 << 30)
    );
    assert_eq!(capacity(r#"ovf:capacity="86000000000""#).unwrap(), Capacity::Bytes(86_000_000_000));
    assert_eq!(
        capacity(r#"ovf:capacity="3" ovf:capacityAllocationUnits="GigaBytes""#).unwrap(),
        Capacity::Bytes(3 << 30)
    );
    for key in ["size", "com.example.size.2"] {
        let by_property =
            capacity(&format!(r#"ovf:capacity="${{{key}}}" ovf:capacityAllocationUnits="byte * 2^30""#)).unwrap();
        assert_eq!(by_property, Capacity::Property { key: key.to_owned(), unit: 1 << 30, default: Some(20 << 30) });
    }
    assert_eq!(capacity(r#"ovf:capacity="${none}""#).unwrap().bytes(), None);
    for lie in [
        "",
        r#"ovf:capacity="-5""#,
        r#"ovf:capacity="18446744073709551615""#,
        r#"ovf:capacity="9" ovf:capacityAllocationUnits="parsec""#,
        r#"ovf:capacity="9" ovf:fileRef="none""#,
    ] {
        assert_eq!(capacity(lie).unwrap_err().kind(), ErrorKind::Corrupt, "{lie}");
    }
}

#[test]
fn files_chunked_compressed_and_wrong() {
    let read =
        |file: &str| package(&format!("<File ovf:id='f' {file}/>"), "", "").map(|package| package.files[0].clone());
    let chunked = read(r#"ovf:href="a.vmdk" ovf:size="25" ovf:chunkSize="10""#).unwrap();
    assert_eq!(chunked.pieces(), ["a.vmdk.000000000", "a.vmdk.000000001", "a.vmdk.000000002"]);
    assert_eq!(
        read(r#"ovf:href="a" ovf:size="18446744073709551615" ovf:chunkSize="1""#).unwrap().pieces().len(),
        100_000
    );
    assert_eq!(read(r#"ovf:href="a.gz" ovf:compression="gzip""#).unwrap().compression, Compression::Gzip);
    assert_eq!(read(r#"ovf:href="a" ovf:compression="identity" ovf:size="-3""#).unwrap().size, None);
    assert_eq!(
        read(r#"ovf:href="a" ovf:compression="bzip2""#).unwrap().compression,
        Compression::Other(String::from("bzip2"))
    );
    assert_eq!(read("ovf:size='1'").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn drives_find_their_places() {
    let references = r#"<File ovf:id="f1" ovf:href="one.vmdk"/><File ovf:id="f2" ovf:href="two.iso"/><File ovf:id="f3" ovf:href="three.qcow2"/>"#;
    let sections = r#"<DiskSection><Info/><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="1"/><Disk ovf:diskId="d2" ovf:capacity="2"/>
        <Disk ovf:diskId="img" ovf:fileRef="f3" ovf:capacity="3" ovf:format="http://www.gnome.org/~markmc/qcow-image-format.html"/></DiskSection>"#;
    let hardware = [
        item("3", 5, &[("Address", "1")]),
        item("4", 20, &[("ResourceSubType", "vmware.nvme.controller")]),
        item("5", 6, &[("ResourceSubType", "someother, lsilogicsas"), ("Address", "2")]),
        item("6", 17, &[("Parent", "4"), ("AddressOnParent", "3"), ("HostResource", "ovf:/disk/d1")]),
        item("7", 17, &[("Parent", "3"), ("AddressOnParent", "0"), ("HostResource", "/disk/d2")]),
        item("8", 15, &[("Parent", "3"), ("AddressOnParent", "0"), ("HostResource", "ovf:/file/f2")]),
        item("9", 17, &[("Parent", "5"), ("HostResource", "group/img")]),
        item("10", 17, &[("Parent", "99"), ("AddressOnParent", "4"), ("HostResource", "ovf:/file/f3")]),
        item("11", 16, &[("Parent", "3"), ("AddressOnParent", "3")]),
    ];
    let package = package(references, sections, &hardware.concat()).unwrap();
    let machine = &package.systems[0].machine;
    let disks: Vec<_> = machine
        .disks
        .iter()
        .map(|disk| (disk.id.as_str(), disk.address.to_string(), disk.file.as_deref(), disk.format.clone()))
        .collect();
    assert_eq!(
        disks,
        [
            ("d1", "nvme0:3".to_owned(), Some("one.vmdk"), Some(DiskFormat::Vmdk)),
            ("d2", "ide1:0".to_owned(), None, None),
            ("img", "scsi2:0".to_owned(), Some("three.qcow2"), Some(DiskFormat::Qcow2)),
            ("disk4", "ide3:0".to_owned(), Some("three.qcow2"), Some(DiskFormat::Qcow2)),
        ]
    );
    assert_eq!(machine.scsi_model(2), Some(&ScsiModel::LsiLogicSas));
    assert_eq!(machine.drives[0].address, Some(Address::new(Bus::Ide, 1, 1)));
    assert_eq!(machine.drives[0].media, Media::Image(String::from("two.iso")));
    assert_eq!(machine.drives[1].address, Some(Address::new(Bus::Ide, 2, 1)));
    let unknown = package_error(&item("1", 17, &[("HostResource", "ovf:/disk/none")]));
    assert_eq!(unknown, ErrorKind::Corrupt);
}

fn package_error(hardware: &str) -> ErrorKind {
    package("", "", hardware).unwrap_err().kind()
}

#[test]
fn devices_of_every_kind() {
    let hardware = [
        item("1", 3, &[("VirtualQuantity", "6")]).replace("</Item>", "<vmw:CoresPerSocket ovf:required='false'>3</vmw:CoresPerSocket></Item>"),
        item("2", 10, &[("ResourceSubType", "VmxNet3"), ("Connection", "NAT"), ("Address", "00:50:56:00:00:01"), ("AutomaticAllocation", "false")]),
        item("3", 10, &[("Connection", "LAN")]),
        item("4", 10, &[("ResourceSubType", "3Com")]),
        item("5", 35, &[("ResourceSubType", "hda")]),
        item("6", 1, &[("ResourceSubType", "vmware.vtpm")]),
        item("7", 89, &[]),
        item("8", 14, &[("ResourceSubType", "vmware.floppy.remotedevice")]),
        "<vmw:Config vmw:key='firmware' vmw:value='efi'/><vmw:Config vmw:key='bootOptions.efiSecureBootEnabled' vmw:value='true'/>".to_owned(),
        "<vmw:Config vmw:key='tools.syncTimeWithHost' vmw:value='true'/><vmw:ExtraConfig vmw:key='a.b' vmw:value='c'/>".to_owned(),
        "<vmw:ExtraConfig vmw:key='nvram' vmw:value='x.nvram'/>".to_owned(),
    ];
    let package = package("", "", &hardware.concat()).unwrap();
    let system = &package.systems[0];
    let machine = &system.machine;
    assert_eq!((machine.cpus, machine.cores_per_socket), (6, Some(3)));
    assert_eq!(machine.nics[0].mac, MacPolicy::Fixed(Mac([0, 0x50, 0x56, 0, 0, 1])));
    assert_eq!((&machine.nics[0].network, machine.nics[0].connected), (&Network::Nat, false));
    assert_eq!((&machine.nics[1].model, &machine.nics[1].network), (&None, &Network::Named(String::from("LAN"))));
    assert_eq!(machine.nics[2].model, Some(NicModel::Other(String::from("3Com"))));
    assert_eq!((machine.sound.clone(), machine.tpm), (Some(Sound::HdAudio), true));
    assert_eq!(machine.firmware, Firmware::Efi { secure_boot: true });
    assert_eq!(machine.drives[0].media, Media::Client);
    assert_eq!((machine.config.len(), machine.extra.len(), &machine.nvram), (1, 1, &None));
    let messages: Vec<_> = system.notes.iter().map(|note| note.message.as_str()).collect();
    assert!(
        messages.iter().any(|message| message.contains("type 89"))
            && messages.iter().any(|message| message.contains("3Com")),
        "{messages:?}"
    );
    assert_eq!(
        package_error(&[item("1", 3, &[]), item("1", 4, &[("VirtualQuantity", "1")])].concat()),
        ErrorKind::Corrupt
    );
    assert_eq!(package_error(&item("1", 3, &[("VirtualQuantity", "0")])), ErrorKind::Corrupt);
    assert_eq!(package_error(&item("1", 3, &[("VirtualQuantity", "4294967296")])), ErrorKind::Corrupt);
}

#[test]
fn the_default_configuration_counts_and_bounds_do_not() {
    let sections = r#"<DeploymentOptionSection><Info/>
        <Configuration ovf:id="small"><Label>Small</Label><Description ovf:msgid="m1"/></Configuration>
        <Configuration ovf:id="large" ovf:default="true"><Label>Large</Label><Description>much</Description></Configuration></DeploymentOptionSection>
        <ProductSection ovf:class="a"><Info/><Property ovf:key="k" ovf:type="string" ovf:value="plain"><Value ovf:value="big" ovf:configuration="large"/></Property></ProductSection>
        <Strings xml:lang="en"><Msg ovf:msgid="m1">little</Msg></Strings>"#;
    let configured = |text: String, ids: &str| text.replace("<Item>", &format!("<Item ovf:configuration='{ids}'>"));
    let cpus = |number: &str| item("1", 3, &[("VirtualQuantity", number)]);
    let hardware = [
        cpus("1"),
        configured(cpus("2"), "small"),
        configured(cpus("8"), "huge large"),
        cpus("99").replace("<Item>", "<Item ovf:bound='max'>"),
        configured(item("2", 10, &[("Connection", "x")]), "small"),
    ];
    let package = package("", sections, &hardware.concat()).unwrap();
    assert_eq!(
        package
            .configurations
            .iter()
            .map(|option| (option.label.as_str(), option.description.as_str(), option.default))
            .collect::<Vec<_>>(),
        [("Small", "little", false), ("Large", "much", true)]
    );
    assert_eq!((package.systems[0].machine.cpus, package.systems[0].machine.nics.len()), (8, 0));
}

#[test]
fn machines_products_and_licences_are_named() {
    let text = r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/2" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2" xmlns:vssd="v">
        <VirtualSystemCollection ovf:id="outer"><Info/><StartupSection><Info/></StartupSection>
        <VirtualSystem ovf:id="one"><Info/><Name>First ☃</Name>
          <ProductSection ovf:class="c"><Info/><Product>P</Product><Vendor>V</Vendor><Version>1</Version><Category>Net</Category>
            <Property ovf:key="ip" ovf:type="string" ovf:userConfigurable="true" ovf:password="true"><Label>Address</Label></Property></ProductSection>
          <EulaSection><Info/><License>agree</License></EulaSection>
          <OtherSection ovf:required="false"><Info/></OtherSection>
        </VirtualSystem>
        <VirtualSystemCollection ovf:id="inner"><Info/><VirtualSystem ovf:id="two"><Info/>
          <VirtualHardwareSection ovf:transport="iso com.vmware.guestInfo"><Info/><System><vssd:VirtualSystemIdentifier>Second</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>xen-3 vmx-09</vssd:VirtualSystemType></System></VirtualHardwareSection>
        </VirtualSystem></VirtualSystemCollection></VirtualSystemCollection></Envelope>"#;
    let package = read(text.as_bytes()).unwrap();
    assert_eq!((package.namespace, &package.dialect), (Namespace::V2, &Dialect::VMware));
    let names: Vec<_> =
        package.systems.iter().map(|system| (system.machine.name.as_str(), system.collections.join("/"))).collect();
    assert_eq!(names, [("First ☃", "outer".to_owned()), ("Second", "outer/inner".to_owned())]);
    let first = &package.systems[0];
    assert_eq!(first.products[0].vendor.as_deref(), Some("V"));
    let property = &first.products[0].properties[0];
    assert_eq!(
        (property.key.as_str(), property.category.as_deref(), property.label.as_deref()),
        ("c.ip", Some("Net"), Some("Address"))
    );
    assert!(property.user_configurable && property.password && property.value.is_none());
    assert_eq!(first.eulas[0].0, "agree");
    let parts: Vec<_> = first.notes.iter().map(|note| note.part.as_str()).collect();
    assert_eq!(parts, ["hardware", "OtherSection", "properties", "licences"]);
    assert_eq!(package.systems[1].transports, ["iso", "com.vmware.guestInfo"]);
    assert_eq!(package.systems[1].machine.hardware_version, Some(9));
    assert_eq!(package.notes.iter().map(|note| note.part.as_str()).collect::<Vec<_>>(), ["outer: StartupSection"]);
}

#[test]
fn what_is_no_descriptor_or_lies_is_refused() {
    let kind = |text: &str| read(text.as_bytes()).unwrap_err().kind();
    assert_eq!(kind(""), ErrorKind::Corrupt);
    assert_eq!(kind("<domain/>"), ErrorKind::NotThisFormat);
    assert_eq!(kind("<Envelope/>"), ErrorKind::NotThisFormat);
    assert_eq!(kind(r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/7"/>"#), ErrorKind::Unsupported);
    assert_eq!(
        kind(
            r#"<!DOCTYPE a [<!ENTITY b "c">]><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">&b;</Envelope>"#
        ),
        ErrorKind::Denied
    );
    let nested = |depth: usize| {
        let (open, close) = ("<VirtualSystemCollection>".repeat(depth), "</VirtualSystemCollection>".repeat(depth));
        read(format!(r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">{open}{close}</Envelope>"#).as_bytes())
    };
    assert!(nested(64).is_ok());
    assert_eq!(nested(70).unwrap_err().kind(), ErrorKind::TooLarge);
    let files: String = (0..5000).map(|number| format!("<File ovf:id='f{number}' ovf:href='h{number}'/>")).collect();
    assert_eq!(package(&files, "", "").unwrap_err().kind(), ErrorKind::TooLarge);
    let items: String = (0..5000).map(|number| item(&number.to_string(), 10, &[])).collect();
    assert_eq!(package_error(&items), ErrorKind::TooLarge);
    assert_eq!(machine("", "", "").memory_mib, 1024);
}
