use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::model::MacAddr;
use crate::probe::bmc::ipmi::testing::Scripted;
use crate::probe::collect::live::Totals;
use crate::probe::smbios::source::start;
use crate::sys::ethtool::DriverInfo;

struct WithBmc(Mutex<Option<Scripted>>);

impl LiveSources for WithBmc {
    fn permanent_mac(&self, _: &str) -> io::Result<Option<MacAddr>> {
        Ok(None)
    }
    fn driver_info(&self, _: &str) -> io::Result<DriverInfo> {
        Ok(DriverInfo::default())
    }
    fn totals(&self) -> anyhow::Result<Totals> {
        Ok(Totals::default())
    }
    fn bmc(&self) -> Result<Box<dyn AskBmc>, BmcError> {
        match self.0.lock().unwrap().take() {
            Some(scripted) => Ok(Box::new(scripted)),
            None => Err(BmcError::NoDevice),
        }
    }
}

/// Its SMBIOS table lists an interface.
fn fixture() -> Root {
    Root::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machines/qemu-q35-bios/tree"))
}

fn ask(answer: impl FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, BmcError> + Send + 'static) -> Part<Bmc> {
    let live = WithBmc(Mutex::new(Some(Scripted(Box::new(answer)))));
    bmc(
        &fixture(),
        Some(&live),
        &start(&fixture()),
        Duration::from_secs(60),
        &Publish::nowhere(),
    )
}

/// What a small but well controller answers; LAN channels 1 and 8.
fn answers(netfn: u8, cmd: u8, data: &[u8]) -> Vec<u8> {
    let device = [0, 0x20, 0x81, 0x02, 0x05, 0x02, 0xbf, 0xa2, 0x02, 0, 0, 1, 1, 2, 3, 4];
    match (netfn, cmd) {
        (0x06, 0x01) => device.to_vec(),
        (0x00, 0x01) => vec![0, 0x21, 0x10, 0x40],
        (0x06, 0x42) => match data[0] {
            channel @ (1 | 8) => vec![0, channel, 4, 1, 0x80, 0xf2, 0x1b, 0, 0, 0],
            channel @ 0 => vec![0, channel, 1, 1, 0, 0xf2, 0x1b, 0, 0, 0],
            _ => vec![0xcc],
        },
        (0x0c, 0x02) => match (data[0], data[1]) {
            (channel, 3) => vec![0, 0x11, 10, 0, 0, channel],
            (_, 4) => vec![0, 0x11, 2],
            _ => vec![0x80],
        },
        _ => vec![0xc1],
    }
}

#[test]
fn every_lan_channel_is_asked_and_no_other() {
    let part = ask(|netfn, cmd, data| {
        assert!((netfn, cmd) != (0x0c, 0x02) || [1, 8].contains(&data[0]));
        Ok(match (netfn, cmd, data) {
            (0x0c, 0x02, [8, 3, ..]) => vec![0xcc],
            _ => answers(netfn, cmd, data),
        })
    });
    assert_eq!(part.status, PartStatus::Ok);
    let facts = part.value.unwrap();
    assert_eq!(facts.firmware.as_deref(), Some("2.05"));
    assert_eq!(facts.firmware_aux.as_deref(), Some("01020304"));
    assert_eq!(facts.manufacturer.as_deref(), Some("Dell"));
    assert_eq!(facts.smbios_interface.as_deref(), Some("KCS at I/O port 0xca2"));
    assert_eq!(facts.chassis_power_on, Some(true));
    let channels: Vec<_> = facts
        .channels
        .iter()
        .map(|channel| (channel.channel, &*channel.medium))
        .collect();
    assert_eq!(channels, [(0, "ipmb"), (1, "lan"), (8, "lan")]);
    let lan: Vec<_> = facts
        .lan
        .iter()
        .map(|lan| (lan.channel, lan.ipv4, lan.address_source.as_deref()))
        .collect();
    assert_eq!(lan, [(1, Some([10, 0, 0, 1].into()), Some("dhcp"))]);
    let gap = part.items.iter().find(|item| item.item == "lan.8").unwrap();
    assert_eq!(gap.status, PartStatus::Failed);
}

#[test]
fn nothing_but_questions_is_sent() {
    /// Network function and command of everything that may be sent.
    const QUESTIONS: [(u8, u8); 31] = [
        (0x00, 0x01),
        (0x00, 0x07),
        (0x00, 0x0f),
        (0x04, 0x20),
        (0x04, 0x21),
        (0x04, 0x22),
        (0x04, 0x23),
        (0x04, 0x2d),
        (0x06, 0x01),
        (0x06, 0x04),
        (0x06, 0x08),
        (0x06, 0x25),
        (0x06, 0x37),
        (0x06, 0x41),
        (0x06, 0x42),
        (0x06, 0x44),
        (0x06, 0x46),
        (0x06, 0x54),
        (0x0a, 0x10),
        (0x0a, 0x11),
        (0x0a, 0x20),
        (0x0a, 0x22),
        (0x0a, 0x23),
        (0x0a, 0x40),
        (0x0a, 0x43),
        (0x0a, 0x48),
        (0x0c, 0x02),
        (0x2c, 0x01),
        (0x2c, 0x02),
        (0x2c, 0x06),
        (0x0a, 0x42),
    ];
    // A controller that says yes to everything gets asked everything.
    let part = ask(|netfn, cmd, data| {
        assert!(QUESTIONS.contains(&(netfn, cmd)), "{netfn:#x} {cmd:#x}");
        let mut answer = answers(netfn, cmd, data);
        if answer == [0xc1] {
            answer = vec![0; 40];
            answer[1] = 0xdc;
        }
        Ok(answer)
    });
    assert!(part.value.is_some());
}

#[test]
fn a_controller_without_lan_commands_says_so_once() {
    let part = ask(|netfn, cmd, data| {
        Ok(match (netfn, cmd) {
            (0x06, 0x42) | (0x0c, 0x02) => vec![0xc1],
            _ => answers(netfn, cmd, data),
        })
    });
    assert_eq!(part.status, PartStatus::Ok);
    let gaps: Vec<_> = part
        .items
        .iter()
        .filter(|item| item.item.starts_with("lan") || item.item.starts_with("channels"))
        .map(|item| (&*item.item, item.status))
        .collect();
    assert_eq!(
        gaps,
        [
            ("channels", PartStatus::Unsupported),
            ("lan.1", PartStatus::Unsupported)
        ]
    );
}

#[test]
fn a_dead_controller_is_reported_as_dead() {
    let part = ask(|_, _, _| Err(BmcError::TimedOut(Duration::from_secs(3))));
    assert_eq!((part.status, part.value.is_none()), (PartStatus::TimedOut, true));
    assert_eq!(
        part.reason.as_deref(),
        Some("the controller is dead: get device id: no answer within 3s")
    );
}

#[test]
fn a_controller_that_falls_silent_keeps_what_it_told_and_is_asked_no_further() {
    let mut silent = false;
    let part = ask(move |netfn, cmd, data| {
        assert!(!silent, "asked after it fell silent");
        if (netfn, cmd) == (0x0c, 0x02) && data[0] == 8 {
            silent = true;
            return Err(BmcError::TimedOut(Duration::from_secs(3)));
        }
        Ok(answers(netfn, cmd, data))
    });
    assert_eq!(part.status, PartStatus::TimedOut);
    assert_eq!(
        part.reason.as_deref(),
        Some("incomplete: the controller stopped answering")
    );
    assert_eq!(part.value.unwrap().lan.len(), 1);
    let gap = part.items.iter().find(|item| item.item == "lan.8").unwrap();
    assert_eq!(gap.status, PartStatus::TimedOut);
}

#[test]
fn firmware_that_lists_a_controller_without_a_driver_is_quoted() {
    let live = WithBmc(Mutex::new(None));
    let part = bmc(
        &fixture(),
        Some(&live),
        &start(&fixture()),
        Duration::from_secs(60),
        &Publish::nowhere(),
    );
    assert_eq!(part.status, PartStatus::Absent);
    assert!(
        part.reason
            .unwrap()
            .ends_with("the firmware lists one, KCS at I/O port 0xca2")
    );
}

#[test]
fn a_captured_tree_without_answers_has_no_controller_to_ask() {
    let part = bmc(
        &fixture(),
        None,
        &start(&fixture()),
        Duration::from_secs(60),
        &Publish::nowhere(),
    );
    assert_eq!(part.status, PartStatus::Unsupported);
}

#[test]
fn entries_that_are_not_told_are_said_to_be_there() {
    let log = |all, told| Sel {
        entries_total: all,
        entries: vec![Default::default(); told],
        ..Sel::default()
    };
    let said = older_entries(&log(3000, sel::MAX_ENTRIES)).unwrap();
    assert_eq!(
        said.reason.as_deref(),
        Some("3000 entries, of which the newest 512 are here")
    );
    assert_eq!(older_entries(&log(512, sel::MAX_ENTRIES)), None);
    // One that fell silent tells why by itself.
    assert_eq!(older_entries(&log(3000, 7)), None);
}
