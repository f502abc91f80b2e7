//! One boot script on its way: what it asks for is looked at, and only what it wants started is fetched whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio::time::Instant;

use super::assisted::is_of_one_machine;
use super::json_plan;
use super::machine;
use super::plan::{Seen, Sum};
use super::settings::{boot_port, served_by, settings};
use crate::model::console::console;
use crate::model::{MacAddr, secrets};
use crate::service::boot_script::{Answer, Interpreter, MAX_SCRIPT_BYTES, Plan, Request, Script, is_script};
use crate::service::fetch::client::{Client, Form, Peeked, Piece};
use crate::service::fetch::url::Target;
use crate::service::fetch::{FetchError, resolve};

/// Most lines of a script's that are kept to be shown; one that says more is not worth reading.
const MAX_SAID: usize = 200;

/// How often the same kernel is fetched in vain, and how often any: a script may well begin again when its kernel does not start.
const MAX_SAME_REFUSED: usize = 3;
const MAX_REFUSED: usize = 20;

/// A file that the script named.
pub(super) struct Found {
    pub(super) target: Target,
    pub(super) form: Vec<(String, String)>,
    pub(super) seen: Seen,
}

pub(super) struct Session {
    client: Arc<Client>,
    interpreter: Interpreter,
    /// By the numbers that the interpreter gives.
    found: BTreeMap<usize, Found>,
    pub(super) said: Vec<String>,
    /// What the script said last. A failure is said once: the one that ends the script is its end.
    unsaid: Option<String>,
    /// Whether `sleep` is slept.
    waits: bool,
    /// What was asked for last is a script of assisted-service's for this one machine, and there is none.
    has_no_script: bool,
    /// Since the script was last told how it went, it asked for something in vain that may come another time.
    pub(super) has_missed: bool,
    /// What a plan in JSON names, until it was asked for; there is no script then.
    planned: Option<Plan>,
    /// It is such a plan, and no script.
    pub(super) is_plan: bool,
    /// The sums that such a plan has.
    sums: Vec<Sum>,
    /// From then on the script waits no longer where something was not to be had. None: as long as it likes.
    pub(super) until: Option<Instant>,
    /// The last script that a recon master gave.
    master: Option<Target>,
    /// The port by which the script came.
    port: Option<MacAddr>,
}

/// What a script comes to.
pub(super) enum Came {
    Boot(Plan),
    Exit(u32),
    Shell,
    Reboot,
    PowerOff,
    /// This machine is installed, or about to be: its disk has its turn.
    LocalDisk,
}

/// Whether there is no sense in asking the script once more, after it named these.
pub(super) fn are_enough(refused: &[String]) -> bool {
    let same = refused.iter().filter(|url| Some(*url) == refused.last()).count();
    same >= MAX_SAME_REFUSED || refused.len() >= MAX_REFUSED
}

async fn whole_script(client: &Client, peeked: Peeked, target: &Target, form: &Form) -> Result<Vec<u8>, FetchError> {
    if peeked.is_whole {
        return Ok(peeked.head);
    }
    let mut bytes = Vec::new();
    let take = |piece: Piece<'_>| {
        match piece {
            Piece::Anew => bytes.clear(),
            Piece::Bytes(more) => bytes.extend_from_slice(more),
        }
        Ok(())
    };
    client.download(target, form, MAX_SCRIPT_BYTES as u64, take).await?;
    Ok(bytes)
}

/// Where a script is that a recon master gives.
fn given_by_master(peeked: &Peeked) -> Option<Target> {
    peeked.is_of_master.then(|| peeked.target.clone())
}

impl Session {
    /// Fetches the script. A URL that is no script is taken as what a script would start.
    pub(super) async fn begin(client: impl Into<Arc<Client>>, url: &Target, waits: bool) -> anyhow::Result<Self> {
        let client = client.into();
        let peeked = client.peek(url, &[]).await.with_context(|| url.to_string())?;
        let local: Option<IpAddr> = Some(peeked.local);
        let master = given_by_master(&peeked);
        let (mut planned, mut sums) = (None, Vec::new());
        let (script, place) = if is_script(&peeked.head) {
            let place = peeked.target.as_str().to_owned();
            let bytes = whole_script(&client, peeked, url, &[])
                .await
                .with_context(|| url.to_string())?;
            (Script::read(&bytes).with_context(|| format!("{url}"))?, place)
        } else if json_plan::is_one(&peeked.head) {
            let place = peeked.target.clone();
            let bytes = whole_script(&client, peeked, url, &[])
                .await
                .with_context(|| url.to_string())?;
            let (plan, wanted) = json_plan::read(&bytes, &place).map_err(|why| anyhow!("{url}: {why}"))?;
            (planned, sums) = (Some(plan), wanted);
            (Script::read(b"#!ipxe\n")?, place.as_str().to_owned())
        } else if let Err(why) = crate::formats::boot_image::kernel(&peeked.head) {
            let why = why.replace(
                "it is no kernel",
                "it is neither a boot script (which begins with #!ipxe) nor a plan in JSON nor a kernel",
            );
            bail!("{url}: {why}");
        } else {
            let script = format!("#!ipxe\nkernel {}\nboot\n", url.as_str());
            (Script::read(script.as_bytes())?, url.as_str().to_owned())
        };
        let facts = machine::facts(Path::new("/")).await;
        let port = boot_port(&facts, local).and_then(|number| facts.ports.get(number)?.mac.parse().ok());
        let told = served_by(settings(&facts, local), &url.host);
        let interpreter = Interpreter::new(script, Some(&place), told);
        Ok(Self {
            client,
            interpreter,
            found: BTreeMap::new(),
            said: Vec::new(),
            unsaid: None,
            waits,
            has_no_script: false,
            has_missed: false,
            is_plan: planned.is_some(),
            planned,
            sums,
            until: None,
            master,
            port,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The last script that a recon master gave.
    pub(super) fn master(&self) -> Option<&Target> {
        self.master.as_ref()
    }

    /// The port by which the script came; none where that is not known.
    pub(super) fn port(&self) -> Option<MacAddr> {
        self.port
    }

    /// Sums that files have to have: those that were given, and those of the plan itself.
    pub(super) fn sums(&self, given: &[Sum]) -> Vec<Sum> {
        let own = self.sums.iter().filter(|sum| !given.contains(sum));
        given.iter().chain(own).cloned().collect()
    }

    pub(super) fn found(&self, image: usize) -> Option<&Found> {
        self.found.get(&image)
    }

    pub(super) fn seen(&self, image: usize) -> Option<&Seen> {
        self.found.get(&image).map(|found| &found.seen)
    }

    /// Words of the script, or about it.
    fn say(&mut self, text: &str) {
        let text = secrets::text(text);
        match self.waits {
            true => console!("the boot script: {text}"),
            // The plan has them.
            false => tracing::debug!("the boot script: {text}"),
        }
        match self.said.len() {
            MAX_SAID.. => {}
            199 => self.said.push("and more, which is not shown".to_owned()),
            _ => self.said.push(text),
        }
    }

    /// Runs the script on, until it wants something started or ends. `failed` says why the last one did not start.
    pub(super) async fn next(&mut self, failed: Option<String>) -> anyhow::Result<Came> {
        if let Some(plan) = self.planned.take() {
            return self.look_at(plan).await;
        }
        self.has_missed = false;
        let mut answer = failed.map_or(Answer::Done, Answer::Failed);
        loop {
            let request = self.interpreter.next(answer);
            let unsaid = self.unsaid.take();
            // Where it failed in a chained script, the line that chained it stands before the same words.
            if let Some(text) = unsaid.filter(|text| !matches!(&request, Request::Failed(why) if why.ends_with(text))) {
                self.say(&text);
            }
            answer = match request {
                Request::Fetch { image, url, post } => {
                    let answer = self.look(image, &url, post).await;
                    self.has_missed |= matches!(answer, Answer::Failed(_));
                    answer
                }
                Request::Say(text) => {
                    self.unsaid = Some(text);
                    Answer::Done
                }
                Request::LookUp(name) => match resolve::addresses(&name).await {
                    Ok(addresses) => addresses
                        .first()
                        .map_or(Answer::Done, |address| Answer::Address(*address)),
                    Err(error) => {
                        self.has_missed = true;
                        Answer::Failed(error.to_string())
                    }
                },
                Request::Wait(_) if self.has_missed && self.until.is_some_and(|until| until <= Instant::now()) => {
                    bail!("the boot script still waits for what is not to be had")
                }
                Request::Wait(time) => {
                    match self.waits {
                        true => tokio::time::sleep(time).await,
                        false => self.say(&format!("(it would wait for {} s)", time.as_secs())),
                    }
                    Answer::Done
                }
                Request::Boot(plan) => return Ok(Came::Boot(plan)),
                Request::Exit(code) => return Ok(Came::Exit(code)),
                Request::Shell => return Ok(Came::Shell),
                Request::Reboot => return Ok(Came::Reboot),
                Request::PowerOff => return Ok(Came::PowerOff),
                Request::Failed(_) if self.has_no_script => return Ok(Came::LocalDisk),
                Request::Failed(why) => return Err(anyhow!("the boot script failed: {}", secrets::text(&why))),
            };
        }
    }

    /// All that a plan in JSON names.
    async fn look_at(&mut self, plan: Plan) -> anyhow::Result<Came> {
        let initrds = plan.initrds.iter().map(|initrd| (initrd.image, initrd.url.as_str()));
        for (image, url) in std::iter::once((plan.kernel, plan.url.as_str())).chain(initrds) {
            let target = Target::read(url).map_err(|why| anyhow!(why))?;
            let peeked = self
                .client
                .peek(&target, &[])
                .await
                .with_context(|| target.to_string())?;
            let seen = Seen::of(peeked.total, &peeked.head);
            let form = Vec::new();
            self.found.insert(image, Found { target, form, seen });
        }
        Ok(Came::Boot(plan))
    }

    async fn look(&mut self, image: usize, url: &str, form: Vec<(String, String)>) -> Answer {
        let target = match Target::read(url) {
            Ok(target) => target,
            Err(why) => return Answer::Failed(why),
        };
        let peeked = match self.client.peek(&target, &form).await {
            Ok(peeked) => peeked,
            Err(error) => {
                self.has_no_script = matches!(error, FetchError::Absent(_)) && is_of_one_machine(url);
                return Answer::Failed(error.to_string());
            }
        };
        self.has_no_script = false;
        tracing::debug!(%target, bytes = peeked.total, "found");
        let found = peeked.target.as_str().to_owned();
        let seen = Seen::of(peeked.total, &peeked.head);
        // Those that the script freed, or that gave way to others of their names.
        self.found.retain(|number, _| self.interpreter.has(*number));
        if is_script(&peeked.head) {
            // It may be named for a kernel, as a plain file or by mistake.
            let kept = Found {
                target: target.clone(),
                form: form.clone(),
                seen,
            };
            self.found.insert(image, kept);
            self.master = given_by_master(&peeked).or(self.master.take());
            return match whole_script(&self.client, peeked, &target, &form).await {
                Ok(bytes) => Answer::Fetched {
                    url: Some(found),
                    bytes,
                },
                Err(error) => Answer::Failed(error.to_string()),
            };
        }
        let no_kernel = seen.no_kernel().map(str::to_owned);
        self.found.insert(image, Found { target, form, seen });
        let url = Some(found);
        match no_kernel {
            Some(why) => Answer::NoKernel { url, why },
            None => Answer::Fetched { url, bytes: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::load::tests::{WHOLE, serve, session};
    use super::*;
    use crate::formats::boot_image::tests::bzimage;

    #[tokio::test]
    async fn what_the_script_freed_is_not_kept() {
        let script =
            b"#!ipxe\n:start\ninc n\nimgfetch linux\nimgfree\niseq ${n} 50 || goto start\nkernel linux\nboot\n";
        let files = HashMap::from([("/boot.ipxe", script.to_vec()), ("/linux", bzimage())]);
        let mut session = session(&serve(files, WHOLE).await).await;
        let Ok(Came::Boot(plan)) = session.next(None).await else {
            panic!("{:?}", session.said)
        };
        assert!(session.found(plan.kernel).is_some());
        assert_eq!(session.found.len(), 1);
    }

    #[tokio::test]
    async fn a_url_that_is_a_kernel_is_what_is_started() {
        let base = serve(HashMap::from([("/boot.ipxe", bzimage())]), WHOLE).await;
        let mut session = session(&base).await;
        let Ok(Came::Boot(plan)) = session.next(None).await else {
            panic!("{:?}", session.said)
        };
        assert_eq!(
            (plan.url, plan.command_line),
            (format!("{base}/boot.ipxe"), String::new())
        );
        assert!(plan.initrds.is_empty());
    }

    #[tokio::test]
    async fn a_machine_that_is_installed_is_left_to_its_disk() {
        let chain = |url: &str| format!("#!ipxe\nchain {url}\n").into_bytes();
        let of_one = "/v2/infra-envs/1/downloads/files?file_name=ipxe-script&mac=1";
        let files = HashMap::from([("/boot.ipxe", chain(of_one))]);
        let mut installed = session(&serve(files, WHOLE).await).await;
        assert!(matches!(installed.next(None).await, Ok(Came::LocalDisk)));
        // Anything else that is missing is a fault, and what the script does about it counts.
        let files = HashMap::from([("/boot.ipxe", chain("/gone.ipxe?mac=1"))]);
        assert!(session(&serve(files, WHOLE).await).await.next(None).await.is_err());
        let script = format!("#!ipxe\nchain {of_one} || exit 3\n").into_bytes();
        let files = HashMap::from([("/boot.ipxe", script)]);
        let mut handled = session(&serve(files, WHOLE).await).await;
        assert!(matches!(handled.next(None).await, Ok(Came::Exit(3))));
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_plan_in_json_is_fetched_with_its_sums() {
        use super::super::load;
        let hex = |bytes: &[u8]| -> String {
            use sha2::Digest;
            let sum = sha2::Sha256::digest(bytes);
            sum.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        for (initrd, is_right) in [(&b"070701one"[..], true), (b"070701two", false)] {
            let sums = format!(r#"{{"linux":"{}","i.img":"{}"}}"#, hex(&bzimage()), hex(b"070701one"));
            let plan = format!(r#"{{"kernel":"linux","initrds":["i.img"],"cmdline":"a=b","sha256":{sums}}}"#);
            let files = HashMap::from([
                ("/boot.ipxe", plan.into_bytes()),
                ("/linux", bzimage()),
                ("/i.img", initrd.to_vec()),
            ]);
            let mut session = session(&serve(files, WHOLE).await).await;
            let Ok(Came::Boot(plan)) = session.next(None).await else {
                panic!("{:?}", session.said)
            };
            assert_eq!(plan.command_line, "a=b");
            let sums = session.sums(&[]);
            assert_eq!(sums.len(), 2);
            let came = load::fetch(&session, &plan, &sums, &|| None).await;
            let why = came.err();
            assert_eq!(why.is_none(), is_right, "{why:?}");
            assert!(why.is_none_or(|why| why.starts_with("i.img: it has another SHA-256 than it should")));
            // There is no other way than the one.
            assert!(matches!(session.next(Some("no".to_owned())).await, Ok(Came::Exit(0))));
        }
    }
}
