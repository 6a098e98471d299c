use transload_block::ErrorKind;

use crate::ovf::{Change, edit, read};

const DESCRIPTOR: &str = r#"<?xml version="1.0" encoding='ISO-8859-1'?>
<!-- kept -->
<ovf:Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>
    <File ovf:href="a.vmdk.gz" ovf:id="file1" ovf:size = '5' ovf:compression="gzip"/>
    <File ovf:href='x.nvram' ovf:id='file2'/>
    <File ovf:href="c.iso" ovf:id="file3" ovf:size="7"/>
  </References>
  <DiskSection><Info/><Disk ovf:diskId="d1" ovf:fileRef="file1" ovf:capacity="1073741825" ovf:format="x"/></DiskSection>
  <VirtualSystem ovf:id="ä"><Info/>
    <VirtualHardwareSection><Info/>
      <System><vssd:VirtualSystemType xml:lang="en">virtualbox-2.2</vssd:VirtualSystemType></System>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>15</rasd:ResourceType><rasd:HostResource>ovf:/file/file3</rasd:HostResource></Item>
      <Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceSubType>vmware.vmci</rasd:ResourceSubType><rasd:ResourceType>1</rasd:ResourceType></Item>
      <vmw:Config vmw:key="firmware" vmw:value="efi"/>
      <vmw:ExtraConfig ovf:required="true" vmw:key="nvram" vmw:value="x.nvram"/>
    </VirtualHardwareSection>
    <vbox:Machine ovf:required="false"/>
  </VirtualSystem>
</ovf:Envelope>"#;

fn bytes() -> Vec<u8> {
    encoding_rs::WINDOWS_1252.encode(DESCRIPTOR).0.into_owned()
}

fn edited(changes: &[Change]) -> String {
    edit(bytes(), changes).unwrap()
}

fn id(id: &str) -> String {
    id.to_owned()
}

#[test]
fn nothing_but_the_change_changes() {
    let same = edited(&[]);
    assert_eq!(same, DESCRIPTOR.replace("ISO-8859-1", "UTF-8"));
    let changed =
        edited(&[Change::FileSize { id: id("file1"), size: 99 }, Change::FileSize { id: id("file2"), size: 3 }]);
    let expected = same
        .replace("ovf:size = '5'", "ovf:size = '99'")
        .replace("<File ovf:href='x.nvram'", "<File ovf:size=\"3\" ovf:href='x.nvram'");
    assert_eq!(changed, expected);
    assert_eq!(edited(&[Change::FileSize { id: id("file1"), size: 5 }]), same);
}

#[test]
fn every_remedy_is_applied() {
    let text = edited(&[
        Change::Family(id("vmx-15")),
        Change::FileName { id: id("file1"), href: id("a & 'b'.vmdk") },
        Change::FileSize { id: id("file1"), size: 512 },
        Change::Capacity { id: id("d1"), bytes: 1_073_741_825 },
        Change::StreamOptimized { id: id("d1") },
        Change::RemoveFile { id: id("file2") },
        Change::RemoveFile { id: id("file3") },
        Change::PrivateNotRequired,
    ]);
    let package = read(text.as_bytes()).unwrap();
    assert_eq!(package.systems[0].families, ["vmx-15"]);
    assert_eq!(package.files.len(), 1);
    let file = &package.files[0];
    assert_eq!(
        (file.href.as_str(), file.size, &file.compression),
        ("a & 'b'.vmdk", Some(512), &crate::ovf::Compression::None)
    );
    assert_eq!(package.disks[0].capacity.bytes(), Some(1025 << 20));
    assert_eq!(package.disks[0].units.as_deref(), Some("byte * 2^20"));
    assert!(package.disks[0].format.as_deref().unwrap().ends_with("#streamOptimized"));
    assert_eq!(package.systems[0].machine.drives[0].media, crate::Media::Empty);
    assert!(!text.contains("x.nvram") && !text.contains("file3"), "{text}");
    assert!(text.contains(r#"<vmw:Config ovf:required="false" vmw:key="firmware""#), "{text}");
    assert!(text.contains(r#"<Item ovf:required="false"><rasd:InstanceID>2<"#), "{text}");
    assert!(text.contains("<Item><rasd:InstanceID>1<") && text.contains("<!-- kept -->"), "{text}");
    assert!(text.contains(r#"<vssd:VirtualSystemType xml:lang="en">vmx-15</vssd:VirtualSystemType>"#), "{text}");
    // A second time there is nothing to do.
    assert_eq!(edit(text.as_bytes(), &[Change::PrivateNotRequired, Change::Family(id("vmx-15"))]).unwrap(), text);
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let refused = |change: Change| edit(bytes(), &[change]).unwrap_err().kind();
    assert_eq!(refused(Change::FileSize { id: id("none"), size: 1 }), ErrorKind::InvalidInput);
    assert_eq!(refused(Change::Capacity { id: id("none"), bytes: 1 }), ErrorKind::InvalidInput);
    assert_eq!(refused(Change::RemoveFile { id: id("file1") }), ErrorKind::InvalidInput);
}

#[test]
fn an_envelope_without_a_prefix_gets_one() {
    let bare = r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><References><File href="a" id="f"/></References></Envelope>"#;
    let text = edit(bare.as_bytes(), &[Change::FileSize { id: id("f"), size: 3 }]).unwrap();
    assert_eq!(read(text.as_bytes()).unwrap().files[0].size, Some(3));
}
