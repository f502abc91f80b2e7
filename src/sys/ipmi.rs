//! The management controller over the local interface, `/dev/ipmi0`.
//!
//! Everything here only asks, except [`Bmc::power_off`]. Calls into the driver run in a thread that owns the device,
//! because some of them cannot be interrupted; every answer is waited for within a time box, and after a missed one
//! the thread is left behind and the handle is dead.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ipmi_rs::connection::{Channel, CompletionErrorCode, IpmiCommand, Message, NetFn, NotEnoughData};
use ipmi_rs::transport::{GetLanConfigParameters, LanConfigParameter};
use ipmi_rs::{File, Ipmi, IpmiError};

use crate::model::MacAddr;

/// Where the first controller shows up. Others (`ipmi1`, …) belong to parts of a machine, not to the machine.
pub const DEVICE: &str = "/dev/ipmi0";
/// Same node under its older name.
const DEVICE_OLD: &str = "/dev/ipmi/0";
/// How long one command may take. Healthy controllers answer within 100 ms; the driver itself retries for seconds.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(3);
/// Room the driver gets beyond the limit before its thread is given up: its own time-out should come first.
const GRACE: Duration = Duration::from_millis(500);

/// Why a question stayed unanswered.
#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    #[error("no {DEVICE}: no management controller, or no driver for its interface")]
    NoDevice,
    #[error("opening {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Completion code C1h: the controller does not know the command.
    #[error("the controller does not know the command (completion code c1h)")]
    InvalidCommand,
    /// Any other completion code, such as 80h for a LAN parameter that is not there.
    #[error("the controller refused: {0}")]
    Refused(String),
    #[error("the answer is too short")]
    ShortAnswer,
    #[error("talking to the controller: {0}")]
    Transport(io::Error),
    #[error("an earlier command never came back")]
    Dead,
}

impl BmcError {
    /// True when asking further makes no sense: the controller or its driver does not answer at all.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            BmcError::NoDevice
                | BmcError::Open { .. }
                | BmcError::TimedOut(_)
                | BmcError::Transport(_)
                | BmcError::Dead
        )
    }
}

/// Get Device ID (IPMI 2.0, 20.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceId {
    pub device_id: u8,
    pub device_revision: u8,
    pub firmware_major: u8,
    pub firmware_minor: u8,
    pub firmware_aux: Option<[u8; 4]>,
    pub ipmi_major: u8,
    pub ipmi_minor: u8,
    pub manufacturer_id: u32,
    pub product_id: u16,
    /// False while it updates its firmware or starts up.
    pub available: bool,
}

/// Get Chassis Status (IPMI 2.0, 28.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChassisStatus {
    pub power_on: bool,
    /// 0 stays off, 1 as before, 2 always on, 3 unknown.
    pub restore_policy: u8,
    /// Overload, interlock, power fault, control fault.
    pub power_fault: bool,
}

/// LAN settings of one channel; what the controller does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LanConfig {
    pub mac: Option<MacAddr>,
    pub ipv4: Option<Ipv4Addr>,
    /// Low nibble of the address source parameter: 1 static, 2 DHCP, 3 BIOS, 4 other.
    pub source: Option<u8>,
    pub netmask: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
    pub vlan: Option<u16>,
}

/// Questions about the management controller. The trait is there so that tests can bring one of their own.
pub trait AskBmc: Send {
    /// Device node, for the record.
    fn device(&self) -> String;
    fn device_id(&mut self) -> Result<DeviceId, BmcError>;
    fn chassis_status(&mut self) -> Result<ChassisStatus, BmcError>;
    /// Medium type of a channel (IPMI 2.0, table 6-3): 4 and 6 are LANs.
    fn channel_medium(&mut self, channel: u8) -> Result<u8, BmcError>;
    /// LAN settings of a channel. Fails when the channel has no IPv4 address parameter.
    fn lan(&mut self, channel: u8) -> Result<LanConfig, BmcError>;
}

type Job = Box<dyn FnOnce(&mut Ipmi<File>) + Send>;

/// An open management controller.
pub struct Bmc {
    path: PathBuf,
    limit: Duration,
    /// Gone once a command missed its time box.
    jobs: Option<mpsc::Sender<Job>>,
}

impl Bmc {
    /// Opens the controller of this machine.
    pub fn open() -> Result<Bmc, BmcError> {
        let path = [DEVICE, DEVICE_OLD].iter().map(Path::new).find(|path| path.exists());
        Bmc::open_at(path.ok_or(BmcError::NoDevice)?, COMMAND_LIMIT)
    }

    /// Opens a given node; each command may take `limit`.
    pub fn open_at(path: &Path, limit: Duration) -> Result<Bmc, BmcError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (opened, is_open) = mpsc::channel();
        let node = path.to_owned();
        let worker = move || {
            hold_signals();
            match File::new(&node, limit) {
                Ok(file) => {
                    let mut ipmi = Ipmi::new(file);
                    // Nobody waits any more if opening took too long; then there will be no jobs either.
                    let _ = opened.send(Ok(()));
                    for job in todo {
                        job(&mut ipmi);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        };
        thread::Builder::new()
            .name("ipmi".to_owned())
            .spawn(worker)
            .map_err(BmcError::Transport)?;
        match is_open.recv_timeout(limit + GRACE) {
            Ok(Ok(())) => Ok(Bmc {
                path: path.to_owned(),
                limit,
                jobs: Some(jobs),
            }),
            Ok(Err(source)) if source.kind() == io::ErrorKind::NotFound => Err(BmcError::NoDevice),
            Ok(Err(source)) => Err(BmcError::Open {
                path: path.to_owned(),
                source,
            }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(BmcError::TimedOut(limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(BmcError::Dead),
        }
    }

    /// Chassis Control, power down (IPMI 2.0, 28.3): the supply goes off at once, without asking the system. The only
    /// command here that changes anything. The machine may be off before the answer arrives.
    pub fn power_off(&mut self) -> Result<(), BmcError> {
        self.ask(Raw::new(NetFn::Chassis, 0x02, &[0x00])).map(|_| ())
    }

    /// One command, in the worker thread, within the limit.
    fn ask(&mut self, command: Raw) -> Result<Vec<u8>, BmcError> {
        let jobs = self.jobs.as_ref().ok_or(BmcError::Dead)?;
        let (answer, answered) = mpsc::channel();
        let job = Box::new(move |ipmi: &mut Ipmi<File>| {
            let _ = answer.send(ipmi.send_recv(command));
        });
        jobs.send(job).map_err(|_| BmcError::Dead)?;
        let limit = self.limit;
        let result = match answered.recv_timeout(limit + GRACE) {
            Ok(result) => result.map_err(|error| translate(error, limit)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(BmcError::TimedOut(limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(BmcError::Dead),
        };
        // A late answer would be taken for the answer to the next command, so the connection ends with a missed one.
        if result.as_ref().is_err_and(BmcError::is_fatal) {
            self.jobs = None;
        }
        result
    }

    fn lan_parameter(&mut self, channel: u8, parameter: LanConfigParameter) -> Result<Vec<u8>, BmcError> {
        let channel = Channel::new(channel).ok_or_else(|| BmcError::Refused(format!("no channel {channel}")))?;
        let message = Message::from(GetLanConfigParameters::new(channel, parameter));
        let data = self.ask(Raw(message))?;
        // The first byte is the revision of the parameter.
        data.get(1..).map(<[u8]>::to_vec).ok_or(BmcError::ShortAnswer)
    }
}

impl AskBmc for Bmc {
    fn device(&self) -> String {
        self.path.display().to_string()
    }

    fn device_id(&mut self) -> Result<DeviceId, BmcError> {
        parse_device_id(&self.ask(Raw::new(NetFn::App, 0x01, &[]))?).ok_or(BmcError::ShortAnswer)
    }

    fn chassis_status(&mut self) -> Result<ChassisStatus, BmcError> {
        parse_chassis_status(&self.ask(Raw::new(NetFn::Chassis, 0x01, &[]))?).ok_or(BmcError::ShortAnswer)
    }

    fn channel_medium(&mut self, channel: u8) -> Result<u8, BmcError> {
        let data = self.ask(Raw::new(NetFn::App, 0x42, &[channel & 0x0f]))?;
        data.get(1).map(|medium| medium & 0x7f).ok_or(BmcError::ShortAnswer)
    }

    fn lan(&mut self, channel: u8) -> Result<LanConfig, BmcError> {
        let address = self.lan_parameter(channel, LanConfigParameter::IpAddress)?;
        let mut config = LanConfig {
            ipv4: Some(ipv4(&address).ok_or(BmcError::ShortAnswer)?),
            ..LanConfig::default()
        };
        // The rest is worth having but no reason to lose the address; only silence ends the questions.
        let mut ask = |parameter| match self.lan_parameter(channel, parameter) {
            Err(error) if error.is_fatal() => Err(error),
            other => Ok(other.unwrap_or_default()),
        };
        config.mac = mac(&ask(LanConfigParameter::MacAddress)?);
        config.source = ask(LanConfigParameter::IpAddressSource)?
            .first()
            .map(|byte| byte & 0x0f);
        config.netmask = ipv4(&ask(LanConfigParameter::SubnetMask)?);
        config.gateway = ipv4(&ask(LanConfigParameter::DefaultGatewayAddress)?);
        config.vlan = vlan(&ask(LanConfigParameter::Other(20))?);
        Ok(config)
    }
}

/// Keeps signals away from the calling thread: a child that ends elsewhere in the process would interrupt the wait for
/// an answer, and ipmi-rs takes that for a failed command.
fn hold_signals() {
    // SAFETY: all-zero is a valid sigset_t, sigfillset initialises it, and the mask is that of this thread alone.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// Any command; the answer is its data without the completion code. Serves for Chassis Control and Chassis Status,
/// which ipmi-rs does not have, and lets one path through the worker thread serve all.
struct Raw(Message);

impl Raw {
    fn new(netfn: NetFn, cmd: u8, data: &[u8]) -> Raw {
        Raw(Message::new_request(netfn, cmd, data.to_vec()))
    }
}

impl From<Raw> for Message {
    fn from(raw: Raw) -> Message {
        raw.0
    }
}

impl IpmiCommand for Raw {
    type Output = Vec<u8>;
    type Error = NotEnoughData;

    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, NotEnoughData> {
        Ok(data.to_vec())
    }
}

fn translate(error: IpmiError<io::Error, NotEnoughData>, limit: Duration) -> BmcError {
    match error {
        IpmiError::Failed { completion_code, .. } => match completion_code {
            CompletionErrorCode::InvalidCommand | CompletionErrorCode::InvalidCommandForLun => BmcError::InvalidCommand,
            // The driver's own verdict on a controller that stays silent.
            CompletionErrorCode::ProcessingTimeout => BmcError::TimedOut(limit),
            other => BmcError::Refused(format!("{other:?}")),
        },
        // ipmi-rs reports its poll running out as EAGAIN.
        IpmiError::Connection(error) if error.kind() == io::ErrorKind::WouldBlock => BmcError::TimedOut(limit),
        IpmiError::Connection(error) => BmcError::Transport(error),
        IpmiError::Command { .. } => BmcError::ShortAnswer,
        IpmiError::UnexpectedResponse { .. } | IpmiError::NetFnIsResponse(_) => {
            BmcError::Transport(io::Error::other("an answer to another command"))
        }
    }
}

fn parse_device_id(data: &[u8]) -> Option<DeviceId> {
    let id = ipmi_rs::app::DeviceId::from_data(data)?;
    Some(DeviceId {
        device_id: id.device_id,
        device_revision: id.device_revision,
        firmware_major: id.major_fw_revision,
        firmware_minor: id.minor_fw_revision,
        firmware_aux: id.aux_revision,
        ipmi_major: id.major_version,
        ipmi_minor: id.minor_version,
        // 20 bits; the rest of the third byte is reserved.
        manufacturer_id: id.manufacturer_id & 0x000f_ffff,
        product_id: id.product_id,
        available: id.device_available,
    })
}

fn parse_chassis_status(data: &[u8]) -> Option<ChassisStatus> {
    let state = *data.first()?;
    Some(ChassisStatus {
        power_on: state & 0x01 != 0,
        restore_policy: (state >> 5) & 0x03,
        power_fault: state & 0x1e != 0,
    })
}

fn ipv4(data: &[u8]) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = data.get(..4)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes))
}

fn mac(data: &[u8]) -> Option<MacAddr> {
    let bytes: [u8; 6] = data.get(..6)?.try_into().ok()?;
    Some(MacAddr(bytes)).filter(|mac| !mac.is_unusable())
}

/// Parameter 20: 12 bits of VLAN id, the top bit says whether it is in use.
fn vlan(data: &[u8]) -> Option<u16> {
    let word = u16::from_le_bytes(data.get(..2)?.try_into().ok()?);
    (word & 0x8000 != 0).then_some(word & 0x0fff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_machine_without_a_controller_says_so() {
        let Err(error) = Bmc::open_at(Path::new("/dev/no-such-ipmi"), Duration::from_secs(1)) else {
            panic!("opened what is not there");
        };
        assert!(matches!(error, BmcError::NoDevice), "{error}");
        assert!(error.is_fatal());
    }

    #[test]
    fn what_is_no_controller_fails_in_time() {
        // Opens, but answers no ioctl.
        let mut bmc = Bmc::open_at(Path::new("/dev/null"), Duration::from_secs(5)).unwrap();
        let error = bmc.device_id().unwrap_err();
        assert!(matches!(error, BmcError::Transport(_)), "{error}");
        assert!(matches!(bmc.chassis_status().unwrap_err(), BmcError::Dead));
    }

    #[test]
    fn power_off_is_chassis_control_zero() {
        let message = Message::from(Raw::new(NetFn::Chassis, 0x02, &[0x00]));
        assert_eq!(
            (message.netfn_raw(), message.cmd(), message.data()),
            (0x00, 0x02, &[0u8][..])
        );
    }

    #[test]
    fn completion_codes_become_what_callers_distinguish() {
        let failed = |completion_code| IpmiError::Failed {
            netfn: NetFn::Transport,
            cmd: 2,
            completion_code,
            data: Vec::new(),
        };
        let limit = Duration::from_secs(1);
        let unknown = translate(failed(CompletionErrorCode::InvalidCommand), limit);
        assert!(matches!(unknown, BmcError::InvalidCommand) && !unknown.is_fatal());
        let parameter = translate(failed(CompletionErrorCode::CommandSpecific(0x80)), limit);
        assert!(matches!(parameter, BmcError::Refused(_)) && !parameter.is_fatal());
        let silent = translate(failed(CompletionErrorCode::ProcessingTimeout), limit);
        assert!(matches!(silent, BmcError::TimedOut(_)) && silent.is_fatal());
    }

    #[test]
    fn answers_are_read_as_the_specification_lays_them_out() {
        // Get Device ID of a Dell iDRAC: revision 1, firmware 2.65, IPMI 2.0, manufacturer 674.
        let data = [
            0x20, 0x81, 0x02, 0x65, 0x02, 0xdf, 0xa2, 0x02, 0x00, 0x00, 0x01, 0x00, 0x0f, 0x41, 0x41,
        ];
        let id = parse_device_id(&data).unwrap();
        assert_eq!((id.firmware_major, id.firmware_minor), (2, 65));
        assert_eq!((id.ipmi_major, id.ipmi_minor), (2, 0));
        assert_eq!((id.manufacturer_id, id.product_id), (674, 256));
        assert_eq!(id.firmware_aux, Some([0x00, 0x0f, 0x41, 0x41]));

        let status = parse_chassis_status(&[0x21, 0x10, 0x40]).unwrap();
        assert!(status.power_on && !status.power_fault);
        assert_eq!(status.restore_policy, 1);
        assert_eq!(vlan(&[0x64, 0x80]), Some(100));
        assert_eq!(vlan(&[0x64, 0x00]), None);
        assert_eq!(mac(&[0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_device_id(&data), parse_chassis_status(&data), ipv4(&data), mac(&data), vlan(&data));
        }
    }
}
