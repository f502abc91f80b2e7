//! Other people's readers of the same formats, beside ours. What our own code wrote or blessed proves nothing new; these
//! libraries share nothing with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ipmi_rs_core::storage::sdr::record::{
    DataFormat, IdentifiableSensor, InstancedSensor, Record as SdrRecord, RecordContents, WithSensorRecordCommon,
};
use recon::formats::{gpt, pcap};
use recon::probe::bmc::ipmi::sdr_record;
use recon::probe::bmc::ipmi::sdr_record::Record;
use recon::probe::smbios::{self, memory, types};
use smbioslib::{
    MemoryDeviceType, MemorySize, MemorySizeExtended, MemorySpeed, SMBiosData, SMBiosMemoryDevice, SMBiosString,
    SMBiosSystemInformation, SMBiosVersion,
};

const MACHINES: [&str; 4] = ["qemu-q35-bios", "qemu-q35-everything", "qemu-q35-uefi", "server-2s"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn unpacked(name: &str) -> Vec<u8> {
    let file = File::open(fixtures().join("media").join(name)).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// As we keep texts: without blanks at the ends, and none where nothing is left.
fn text(string: SMBiosString) -> Option<String> {
    string
        .to_utf8_lossy()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

#[test]
fn smbios_as_smbios_lib_reads_it() {
    let mut modules = 0;
    for machine in MACHINES {
        let folder = fixtures()
            .join("machines")
            .join(machine)
            .join("tree/sys/firmware/dmi/tables");
        let bytes = std::fs::read(folder.join("DMI")).unwrap();
        let entry = std::fs::read(folder.join("smbios_entry_point")).unwrap();
        let version = smbios::entry_point(&entry).unwrap();
        let ours = smbios::SmbiosTable::parse(Some(version), &bytes);
        let theirs =
            SMBiosData::from_vec_and_version(bytes.clone(), Some(SMBiosVersion::new(version.major, version.minor, 0)));
        // Theirs counts the end of the table as well.
        let kinds = |kinds: Vec<u8>| kinds.into_iter().filter(|kind| *kind != 127).collect::<Vec<_>>();
        assert_eq!(
            kinds(ours.structures().map(|structure| structure.kind).collect()),
            kinds(theirs.iter().map(|structure| structure.header.struct_type()).collect()),
            "{machine}"
        );

        let system = types::system(&ours).unwrap();
        let said = theirs.first::<SMBiosSystemInformation<'_>>().unwrap();
        assert_eq!(system.vendor, text(said.manufacturer()), "{machine}");
        assert_eq!(system.product, text(said.product_name()), "{machine}");
        assert_eq!(system.serial, text(said.serial_number()), "{machine}");

        let dimms = memory::dimms(&ours);
        // The chip that holds the firmware is a device to SMBIOS and no module to us.
        let devices: Vec<SMBiosMemoryDevice<'_>> = theirs
            .collect::<SMBiosMemoryDevice<'_>>()
            .into_iter()
            .filter(|device| {
                device
                    .memory_type()
                    .is_none_or(|kind| kind.value != MemoryDeviceType::Flash)
            })
            .collect();
        assert_eq!(dimms.len(), devices.len(), "{machine}");
        for (dimm, device) in dimms.iter().zip(devices) {
            let size = match (device.size().unwrap(), device.extended_size()) {
                (MemorySize::Kilobytes(size), _) => Some(u64::from(size) << 10),
                (MemorySize::Megabytes(size), _) => Some(u64::from(size) << 20),
                (MemorySize::SeeExtendedSize, Some(MemorySizeExtended::Megabytes(size))) => Some(u64::from(size) << 20),
                _ => None,
            };
            assert_eq!(dimm.size_bytes, size, "{machine} {dimm:?}");
            assert_eq!(dimm.locator, text(device.device_locator()), "{machine}");
            assert_eq!(
                dimm.total_width_bits,
                device.total_width().filter(|bits| ![0, 0xffff].contains(bits)),
                "{machine}"
            );
            if dimm.populated {
                assert_eq!(dimm.part_number, text(device.part_number()), "{machine}");
                assert_eq!(dimm.serial, text(device.serial_number()), "{machine}");
                let speed = match device.speed() {
                    Some(MemorySpeed::MTs(speed)) => Some(u32::from(speed)),
                    _ => None,
                };
                assert_eq!(dimm.speed_mtps, speed, "{machine}");
                modules += 1;
            }
        }
    }
    assert!(modules >= 8, "{modules} modules were compared");
}

/// The blocks of `dmidecode`: a title, then lines of a name and a value.
fn blocks(text: &str) -> Vec<(&str, BTreeMap<&str, &str>)> {
    text.split("\n\n")
        .filter_map(|block| block.split_once(" bytes\n"))
        .filter_map(|(_, block)| block.split_once('\n'))
        .map(|(title, lines)| {
            (
                title,
                lines.lines().filter_map(|line| line.trim().split_once(": ")).collect(),
            )
        })
        .collect()
}

/// MACHINE/dmidecode.txt is made by dmidecode.py beside the machines.
#[test]
fn smbios_as_dmidecode_reads_it() {
    let known = |value: Option<&&str>| {
        let unsaid = ["Not Specified", "<BAD INDEX>", "Unknown", "<OUT OF SPEC>", "None"];
        value
            .map(|text| text.trim().to_owned())
            .filter(|text| !unsaid.contains(&text.as_str()))
    };
    let mut modules = 0;
    for machine in MACHINES {
        let folder = fixtures().join("machines").join(machine);
        let bytes = std::fs::read(folder.join("tree/sys/firmware/dmi/tables/DMI")).unwrap();
        let entry = std::fs::read(folder.join("tree/sys/firmware/dmi/tables/smbios_entry_point")).unwrap();
        let ours = smbios::SmbiosTable::parse(smbios::entry_point(&entry), &bytes);
        let text = std::fs::read_to_string(folder.join("dmidecode.txt")).unwrap();
        let said = blocks(&text);
        assert_eq!(
            said.iter().filter(|(title, _)| *title != "End Of Table").count(),
            ours.structures().filter(|s| s.kind != 127).count(),
            "{machine}"
        );
        let one = |title: &str| &said.iter().find(|(found, _)| *found == title).unwrap().1;
        let system = types::system(&ours).unwrap();
        let from = one("System Information");
        assert_eq!(system.uuid, known(from.get("UUID")), "{machine}");
        assert_eq!(system.vendor, known(from.get("Manufacturer")), "{machine}");
        let bios = types::bios(&ours).unwrap();
        assert_eq!(bios.version, known(one("BIOS Information").get("Version")), "{machine}");
        let dimms = memory::dimms(&ours);
        let devices: Vec<_> = said
            .iter()
            .filter(|(title, lines)| *title == "Memory Device" && lines.get("Type") != Some(&"Flash"))
            .collect();
        assert_eq!(dimms.len(), devices.len(), "{machine}");
        for (dimm, (_, lines)) in dimms.iter().zip(devices) {
            let size = lines["Size"];
            if size == "No Module Installed" {
                assert!(!dimm.populated, "{machine} {dimm:?}");
                continue;
            }
            let bytes = size.split_once(' ').map(|(number, unit)| {
                let power = ["kB", "MB", "GB", "TB"]
                    .iter()
                    .position(|known| *known == unit)
                    .unwrap()
                    + 1;
                number.parse::<u64>().unwrap() << (10 * power)
            });
            assert!(bytes.is_some() || size == "Unknown", "{machine}: {size}");
            assert_eq!(dimm.size_bytes, bytes, "{machine}");
            assert_eq!(dimm.memory_type, known(lines.get("Type")), "{machine} {dimm:?}");
            assert_eq!(dimm.form_factor, known(lines.get("Form Factor")), "{machine} {dimm:?}");
            assert_eq!(dimm.manufacturer, known(lines.get("Manufacturer")), "{machine}");
            assert_eq!(
                dimm.speed_mtps.map(|speed| format!("{speed} MT/s")),
                known(lines.get("Speed")),
                "{machine}"
            );
            let configured = dimm.configured_speed_mtps.map(|speed| format!("{speed} MT/s"));
            assert_eq!(configured, known(lines.get("Configured Memory Speed")), "{machine}");
            assert_eq!(
                dimm.ranks.map(|ranks| ranks.to_string()),
                known(lines.get("Rank")),
                "{machine}"
            );
            modules += 1;
        }
    }
    assert!(modules >= 8, "{modules} modules were compared");
}

/// Records as `Get SDR` answered them: a header of five bytes, then the rest, each behind a completion code and the next id.
fn sensor_records() -> BTreeMap<String, Vec<u8>> {
    let folder = fixtures().join("machines/server-2s/tree/.recon/ipmi");
    let mut records: BTreeMap<String, BTreeMap<u8, Vec<u8>>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Network function 0Ah, command 23h, then reservation, record id, offset and count.
        let Some(asked) = name.strip_prefix("0a-23-") else {
            continue;
        };
        let offset = u8::from_str_radix(&asked[8..10], 16).unwrap();
        let answer = std::fs::read(&path).unwrap();
        assert_eq!(answer[0], 0, "{name} was refused");
        records
            .entry(asked[4..8].to_owned())
            .or_default()
            .insert(offset, answer[3..].to_vec());
    }
    records
        .into_iter()
        .map(|(id, pieces)| (id, pieces.into_values().flatten().collect()))
        .collect()
}

#[test]
fn sensor_records_as_ipmi_rs_core_reads_them() {
    let mut full = 0;
    for (id, record) in sensor_records() {
        let (Some(Record::Sensors(ours)), Ok(theirs)) = (sdr_record::parse(&record), SdrRecord::parse(&record)) else {
            continue;
        };
        let ours = &ours[0];
        let RecordContents::FullSensor(theirs) = &theirs.contents else {
            continue;
        };
        assert_eq!(ours.number, theirs.sensor_number().get(), "record {id}");
        assert_eq!(ours.name, theirs.id_string().to_string(), "record {id}");
        assert_eq!(
            ours.owner & 0xfe,
            u8::from(theirs.key_data().owner_id) & 0xfe,
            "record {id}"
        );
        let format = theirs.analog_data_format.map(|format| match format {
            DataFormat::Unsigned => 0,
            DataFormat::OnesComplement => 1,
            DataFormat::TwosComplement => 2,
        });
        assert_eq!(ours.factors.map(|factors| factors.format), format, "record {id}");
        if let Some(factors) = ours.factors {
            assert_eq!(
                (factors.m, factors.b, factors.b_exponent, factors.r_exponent),
                (theirs.m, theirs.b, theirs.b_exponent, theirs.result_exponent),
                "record {id}, {}",
                ours.name
            );
            full += 1;
        }
    }
    assert!(full >= 3, "{full} sensors with factors were compared");
}

#[test]
fn partition_tables_as_gptman_reads_them() {
    const MIB: u64 = 1 << 20;
    for image in ["kiwi.iso.gz", "apple.iso.gz"] {
        let mut disk = tempfile::tempfile().unwrap();
        disk.write_all(&unpacked(image)).unwrap();
        let image_bytes = gpt::iso_bytes(&disk).unwrap();
        disk.set_len(300 * MIB).unwrap();
        let ours = gpt::Table::read(&disk, 300 * MIB).unwrap();
        same_partitions(&ours, &mut disk, image);

        // What we write: their reader wants both copies and every checksum right.
        let plan = gpt::plan(&ours, 300 * MIB, image_bytes, None, [7; 16]).unwrap();
        plan.apply(&disk).unwrap();
        let ours = gpt::Table::read(&disk, 300 * MIB).unwrap();
        let theirs = same_partitions(&ours, &mut disk, image);
        let data = theirs
            .iter()
            .find(|(_, partition)| partition.unique_partition_guid == [7; 16])
            .unwrap_or_else(|| panic!("{image}: the data partition is not in their table"));
        assert_eq!(data.0, plan.data.number, "{image}");
        assert_eq!(data.1.starting_lba * 512, plan.data.offset, "{image}");
        assert_eq!(data.1.size().unwrap() * 512, plan.data.length, "{image}");
        // The backup alone is a table too: their reader falls back to it where the first copy is gone.
        disk.write_all_at(&[0; 512], 512).unwrap();
        let backup = gptman::GPT::read_from(&mut disk, 512).unwrap();
        assert!(backup.header.is_backup(), "{image}");
        assert_eq!(
            backup.iter().filter(|(_, partition)| partition.is_used()).count(),
            ours.partitions().count()
        );
    }
}

fn same_partitions(ours: &gpt::Table, disk: &mut File, image: &str) -> gptman::GPT {
    let theirs = gptman::GPT::read_from(disk, 512).unwrap_or_else(|error| panic!("{image}: {error}"));
    let list: Vec<_> = theirs
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| {
            (
                number,
                partition.partition_type_guid,
                partition.unique_partition_guid,
                partition.starting_lba,
                partition.ending_lba,
                partition.attribute_bits,
                partition.partition_name.as_str().to_owned(),
            )
        })
        .collect();
    let own: Vec<_> = ours
        .partitions()
        .map(|partition| {
            (
                partition.number,
                partition.type_guid,
                partition.unique_guid,
                partition.first_lba,
                partition.last_lba,
                partition.attributes,
                partition.name,
            )
        })
        .collect();
    assert!(!own.is_empty());
    assert_eq!(own, list, "{image}");
    theirs
}

#[test]
fn captured_frames_as_pcap_file_reads_them() {
    let records = vec![
        pcap::Record {
            micros: 7,
            frame: vec![1; 60],
        },
        pcap::Record {
            micros: 31_000_123,
            frame: (0..=255).cycle().take(1514).collect(),
        },
        pcap::Record {
            micros: u64::from(u32::MAX) * 1_000_000,
            frame: Vec::new(),
        },
    ];
    let written = pcap::write(&records);
    let mut reader = pcap_file::pcap::PcapReader::new(written.as_slice()).unwrap();
    assert_eq!(reader.header().datalink, pcap_file::DataLink::ETHERNET);
    let mut read = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        assert_eq!(packet.orig_len as usize, packet.data.len());
        read.push(pcap::Record {
            micros: packet.timestamp.as_micros() as u64,
            frame: packet.data.into_owned(),
        });
    }
    assert_eq!(read, records);
}
