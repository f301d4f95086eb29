//! Boxes for Vagrant, from an x86 image.
//!
//! Nobody logs in to such a machine: the Vagrantfile that uses it says so (`tests/lab`).

use super::configure::release;
use super::error::{DiskError, Doing, at};
use super::format::{Format, check_output};
use super::work::Work;
use clap::ValueEnum;
use flate2::{Compression, GzBuilder};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

const GIB: u64 = 1 << 30;
/// A machine's disk: it costs only what is written to it. Bytes.
pub const DISK_BYTES: u64 = 8 * GIB;

/// What runs a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    Libvirt,
    Virtualbox,
}

/// Make a box of an image.
///
/// # Errors
/// It is no x86 image, or reading, writing or `qemu-img` failed.
pub fn make(image: &Path, provider: Provider, bytes: u64, output: &Path) -> Result<(), DiskError> {
    check_output(output)?;
    if fs::canonicalize(output)
        .is_ok_and(|output| fs::canonicalize(image).is_ok_and(|i| i == output))
    {
        let text =
            format!("{} is the image itself; write the box to another file", output.display());
        return Err(DiskError::Refused(text));
    }
    let release = release(image)?;
    if release.board != "x86" {
        let (path, board) = (image.display(), release.board);
        return Err(DiskError::Refused(format!("{path} is for {board}; boxes are made of x86")));
    }
    let gib = bytes.div_ceil(GIB).max(1);
    let within = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let work = Work::new(within.unwrap_or(Path::new(".")))?;
    let raw = work.path("raw");
    fs::copy(image, &raw).doing(|| format!("copying {} to {}", image.display(), raw.display()))?;
    let file = OpenOptions::new().write(true).open(&raw).doing(at("opening", &raw))?;
    let bytes = (gib * GIB).max(image.metadata().doing(at("reading", image))?.len());
    file.set_len(bytes).doing(at("writing", &raw))?;
    let disk = work.path("box-disk");
    let (format, files) = match provider {
        Provider::Libvirt => (Format::Qcow2, libvirt(gib)),
        Provider::Virtualbox => (Format::Vmdk, virtualbox(bytes)),
    };
    format.convert(&raw, &disk, &work)?;
    let made = work.path("box");
    pack(&files, &disk, &made).doing(at("writing", output))?;
    fs::rename(&made, output).doing(at("writing", output))
}

/// Files of a box: text, or (empty) the disk.
type Files = Vec<(&'static str, String)>;

fn libvirt(gib: u64) -> Files {
    let about = serde_json::json!({
        "provider": "libvirt", "format": "qcow2", "virtual_size": gib,
    });
    vec![
        ("metadata.json", about.to_string()),
        ("Vagrantfile", vagrantfile("libvirt", "    one.disk_bus = 'virtio'\n")),
        ("box.img", String::new()),
    ]
}

fn virtualbox(bytes: u64) -> Files {
    let about = serde_json::json!({ "provider": "virtualbox" });
    vec![
        ("metadata.json", about.to_string()),
        ("Vagrantfile", vagrantfile("virtualbox", "    one.check_guest_additions = false\n")),
        ("box.ovf", machine(bytes)),
        ("box-disk.vmdk", String::new()),
    ]
}

fn vagrantfile(provider: &str, more: &str) -> String {
    format!(
        "Vagrant.configure('2') do |config|\n  \
           config.vm.synced_folder '.', '/vagrant', disabled: true\n  \
           config.ssh.username = 'root'\n  config.ssh.insert_key = false\n  \
           config.vm.provider :{provider} do |one|\n{more}  end\nend\n"
    )
}

/// A machine as VirtualBox imports it: a disk, a network card, a serial line nobody reads.
fn machine(bytes: u64) -> String {
    let item = |body: &str| format!("      <Item>{body}</Item>\n");
    let hardware = [
        "<rasd:ElementName>1 CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>\
         <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity>",
        "<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>\
         <rasd:ElementName>512 MB</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID>\
         <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity>",
        "<rasd:Address>0</rasd:Address><rasd:ElementName>sata0</rasd:ElementName>\
         <rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType>\
         <rasd:ResourceType>20</rasd:ResourceType>",
        "<rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk0</rasd:ElementName>\
         <rasd:HostResource>/disk/disk0</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>\
         <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType>",
        "<rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>\
         <rasd:Connection>NAT</rasd:Connection><rasd:ElementName>net0</rasd:ElementName>\
         <rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>E1000</rasd:ResourceSubType>\
         <rasd:ResourceType>10</rasd:ResourceType>",
    ];
    let hardware: String = hardware.iter().map(|body| item(body)).collect();
    let name = "http://schemas.dmtf.org/ovf/envelope/1";
    let data = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_";
    format!(
        "<?xml version=\"1.0\"?>\n\
         <Envelope ovf:version=\"1.0\" xmlns=\"{name}\" xmlns:ovf=\"{name}\" \
         xmlns:rasd=\"{data}ResourceAllocationSettingData\" \
         xmlns:vssd=\"{data}VirtualSystemSettingData\">\n  \
         <References><File ovf:id=\"file0\" ovf:href=\"box-disk.vmdk\"/></References>\n  \
         <DiskSection><Info>Disks</Info><Disk ovf:capacity=\"{bytes}\" ovf:diskId=\"disk0\" \
         ovf:fileRef=\"file0\" ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/></DiskSection>\n  \
         <NetworkSection><Info>Networks</Info><Network ovf:name=\"NAT\"/></NetworkSection>\n  \
         <VirtualSystem ovf:id=\"bramble\">\n    <Info>A node of bramble</Info>\n    \
         <OperatingSystemSection ovf:id=\"101\"><Info>Linux</Info></OperatingSystemSection>\n    \
         <VirtualHardwareSection>\n      <Info>Hardware</Info>\n      \
         <System><vssd:ElementName>hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>\
         <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>\n\
         {hardware}    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n"
    )
}

/// Pack without dates and names of people.
fn pack(files: &Files, disk: &Path, output: &Path) -> std::io::Result<()> {
    let packer = GzBuilder::new().mtime(0).write(File::create(output)?, Compression::fast());
    let mut archive = tar::Builder::new(packer);
    for (name, text) in files {
        let mut head = tar::Header::new_gnu();
        head.set_mode(0o644);
        head.set_mtime(0);
        let mut add = |bytes: u64, reader: &mut dyn Read| {
            head.set_size(bytes);
            archive.append_data(&mut head, name, reader)
        };
        if text.is_empty() {
            let mut file = File::open(disk)?;
            add(file.metadata()?.len(), &mut file)?;
        } else {
            add(text.len() as u64, &mut text.as_bytes())?;
        }
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_an_archive_with_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, made) = (dir.path().join("disk"), dir.path().join("box"));
        fs::write(&disk, b"disk").unwrap();
        for (files, disk_name) in
            [(libvirt(8), "box.img"), (virtualbox(DISK_BYTES), "box-disk.vmdk")]
        {
            pack(&files, &disk, &made).unwrap();
            let once = fs::read(&made).unwrap();
            pack(&files, &disk, &made).unwrap();
            assert!(once == fs::read(&made).unwrap());
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(once.as_slice()));
            let mut found = std::collections::BTreeMap::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                found.insert(name, text);
            }
            assert_eq!(found[disk_name], "disk");
            assert!(found["metadata.json"].contains("provider"));
            assert!(found["Vagrantfile"].contains("config.vm.provider"));
            assert_eq!(found.contains_key("box.ovf"), disk_name.ends_with("vmdk"));
        }
    }
}
