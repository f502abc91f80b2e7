//! What firmware gets wrong or takes for granted, and what is done about it. Pure: one table, a test a row.

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};

use super::client::{Client, Kind};
use super::{option, wire};

/// PXE 2.1 table 2-1 (RFC 4578 §2.4.1), inside option 43: PXE_DISCOVERY_CONTROL, and bit 3 of it: take the boot file of this answer,
/// ask no boot server and show no menu.
const DISCOVERY_CONTROL: u8 = 6;
const TAKE_BOOT_FILE: u8 = 8;
/// The same: PXE_BOOT_ITEM, boot server type and layer in four bytes, which a boot server repeats.
const BOOT_ITEM: u8 = 71;
const END: u8 = 255;

/// What is known of a request when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub request: &'a Message,
    pub client: &'a Client,
    /// DISCOVERs of this machine that were answered since it last asked for an address, this one not counted.
    pub ignored_offers: u32,
}

impl<'a> Facts<'a> {
    pub fn new(request: &'a Message, client: &'a Client) -> Self {
        Facts {
            request,
            client,
            ignored_offers: 0,
        }
    }

    fn firmware(&self) -> bool {
        self.client.kind.firmware().is_some()
    }

    fn is(&self, kind: MessageType) -> bool {
        self.request.opts().msg_type() == Some(kind)
    }

    fn has(&self, code: OptionCode) -> bool {
        self.request.opts().get(code).is_some()
    }

    fn asks_for(&self, code: OptionCode) -> bool {
        option!(self.request, ParameterRequestList).is_some_and(|codes| codes.contains(&code))
    }
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workaround {
    /// Option 97 does not come back, and the machine goes by its MAC.
    OmitMachineIdentifier,
    /// Option 43 says: take the boot file as given, no menu, no search for a boot server.
    NoDiscovery,
    /// The server name stands in the header too, as the boot file does in every reply; options never take their place.
    ServerNameInHeader,
    /// The reply does not go to `ciaddr`.
    IgnoreClientAddress,
    /// The reply goes to everybody.
    Broadcast,
    /// The request means the address it was offered.
    AssumeOfferedAddress,
    /// The offer holds what a boot needs and nothing else.
    MinimalOffer,
    /// Options 66 and 67 end with a zero byte.
    TerminateStrings,
}

/// Answered DISCOVERs after which a machine gets a minimal offer.
pub(crate) const MINIMAL_OFFER_AFTER: u32 = 3;

/// A workaround, and for whom.
type Row = (Workaround, fn(&Facts) -> bool);

/// Lengths, missing end marks and padding need no row: [`super::wire`] reads what is there, and
/// [`super::layout`] pads every reply.
const TABLE: [Row; 8] = [
    // Intel boot agents, old BIOS ROMs: no option 97, or one of a wrong length
    (Workaround::OmitMachineIdentifier, |facts| {
        facts.firmware() && facts.client.uuid.is_none()
    }),
    // PXE 2.1 firmware: shows a menu or looks for a boot server unless it is told not to
    (Workaround::NoDiscovery, |facts| {
        matches!(facts.client.kind, Kind::Pxe(_))
    }),
    // BIOS ROMs that read the header alone: they do not ask for options 66 and 67
    (Workaround::ServerNameInHeader, |facts| {
        facts.firmware() && !(facts.asks_for(OptionCode::TFTPServerName) && facts.asks_for(OptionCode::BootfileName))
    }),
    // ROMs that keep an address of an earlier stage in the DISCOVER; they do not listen to it
    (Workaround::IgnoreClientAddress, |facts| {
        facts.is(MessageType::Discover) && !facts.request.ciaddr().is_unspecified()
    }),
    // ROMs that ask for an offer without saying which address it was
    (Workaround::AssumeOfferedAddress, |facts| {
        facts.is(MessageType::Request)
            && facts.has(OptionCode::ServerIdentifier)
            && !facts.has(OptionCode::RequestedIpAddress)
            && facts.request.ciaddr().is_unspecified()
    }),
    // ROMs that set no broadcast flag and yet hear nothing that is sent to them alone
    (Workaround::Broadcast, |facts| {
        facts.is(MessageType::Discover) && facts.ignored_offers > 0
    }),
    // firmware that repeats DISCOVER and takes no offer: some fail on options they did not ask for
    (Workaround::MinimalOffer, |facts| {
        facts.is(MessageType::Discover)
            && facts.firmware()
            && facts.ignored_offers >= MINIMAL_OFFER_AFTER
            && facts.ignored_offers % 2 == 1
    }),
    // firmware that reads options 66 and 67 as C strings: up to a zero, so that the code of the option behind, or
    // the end mark, becomes a part of the file name. RFC 2132 §2 has every receiver take a zero at the end
    (Workaround::TerminateStrings, |facts| facts.firmware()),
];

/// What applies to a request.
pub(crate) fn workarounds<'a>(facts: &'a Facts) -> impl Iterator<Item = Workaround> + use<'a> {
    let applies = move |(workaround, applies): &(Workaround, fn(&Facts) -> bool)| applies(facts).then_some(*workaround);
    TABLE.iter().filter_map(applies)
}

/// Options a boot cannot do without.
const NEEDED: [OptionCode; 12] = [
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::AddressLeaseTime,
    OptionCode::SubnetMask,
    // Behind a router nothing is reached without it.
    OptionCode::Router,
    OptionCode::SubnetSelection,
    OptionCode::ClassIdentifier,
    // An offer of class `PXEClient` that does not say "ask no boot server" sends the client to one.
    OptionCode::VendorExtensions,
    OptionCode::ClientMachineIdentifier,
    OptionCode::ClientIdentifier,
    super::wire::RELAY_AGENT,
    // By which other masters know us.
    OptionCode::Unknown(super::MARK_CODE),
];

/// Changes a reply as the table says.
pub(crate) fn apply(reply: &mut Message, workarounds: &[Workaround]) {
    for workaround in workarounds {
        match workaround {
            Workaround::OmitMachineIdentifier => {
                reply.opts_mut().remove(OptionCode::ClientMachineIdentifier);
            }
            // A boot server's answer says it already, and more.
            Workaround::NoDiscovery if reply.opts().get(OptionCode::VendorExtensions).is_some() => {}
            Workaround::NoDiscovery => {
                reply.opts_mut().insert(no_discovery());
            }
            Workaround::ServerNameInHeader => {
                // The field holds 63 characters and their end.
                if let Some(name) = option!(reply, TFTPServerName).filter(|name| name.len() < 64).cloned() {
                    reply.set_sname(&name);
                }
            }
            Workaround::MinimalOffer => reply.opts_mut().retain(|code, _| NEEDED.contains(code)),
            Workaround::TerminateStrings => {
                for code in [OptionCode::TFTPServerName, OptionCode::BootfileName] {
                    if let Some(DhcpOption::TFTPServerName(text) | DhcpOption::BootfileName(text)) =
                        reply.opts_mut().get_mut(code)
                    {
                        end_text(text);
                    }
                }
            }
            // These decide where and whether, not what.
            Workaround::IgnoreClientAddress | Workaround::AssumeOfferedAddress | Workaround::Broadcast => {}
        }
    }
}

/// Option 43 that has a client take the boot file as given.
pub(super) fn no_discovery() -> DhcpOption {
    DhcpOption::VendorExtensions(vec![DISCOVERY_CONTROL, 1, TAKE_BOOT_FILE, END])
}

/// The same for a request to a boot server, with the item that it names.
pub(super) fn no_discovery_for(request: &Message) -> DhcpOption {
    let Some(item) = option!(request, VendorExtensions).and_then(|asked| boot_item(asked)) else {
        return no_discovery();
    };
    let mut bytes = vec![DISCOVERY_CONTROL, 1, TAKE_BOOT_FILE, BOOT_ITEM, 4];
    bytes.extend(item);
    bytes.push(END);
    DhcpOption::VendorExtensions(bytes)
}

/// Boot server type and layer of a request on port 4011.
fn boot_item(options: &[u8]) -> Option<[u8; 4]> {
    let (_, item) = wire::fields(options).find(|(code, _)| *code == BOOT_ITEM)?;
    item.try_into().ok()
}

/// Puts a zero behind a text that has none, where one option still holds both.
fn end_text(text: &mut Vec<u8>) {
    if text.last() != Some(&0) && text.len() < 255 {
        text.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::leases::LeaseTable;
    use super::super::testing::{self, params, table, unix};
    use super::*;
    use crate::service::dhcp4::decide::{Decision, decide_on};
    use crate::service::dhcp4::reply::Reply;
    use std::net::Ipv4Addr;

    const PXE: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";

    fn message(kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
        let class = DhcpOption::ClassIdentifier(PXE.to_vec());
        testing::request(kind, std::iter::once(class).chain(options))
    }

    fn answer(leases: &mut LeaseTable, request: &Message) -> Reply {
        match decide_on(&params(), leases, request, unix(0)) {
            Decision::Reply(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    fn applies(request: &Message, done: Workaround, ignored_offers: u32) -> bool {
        let client = super::super::client::identify(request).unwrap();
        let facts = Facts {
            request,
            client: &client,
            ignored_offers,
        };
        super::workarounds(&facts).any(|found| found == done)
    }

    #[test]
    fn without_a_machine_identifier_the_mac_is_the_name() {
        let none = message(MessageType::Discover, []);
        assert!(applies(&none, Workaround::OmitMachineIdentifier, 0));
        let offer = answer(&mut table(), &none);
        assert!(offer.message.opts().get(OptionCode::ClientMachineIdentifier).is_none());
        assert!(offer.client.uuid.is_none());
        let whole = message(
            MessageType::Discover,
            [DhcpOption::ClientMachineIdentifier(vec![0; 17])],
        );
        assert!(!applies(&whole, Workaround::OmitMachineIdentifier, 0));
        assert!(
            answer(&mut table(), &whole)
                .message
                .opts()
                .get(OptionCode::ClientMachineIdentifier)
                .is_some()
        );
        // A type that is not a UUID's is no name, and its echo would confirm rubbish.
        let strange = message(
            MessageType::Discover,
            [DhcpOption::ClientMachineIdentifier(vec![9; 17])],
        );
        assert!(
            answer(&mut table(), &strange)
                .message
                .opts()
                .get(OptionCode::ClientMachineIdentifier)
                .is_none()
        );
    }

    #[test]
    fn pxe_firmware_shows_no_menu() {
        let request = message(MessageType::Discover, []);
        assert!(applies(&request, Workaround::NoDiscovery, 0));
        assert_eq!(
            answer(&mut table(), &request)
                .message
                .opts()
                .get(OptionCode::VendorExtensions),
            Some(&no_discovery())
        );
        let mut http = request.clone();
        http.opts_mut()
            .insert(DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016".to_vec()));
        assert!(!applies(&http, Workaround::NoDiscovery, 0));
    }

    #[test]
    fn who_reads_the_header_alone_finds_server_and_file_there() {
        let request = message(MessageType::Discover, []);
        assert!(applies(&request, Workaround::ServerNameInHeader, 0));
        let reply = answer(&mut table(), &request);
        let bytes = reply.bytes();
        assert_eq!(&bytes[20..24], &[192, 168, 219, 1], "next server");
        assert_eq!(&bytes[44..58], b"192.168.219.1\0", "server name");
        assert_eq!(&bytes[108..122], b"undionly.kpxe\0", "file");
        let asked = DhcpOption::ParameterRequestList(vec![OptionCode::TFTPServerName, OptionCode::BootfileName]);
        assert!(!applies(
            &message(MessageType::Discover, [asked]),
            Workaround::ServerNameInHeader,
            0
        ));
    }

    /// What a reader of C strings takes from an option of a packet: all up to a zero, whatever it belongs to.
    fn up_to_zero(bytes: &[u8], code: u8) -> Vec<u8> {
        let mut at = 240;
        while bytes[at] != code {
            at += 2 + usize::from(bytes[at + 1]);
        }
        bytes[at + 2..].split(|byte| *byte == 0).next().unwrap().to_vec()
    }

    #[test]
    fn names_end_where_a_reader_of_c_strings_ends_them() {
        for order in [[66, 67, 97], [97, 66, 67], [67, 97, 66]] {
            let asked = DhcpOption::ParameterRequestList(order.map(OptionCode::from).to_vec());
            let id = DhcpOption::ClientMachineIdentifier(vec![0; 17]);
            let request = message(MessageType::Discover, [asked, id]);
            assert!(applies(&request, Workaround::TerminateStrings, 0));
            let bytes = answer(&mut table(), &request).bytes();
            assert_eq!(up_to_zero(&bytes, 67), b"undionly.kpxe", "{order:?}");
            assert_eq!(up_to_zero(&bytes, 66), b"192.168.219.1", "{order:?}");
            assert_eq!(
                up_to_zero(&bytes, 60)[..9],
                *b"PXEClient",
                "which is compared by its length"
            );
        }
        let mut http = message(MessageType::Discover, []);
        let class = DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016:UNDI:003016".to_vec());
        http.opts_mut().insert(class);
        let bytes = answer(&mut table(), &http).bytes();
        assert_eq!(up_to_zero(&bytes, 67), b"http://192.168.219.1/loaders/snponly.efi");
        // iPXE takes an option for what it is.
        let mut ipxe = message(MessageType::Discover, []);
        ipxe.opts_mut().insert(DhcpOption::UserClass(b"iPXE".to_vec()));
        assert!(!applies(&ipxe, Workaround::TerminateStrings, 0));
        let mut full = vec![b'x'; 255];
        end_text(&mut full);
        assert_eq!(full.len(), 255, "a longer one would be two options");
    }

    #[test]
    fn an_address_in_a_discover_is_not_answered_to() {
        let mut request = message(MessageType::Discover, []);
        assert!(!applies(&request, Workaround::IgnoreClientAddress, 0));
        request.set_ciaddr(Ipv4Addr::new(10, 9, 9, 9));
        assert!(applies(&request, Workaround::IgnoreClientAddress, 0));
        let to = answer(&mut table(), &request).to;
        assert!(params().subnet.contains(*to.ip()), "{to}");
        request.set_flags(dhcproto::v4::Flags::default().set_broadcast());
        assert_eq!(answer(&mut table(), &request).to, "255.255.255.255:68".parse().unwrap());
    }

    #[test]
    fn who_does_not_hear_is_told_before_everybody() {
        let request = message(MessageType::Discover, []);
        assert!(!applies(&request, Workaround::Broadcast, 0));
        assert!(applies(&request, Workaround::Broadcast, 1));
        assert!(!applies(&message(MessageType::Request, []), Workaround::Broadcast, 1));
    }

    #[test]
    fn a_request_without_an_address_means_the_one_offered() {
        let mut leases = table();
        let offer = answer(&mut leases, &message(MessageType::Discover, []));
        let server = DhcpOption::ServerIdentifier(params().subnet.server);
        let request = message(MessageType::Request, [server]);
        assert!(applies(&request, Workaround::AssumeOfferedAddress, 0));
        let ack = answer(&mut leases, &request);
        assert_eq!(ack.message.opts().msg_type(), Some(MessageType::Ack));
        assert_eq!(ack.message.yiaddr(), offer.message.yiaddr());
        assert!(
            matches!(
                decide_on(&params(), &mut table(), &request, unix(0)),
                Decision::Silence(_)
            ),
            "without an offer"
        );
    }

    #[test]
    fn who_heeds_no_offer_gets_a_lean_one_in_turns() {
        let request = message(MessageType::Discover, []);
        let lean: Vec<u32> = (0..8)
            .filter(|times| applies(&request, Workaround::MinimalOffer, *times))
            .collect();
        assert_eq!(lean, [3, 5, 7]);
        let mut offer = answer(&mut table(), &request).message;
        apply(&mut offer, &[Workaround::MinimalOffer]);
        assert!(offer.opts().get(OptionCode::DomainName).is_none());
        assert!(offer.opts().get(OptionCode::BootfileName).is_none());
        assert_eq!(
            offer.opts().get(OptionCode::VendorExtensions),
            Some(&no_discovery()),
            "or it would look for a boot server on port 4011"
        );
        assert!(
            offer.opts().get(OptionCode::ClassIdentifier).is_some(),
            "it would not be PXE's"
        );
        assert_eq!(
            offer.fname(),
            Some(&b"undionly.kpxe"[..]),
            "the header still says what to boot"
        );
    }

    /// PXE 2.1 table 2-1, byte by byte.
    #[test]
    fn option_43_says_to_take_the_file_and_repeats_the_item() {
        let mut request = Message::default();
        let skip = DhcpOption::VendorExtensions(vec![6, 1, 8, 255]);
        assert_eq!(no_discovery(), skip);
        for (asked, told) in [
            (&[][..], &[6, 1, 8, 255][..]),
            (&[71, 4, 0, 0, 0, 1, 255], &[6, 1, 8, 71, 4, 0, 0, 0, 1, 255]),
            (
                &[0, 6, 1, 3, 71, 4, 0x80, 1, 0, 0],
                &[6, 1, 8, 71, 4, 0x80, 1, 0, 0, 255],
            ),
            (&[71, 3, 0, 0, 0, 255], &[6, 1, 8, 255]),
            (&[71, 4, 0, 0], &[6, 1, 8, 255]),
            (&[255, 71, 4, 0, 0, 0, 1], &[6, 1, 8, 255]),
        ] {
            let options = request.opts_mut();
            options.insert(DhcpOption::VendorExtensions(asked.to_vec()));
            assert_eq!(
                no_discovery_for(&request),
                DhcpOption::VendorExtensions(told.to_vec()),
                "{asked:?}"
            );
        }
    }
}
