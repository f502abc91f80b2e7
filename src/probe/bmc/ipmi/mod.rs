//! Questions to the management controller: one way to send them, and a file for each kind of answer.
//!
//! Every request goes through [`Ipmi::send`], which names it `ipmi/<netfn>-<command>[-<data>]` in captures, so that a
//! captured tree answers the same questions. Only commands that ask are sent. Numbers of commands and layouts of answers
//! are those of the IPMI 2.0 specification, revision 1.1; each function names its section.
//!
//! ipmi-rs 0.6 has types for some of them, and they are used where no answer is lost by it. Ours stay for channels (Get
//! Channel Info wants all 9 bytes, levels of privilege have no number), for the SEL (Get SEL Info wants 14 bytes and no more,
//! times come as text only, an entry is refused for its record type or channel) and for sensor records (some panic).

pub(crate) mod chassis;
pub(crate) mod dcmi;
pub(crate) mod device;
pub(crate) mod event_data;
pub(crate) mod fru;
pub(crate) mod fru_area;
pub(crate) mod lan;
pub(crate) mod names;
pub(crate) mod reading;
pub(crate) mod sdr;
pub mod sdr_record;
pub(crate) mod sel;
pub(crate) mod sel_text;
pub(crate) mod supplies;
pub(crate) mod users;

use crate::formats::bytes::hex;
use std::io;
use std::time::{Duration, Instant};

use ipmi_rs::connection::{IpmiCommand, Message};

use crate::model::inventory::{Item, PartStatus};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox::millis;
use crate::sys::ipmi::{AskBmc, BmcError, completion};

/// Network functions of requests (table 5-1).
pub const CHASSIS: u8 = 0x00;
pub const SENSOR: u8 = 0x04;
pub const APP: u8 = 0x06;
pub const STORAGE: u8 = 0x0a;
pub const GROUP: u8 = 0x2c;

/// How often a busy controller is asked again, and how long it is left alone in between.
const BUSY_RETRIES: u32 = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(60);
/// Answers "no answer inside the controller" in a row, after which it counts as dead.
const MAX_SILENT: u8 = 2;

/// Why there is no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It answered with a completion code other than 0.
    Code(u8),
    /// The answer is shorter than the specification has it.
    Short,
    /// It does not answer any more; the text says how that showed. Nothing else is sent afterwards.
    Dead(String),
    /// The time for all questions together is used up.
    Late,
    /// A captured tree does not hold this answer, or the device is not ours to use.
    Unavailable(PartStatus, String),
}

impl Refusal {
    /// True when asking further makes no sense.
    pub fn is_final(&self) -> bool {
        matches!(self, Refusal::Dead(_) | Refusal::Late)
    }

    /// True when the controller answered that it has no such command or parameter.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Refusal::Code(0xc1 | 0xc2))
    }

    pub fn status(&self) -> PartStatus {
        match self {
            Refusal::Code(0xc1 | 0xc2) => PartStatus::Unsupported,
            Refusal::Code(0xd4) => PartStatus::Denied,
            Refusal::Code(_) | Refusal::Short => PartStatus::Failed,
            Refusal::Dead(_) | Refusal::Late => PartStatus::TimedOut,
            Refusal::Unavailable(status, _) => *status,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Code(code) => match completion(*code) {
                Err(error) => write!(f, "{error}"),
                Ok(()) => f.write_str("the answer is empty"),
            },
            Refusal::Short => f.write_str("the answer is too short"),
            Refusal::Dead(text) => f.write_str(text),
            Refusal::Late => f.write_str("the controller answers too slowly to ask this as well"),
            Refusal::Unavailable(_, text) => f.write_str(text),
        }
    }
}

/// The controller, live or captured, and what its part of the document says of the questions.
pub struct Ipmi<'a> {
    root: &'a Root,
    port: Option<Box<dyn AskBmc>>,
    deadline: Instant,
    dead: Option<String>,
    silent: u8,
    pub items: Vec<Item>,
}

impl<'a> Ipmi<'a> {
    /// Questions go to `port` until `deadline`; without a port a captured tree answers.
    pub fn new(root: &'a Root, port: Option<Box<dyn AskBmc>>, deadline: Instant) -> Ipmi<'a> {
        Ipmi {
            root,
            port,
            deadline,
            dead: None,
            silent: 0,
            items: Vec::new(),
        }
    }

    /// True once it stopped answering.
    pub fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// The tree behind it, for what is kept of the answers.
    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// Moves the end of all questions; used to share what is left of the time among the slow ones.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// One request to logical unit 0; the data after the completion code.
    pub fn send(&mut self, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.send_as(data, 0, netfn, cmd, data)
    }

    /// One of the commands that ipmi-rs has types for.
    pub fn ask<C: IpmiCommand>(&mut self, command: C) -> Result<C::Output, Refusal> {
        let question: Message = command.into();
        let data = self.send(question.netfn_raw(), question.cmd(), question.data())?;
        C::parse_success_response(&data).map_err(|_| Refusal::Short)
    }

    /// The same as `send` for requests whose data differ from run to run, such as those that carry a reservation: `named` is what
    /// stands for them in a capture.
    pub fn send_as(&mut self, named: &[u8], lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, Refusal> {
        if let Some(text) = &self.dead {
            return Err(Refusal::Dead(text.clone()));
        }
        let name = name(lun, netfn, cmd, named);
        for _ in 0..BUSY_RETRIES {
            if self.port.is_some() && Instant::now() >= self.deadline {
                return Err(Refusal::Late);
            }
            let answer = self.once(&name, lun, netfn, cmd, data)?;
            let (code, data) = answer.split_first().ok_or(Refusal::Short)?;
            match code {
                0x00 => {
                    self.silent = 0;
                    return Ok(data.to_vec());
                }
                0xc0 if self.port.is_some() => std::thread::sleep(BUSY_PAUSE),
                // Also the driver's own verdict on a controller that stays silent.
                0xc3 => {
                    self.silent += 1;
                    if self.silent >= MAX_SILENT {
                        let text = format!("{} commands in a row found no answer", self.silent);
                        self.dead = Some(text.clone());
                        return Err(Refusal::Dead(text));
                    }
                    return Err(Refusal::Code(*code));
                }
                code => {
                    self.silent = 0;
                    return Err(Refusal::Code(*code));
                }
            }
        }
        Err(Refusal::Code(0xc0))
    }

    /// Puts the questions about one piece, and notes how they ended under `name`.
    pub fn note<T>(
        &mut self,
        name: &str,
        source: &str,
        questions: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.note_or_absent(name, source, |_| false, questions)
    }

    /// The same for what a controller need not have: a refusal by which there is no such thing is a fact and no trouble.
    pub fn note_or_absent<T>(
        &mut self,
        name: &str,
        source: &str,
        is_absent: impl Fn(&Refusal) -> bool,
        questions: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let started = Instant::now();
        let told = questions(self);
        let item = match &told {
            Ok(_) => Item::ok(name, source, 0),
            Err(refusal) if is_absent(refusal) => Item::gap(name, PartStatus::Absent, refusal.to_string()),
            Err(refusal) => Item::gap(name, refusal.status(), refusal.to_string()),
        };
        self.items.push(item.from(source, millis(started.elapsed())));
        told
    }

    fn once(&mut self, name: &str, lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Some(port) = &mut self.port else {
            let unanswered = || Err(io::Error::from(io::ErrorKind::Unsupported));
            return self.root.ask(name, unanswered).map_err(unavailable);
        };
        let mut failure: Option<BmcError> = None;
        let mut question = || {
            port.ask(lun, netfn, cmd, data).map_err(|error| {
                let text = io::Error::other(error.to_string());
                failure = Some(error);
                text
            })
        };
        // Tests bring a controller of their own beside a captured tree.
        let answer = if self.root.is_live() {
            self.root.ask(name, question).map_err(unavailable)
        } else {
            question().map_err(|error| Refusal::Unavailable(PartStatus::Failed, error.to_string()))
        };
        match failure {
            Some(error) => {
                let text = error.to_string();
                self.dead = Some(text.clone());
                Err(Refusal::Dead(text))
            }
            None => answer,
        }
    }
}

fn unavailable(error: ReadError) -> Refusal {
    let text = match &error {
        ReadError::Unsupported { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    Refusal::Unavailable(error.status(), text)
}

/// What a request is called in a capture: `ipmi/06-01`, `ipmi/0c-02-010300`, `ipmi/04-2d-31-lun1`.
fn name(lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> String {
    let mut name = format!("ipmi/{netfn:02x}-{cmd:02x}");
    if !data.is_empty() {
        name.push('-');
        name.push_str(&hex(data));
    }
    if lun != 0 {
        name.push_str(&format!("-lun{lun}"));
    }
    name
}

#[cfg(test)]
pub mod testing {
    //! A controller that answers from a script.

    use super::*;

    type Answer = Box<dyn FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, BmcError> + Send>;

    pub struct Scripted(pub Answer);

    impl AskBmc for Scripted {
        fn device(&self) -> String {
            "/dev/ipmi0".to_owned()
        }

        fn ask(&mut self, _lun: u8, netfn: u8, cmd: u8, data: &[u8]) -> Result<Vec<u8>, BmcError> {
            (self.0)(netfn, cmd, data)
        }
    }

    /// Calls `with` with a controller that answers by `answer`.
    pub fn linked<T>(
        answer: impl FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, BmcError> + Send + 'static,
        with: impl FnOnce(&mut Ipmi<'_>) -> T,
    ) -> T {
        let root = Root::at("/nonexistent");
        let port: Box<dyn AskBmc> = Box::new(Scripted(Box::new(answer)));
        with(&mut Ipmi::new(
            &root,
            Some(port),
            Instant::now() + Duration::from_secs(60),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::linked;
    use super::*;

    #[test]
    fn requests_have_the_names_that_captures_use() {
        assert_eq!(name(0, 0x06, 0x01, &[]), "ipmi/06-01");
        assert_eq!(name(0, 0x0c, 0x02, &[1, 3, 0, 0]), "ipmi/0c-02-01030000");
        assert_eq!(name(1, 0x04, 0x2d, &[0x31]), "ipmi/04-2d-31-lun1");
    }

    #[test]
    fn a_captured_answer_is_replayed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".recon/ipmi")).unwrap();
        std::fs::write(dir.path().join(".recon/ipmi/06-01"), [0, 0x20, 1]).unwrap();
        std::fs::write(dir.path().join(".recon/ipmi/06-37"), [0xc1]).unwrap();
        let root = Root::at(dir.path());
        let mut ipmi = Ipmi::new(&root, None, Instant::now());
        assert_eq!(ipmi.send(APP, 0x01, &[]), Ok(vec![0x20, 1]));
        assert_eq!(ipmi.send(APP, 0x37, &[]), Err(Refusal::Code(0xc1)));
        let missing = ipmi.send(APP, 0x42, &[1]).unwrap_err();
        assert_eq!(missing.status(), PartStatus::Unsupported);
        assert!(!ipmi.is_dead());
    }

    #[test]
    fn a_silent_controller_is_asked_no_further() {
        let mut asked = 0;
        linked(
            move |_, _, _| {
                asked += 1;
                assert_eq!(asked, 1, "asked again");
                Err(BmcError::TimedOut(Duration::from_secs(3)))
            },
            |ipmi| {
                let refusal = ipmi.send(APP, 1, &[]).unwrap_err();
                assert_eq!((refusal.status(), refusal.is_final()), (PartStatus::TimedOut, true));
                assert_eq!(ipmi.send(APP, 1, &[]).unwrap_err(), refusal);
            },
        );
    }

    #[test]
    fn one_slow_sensor_is_no_dead_controller_but_two_in_a_row_are() {
        let mut answers = vec![vec![0xc3], vec![0], vec![0xc3], vec![0xc3]].into_iter();
        linked(
            move |_, _, _| Ok(answers.next().expect("asked too often")),
            |ipmi| {
                assert_eq!(ipmi.send(SENSOR, 0x2d, &[1]), Err(Refusal::Code(0xc3)));
                assert_eq!(ipmi.send(SENSOR, 0x2d, &[2]), Ok(Vec::new()));
                assert_eq!(ipmi.send(SENSOR, 0x2d, &[3]), Err(Refusal::Code(0xc3)));
                assert!(ipmi.send(SENSOR, 0x2d, &[4]).unwrap_err().is_final());
                assert!(ipmi.send(SENSOR, 0x2d, &[5]).unwrap_err().is_final());
            },
        );
    }

    #[test]
    fn a_busy_controller_is_asked_again_a_few_times() {
        let mut answers = vec![vec![0xc0], vec![0, 7], vec![0xc0], vec![0xc0], vec![0xc0]].into_iter();
        linked(
            move |_, _, _| Ok(answers.next().expect("asked too often")),
            |ipmi| {
                assert_eq!(ipmi.send(APP, 1, &[]), Ok(vec![7]));
                assert_eq!(ipmi.send(APP, 1, &[]), Err(Refusal::Code(0xc0)));
            },
        );
    }

    #[test]
    fn nothing_is_sent_after_the_deadline() {
        let root = Root::at("/nonexistent");
        let port: Box<dyn AskBmc> = Box::new(testing::Scripted(Box::new(|_, _, _| panic!("asked"))));
        let mut ipmi = Ipmi::new(&root, Some(port), Instant::now());
        assert_eq!(ipmi.send(APP, 1, &[]), Err(Refusal::Late));
    }
}
