//! The management controller over the local interface, `/dev/ipmi0`.
//!
//! One way in for questions: [`AskBmc::ask`], a request and its raw answer. What is not on the list of questions here is refused; which of
//! them are asked is decided elsewhere. The only command that changes anything, and is not on the list, is [`Bmc::power_off`]'s. Calls into the driver run in a thread that owns the device,
//! because some of them cannot be interrupted; every answer is waited for within a time box, and after a missed one
//! the thread is left behind and the handle is dead.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use ipmi_rs::File;
use ipmi_rs::connection::{IpmiConnection, LogicalUnit, Message, Request, RequestTargetAddress};

/// Where the first controller shows up. Others (`ipmi1`, …) belong to parts of a machine, not to the machine.
pub(crate) const DEVICE: &str = "/dev/ipmi0";
/// Same node under its older name.
const DEVICE_OLD: &str = "/dev/ipmi/0";
/// How long one command may take. Healthy controllers answer within 100 ms; the driver itself retries for seconds.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(3);
/// Room the driver gets beyond the limit before its thread is given up: its own time-out should come first.
const GRACE: Duration = Duration::from_millis(500);

/// Why a question stayed unanswered.
#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    #[error("no {DEVICE}: no management controller, or no driver for its interface")]
    NoDevice,
    /// The reason is in the text and so is no source, which whoever prints the chain would say once more.
    #[error("opening {path}: {reason}")]
    Open { path: PathBuf, reason: io::Error },
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Completion code C1h: the controller does not know the command.
    #[error("the controller does not know the command (completion code c1h)")]
    InvalidCommand,
    /// Any other completion code, such as 80h for a LAN parameter that is not there.
    #[error("the controller refused: {0}")]
    Refused(String),
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

/// What a completion code means to somebody who waits for data; 0 is success (IPMI 2.0, table 5-2).
pub(crate) fn completion(code: u8) -> Result<(), BmcError> {
    let text = match code {
        0x00 => return Ok(()),
        0xc1 | 0xc2 => return Err(BmcError::InvalidCommand),
        0x80..=0xbe => "specific to the command",
        0xc0 => "node busy",
        0xc3 => "no answer inside the controller in time",
        0xc4 => "out of space",
        0xc5 => "reservation lost",
        0xc6..=0xc8 => "wrong length of the request",
        0xc9 => "parameter out of range",
        0xca => "cannot return that many bytes",
        0xcb => "no such sensor, data or record",
        0xcc => "invalid data field",
        0xcd => "not for this sensor or record type",
        0xce => "no response could be given",
        0xcf => "duplicated request",
        0xd0..=0xd3 => "being updated or initialised",
        0xd4 => "insufficient privilege or firewall",
        0xd5 | 0xd6 => "not supported in the present state",
        0xff => "unspecified error",
        _ => "unnamed error",
    };
    Err(BmcError::Refused(format!("{text} (completion code {code:02x}h)")))
}

/// Questions to the management controller. The trait is there so that tests can bring one of their own.
pub trait AskBmc: Send {
    /// Device node, for the record.
    fn device(&self) -> String;
    /// One request to logical unit `lun` (0 to 3); `netfn` is the even number of the request. The answer is the
    /// completion code and the data after it. A refusal is an answer; an error means that none came.
    fn ask(&mut self, lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, BmcError>;
}

/// Chassis Control (IPMI 2.0, 28.3): network function, command, and the action "power down".
const POWER_DOWN: [u8; 3] = [0x00, 0x02, 0x00];

/// Network function and commands of everything that may be sent besides: questions of IPMI 2.0 (appendix G has the numbers)
/// and of DCMI.
const QUESTIONS: [(u8, &[u8]); 6] = [
    (0x00, &[0x01, 0x07, 0x0f]),
    (0x04, &[0x20, 0x21, 0x22, 0x23, 0x2d]),
    (0x06, &[0x01, 0x04, 0x08, 0x25, 0x37, 0x41, 0x42, 0x44, 0x46, 0x54]),
    (0x0a, &[0x10, 0x11, 0x20, 0x22, 0x23, 0x40, 0x42, 0x43, 0x48]),
    (0x0c, &[0x02]),
    (0x2c, &[0x01, 0x02, 0x06]),
];

type Job = Box<dyn FnOnce(&mut File) + Send>;

/// An open management controller.
pub(crate) struct Bmc {
    path: PathBuf,
    limit: Duration,
    /// Gone once a command missed its time box.
    jobs: Option<mpsc::Sender<Job>>,
}

impl Bmc {
    /// Opens the controller of this machine.
    pub(crate) fn open() -> Result<Bmc, BmcError> {
        let path = [DEVICE, DEVICE_OLD].iter().map(Path::new).find(|path| path.exists());
        Bmc::open_at(path.ok_or(BmcError::NoDevice)?, COMMAND_LIMIT)
    }

    /// Opens a given node; each command may take `limit`.
    pub(crate) fn open_at(path: &Path, limit: Duration) -> Result<Bmc, BmcError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (opened, is_open) = mpsc::channel();
        let node = path.to_owned();
        let worker = move || {
            hold_signals();
            match File::new(&node, limit) {
                Ok(mut file) => {
                    // Nobody waits any more if opening took too long; then there will be no jobs either.
                    let _ = opened.send(Ok(()));
                    for job in todo {
                        job(&mut file);
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
            Ok(Err(reason)) => Err(BmcError::Open {
                path: path.to_owned(),
                reason,
            }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(BmcError::TimedOut(limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(BmcError::Dead),
        }
    }

    /// Chassis Control, power down (IPMI 2.0, 28.3): the supply goes off at once, without asking the system. The only
    /// command here that changes anything. The machine may be off before the answer arrives.
    pub(crate) fn power_off(&mut self) -> Result<(), BmcError> {
        let [netfn, cmd, action] = POWER_DOWN;
        let target = RequestTargetAddress::Bmc(LogicalUnit::from_low_bits(0));
        let answer = self.exchange(Request::new(Message::new_raw(netfn, cmd, vec![action]), target))?;
        completion(answer.first().copied().unwrap_or(0xff))
    }

    /// One request, in the worker thread, within the limit.
    fn exchange(&mut self, mut request: Request) -> Result<Vec<u8>, BmcError> {
        let jobs = self.jobs.as_ref().ok_or(BmcError::Dead)?;
        let (answer, answered) = mpsc::channel();
        let job = Box::new(move |file: &mut File| {
            let _ = answer.send(file.send_recv(&mut request));
        });
        jobs.send(job).map_err(|_| BmcError::Dead)?;
        let limit = self.limit;
        let result = match answered.recv_timeout(limit + GRACE) {
            Ok(Ok(response)) => {
                let mut bytes = vec![response.cc()];
                bytes.extend(response.data());
                Ok(bytes)
            }
            // ipmi-rs reports its poll running out as EAGAIN.
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(BmcError::TimedOut(limit)),
            Ok(Err(error)) => Err(BmcError::Transport(error)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(BmcError::TimedOut(limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(BmcError::Dead),
        };
        // A late answer would be taken for the answer to the next command, so the connection ends with a missed one.
        if result.is_err() {
            self.jobs = None;
        }
        result
    }
}

impl AskBmc for Bmc {
    fn device(&self) -> String {
        self.path.display().to_string()
    }

    fn ask(&mut self, lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
        if !QUESTIONS
            .iter()
            .any(|(of, commands)| *of == netfn && commands.contains(&cmd))
        {
            return Err(BmcError::Refused(format!("{netfn:02x}h {cmd:02x}h is not a question")));
        }
        let target = RequestTargetAddress::Bmc(LogicalUnit::from_low_bits(lun));
        self.exchange(Request::new(Message::new_raw(netfn, cmd, data.to_vec()), target))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_controller_says_so() {
        let Err(error) = Bmc::open_at(Path::new("/dev/no-such-ipmi"), Duration::from_secs(1)) else {
            panic!("opened what is not there");
        };
        assert!(matches!(error, BmcError::NoDevice), "{error}");
        assert!(error.is_fatal());
    }

    #[test]
    fn why_nothing_opens_is_said_once() {
        let Err(error) = Bmc::open_at(Path::new("/dev/null/ipmi0"), Duration::from_secs(1)) else {
            panic!("opened what is not there");
        };
        let said = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(said, "opening /dev/null/ipmi0: Not a directory (os error 20)");
    }

    #[test]
    fn what_is_no_controller_fails_in_time() {
        // Opens, but answers no ioctl.
        let mut bmc = Bmc::open_at(Path::new("/dev/null"), Duration::from_secs(5)).unwrap();
        let error = bmc.ask(0, 0x06, 0x01, &[]).unwrap_err();
        assert!(matches!(error, BmcError::Transport(_)), "{error}");
        assert!(matches!(bmc.power_off().unwrap_err(), BmcError::Dead));
    }

    #[test]
    fn nothing_but_questions_is_sent() {
        let mut bmc = Bmc::open_at(Path::new("/dev/null"), Duration::from_secs(5)).unwrap();
        // Chassis Control, Set User Access, Clear SEL, Set LAN Configuration Parameters, Reset Watchdog Timer.
        for (netfn, cmd) in [(0x00, 0x02), (0x06, 0x43), (0x0a, 0x47), (0x0c, 0x01), (0x06, 0x22)] {
            let refused = bmc.ask(0, netfn, cmd, &[]).unwrap_err();
            assert!(
                matches!(refused, BmcError::Refused(_)),
                "{netfn:#x} {cmd:#x}: {refused}"
            );
        }
    }

    #[test]
    fn power_off_is_chassis_control_zero() {
        assert_eq!(POWER_DOWN, [0x00, 0x02, 0x00]);
    }

    #[test]
    fn completion_codes_become_what_callers_distinguish() {
        assert!(completion(0).is_ok());
        let unknown = completion(0xc1).unwrap_err();
        assert!(matches!(unknown, BmcError::InvalidCommand) && !unknown.is_fatal());
        for code in 0x80..=0xff {
            let error = completion(code).unwrap_err();
            assert!(!error.is_fatal(), "a refusal is an answer: {code:#x}");
        }
        assert_eq!(
            completion(0x80).unwrap_err().to_string(),
            "the controller refused: specific to the command (completion code 80h)"
        );
    }
}
